# The CPU image, for x86-64 and ARM64. `--build-arg TORCH=cu128` makes one for a machine of your own with an NVIDIA GPU.
# Plain instructions only: hosts build this with what they have, and refuse what they don't know. Railway, for one, takes
# neither VOLUME nor cache mounts. The rules of each host are code in tests/host_rules.py, and this file goes through them.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# cpu, or a CUDA version such as cu128: uv takes torch from PyTorch's own index for it.
ARG TORCH=cpu
ENV UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/stenobox
RUN pip install --no-cache-dir "uv>=0.9,<1" && uv venv --python "$(command -v python)" "$VIRTUAL_ENV"
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# Dependencies before the code, so that a change of the code rebuilds in seconds. WhisperX asks for triton on every
# x86 Linux, also where torch has no use for it: 600 MB.
RUN if [ "$TORCH" = cpu ]; then echo triton; fi > /tmp/excludes && \
    uv pip install --torch-backend "$TORCH" --excludes /tmp/excludes -c constraints.txt -r pyproject.toml
COPY . .
RUN uv pip install --no-deps .
# A model that the image carries, for boxes without a network, and what finds the times of words in these languages:
# --build-arg MODEL=small --build-arg LANGUAGES=en,de. Stenobox writes for its own user alone, which here is root.
ARG MODEL=
ARG LANGUAGES=en
RUN mkdir -p /opt/models && if [ -n "$MODEL" ]; then \
    STENOBOX_DATA=/tmp/data "$VIRTUAL_ENV/bin/stenobox" models "$MODEL" --languages "$LANGUAGES" && \
    mv /tmp/data/models/* /opt/models/ && chmod -R a+rX /opt/models; fi

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
EXPOSE 8000
# Alive, also while it is full: a box that says 429 must not be restarted.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["healthcheck"]
# It begins as root only to own the volume, which hosts mount as root's, and ends as tini with stenobox below it, both as
# its own user; see docker/entrypoint.
ENTRYPOINT ["entrypoint"]
CMD ["serve"]
