"""Sound out of a recording as a file that players know: MP3, Opus, WAV or FLAC, written as it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasks.decode.forms import FORMS, MOST_RATE, Form

LAYOUTS = {1: "mono", 2: "stereo"}
_MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def rate_for(form: Form, rate: int) -> int:
    """Samples a second to write: those of the source, as far as the codec and the limit allow."""
    if form.name == "opus":
        return 48_000
    wanted = min(max(rate, 8_000), MOST_RATE)
    return next(known for known in _MP3_RATES if known >= wanted) if form.name == "mp3" else wanted


def encode(
    file: Any, name: str, bitrate: int | None, blocks: Iterator[Any], rate: int, channels: int, tags: dict[str, str]
) -> Iterator[float]:
    """Write samples to an open file; yields the seconds of each block. bitrate: bits a second; blocks: arrays of
    floats, a row a channel, at the rate that `rate_for` names."""
    import av
    import numpy as np

    form, layout = FORMS[name], LAYOUTS[channels]
    with av.open(file, "w", format=form.container, options=form.options) as container:
        container.metadata.update({key: tags[key] for key in ("title", "artist", "album", "date") if key in tags})
        stream: Any = container.add_stream(form.codec, rate=rate, layout=layout)
        if form.bitrates:
            stream.bit_rate = bitrate or form.default_bitrate
        resampler = _resampler(stream)
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
            frame.sample_rate = rate
            _write(container, stream, resampler.resample(frame))
            yield block.shape[1] / rate
        _write(container, stream, resampler.resample(None))
        container.mux(stream.encode(None))


def _resampler(stream: Any) -> Any:
    import av

    context = stream.codec_context
    return av.AudioResampler(format=context.format.name, layout=context.layout.name, rate=context.sample_rate)


def _write(container: Any, stream: Any, frames: list[Any]) -> None:
    for frame in frames:
        frame.pts = None
        container.mux(stream.encode(frame))
