"""From packets to 16 kHz mono samples, leaving out what can't be read, as players do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

SAMPLE_RATE = 16_000
BYTES_PER_SECOND = SAMPLE_RATE * 4


def mono_16k(container: Any, frames: Iterator[Any]) -> Iterator[Any]:
    """Flat arrays of float32 samples."""
    import av

    resampler, shape = None, None
    for frame in frames:
        seen = (frame.format.name, frame.layout.name, frame.sample_rate)
        if seen != shape:  # a stream may change its shape; a resampler may not
            if resampler is not None:
                yield from _blocks(resampler, None)
            else:
                yield from _lead_in(container, frame)
            resampler, shape = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE), seen
        frame.pts = None  # timestamps of broken files upset the resampler; the samples are counted instead
        yield from _blocks(resampler, frame)
    if resampler is not None:
        yield from _blocks(resampler, None)


def frames(
    container: Any, stream: Any, damage: list[str], picture: Any = None, on_picture: Callable[[Any], None] | None = None
) -> Iterator[Any]:
    """Decoded frames of one audio track. damage: gets what could not be read; on_picture: gets the packets of picture,
    a track that comes along."""
    import av

    packets = container.demux(stream) if picture is None else container.demux(stream, picture)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:  # the container itself is broken from here on
            damage.append(str(error))
            return
        if picture is not None and packet.stream.index == picture.index:
            if on_picture is not None:
                on_picture(packet)
            continue
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            damage.append(str(error))


def _blocks(resampler: Any, frame: Any) -> Iterator[Any]:
    for out in resampler.resample(frame):
        yield out.to_ndarray().astype("<f4", copy=False).reshape(-1)


def _lead_in(container: Any, frame: Any) -> Iterator[Any]:
    """Silence for sound that starts later than the picture, so that word times fit what a player shows."""
    import numpy as np

    start = (container.start_time or 0) / 1e6
    with contextlib.suppress(TypeError):
        seconds = frame.time - start
        if 0.02 < seconds < 60:
            yield np.zeros(round(seconds * SAMPLE_RATE), "<f4")
