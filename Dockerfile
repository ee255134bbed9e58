# The CPU image. `--build-arg TORCH=cu128` makes one for a machine of your own with an NVIDIA GPU.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# cpu, or a CUDA version such as cu128: uv takes torch from PyTorch's own index for it.
ARG TORCH=cpu
ENV UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/stenobox
RUN pip install --no-cache-dir "uv>=0.9,<1" && uv venv --python "$(command -v python)" "$VIRTUAL_ENV"
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# Dependencies before the code, so that a change of the code rebuilds in seconds. WhisperX asks for triton on every
# x86 Linux, also where torch has no use for it: 600 MB.
RUN --mount=type=cache,target=/var/cache/uv \
    if [ "$TORCH" = cpu ]; then echo triton; fi > /tmp/excludes && \
    uv pip install --torch-backend "$TORCH" --excludes /tmp/excludes -c constraints.txt -r pyproject.toml
COPY . .
RUN --mount=type=cache,target=/var/cache/uv uv pip install --no-deps .
# A model that the image carries, for boxes without a network: --build-arg MODEL=small
ARG MODEL=
RUN mkdir -p /opt/models && if [ -n "$MODEL" ]; then \
    STENOBOX_DATA=/tmp/data "$VIRTUAL_ENV/bin/stenobox" models "$MODEL" && mv /tmp/data/models/* /opt/models/; fi

FROM python:${PYTHON}-slim
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* && \
    useradd --system --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin stenobox
COPY --from=build /opt/stenobox /opt/stenobox
COPY --from=build /opt/models /opt/models
COPY docker/entrypoint docker/healthcheck /usr/local/bin/
# The allocator's settings give back what a finished job held: 878 MiB became 399 with the model small.
ENV PATH=/opt/stenobox/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    STENOBOX_DATA=/data STENOBOX_HOST=0.0.0.0 \
    MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=65536
VOLUME /data
EXPOSE 8000
# Alive, also while it is full: a box that says 429 must not be restarted.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["healthcheck"]
# It begins as root only to own the volume, which hosts mount as root's; see docker/entrypoint. tini's -g passes signals to
# all of the group, so that also a `docker run` without an init stops cleanly.
ENTRYPOINT ["tini", "-g", "--", "entrypoint"]
CMD ["serve"]
