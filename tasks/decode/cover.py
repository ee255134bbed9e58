"""A recording's picture, drawn anew: what is kept is a small JPEG of ours, never bytes of the file."""

from __future__ import annotations

from typing import Any

from tasks.decode.tracks import has

MOST_PIXELS = 40_000_000
"""A picture in a file of a few kilobytes may unfold to gigabytes; 8K film has 33 million."""
SIDE = 320
"""Longer side of what is kept."""


def find(container: Any) -> Any:
    """The track that holds the picture, None without one."""
    for stream in container.streams.video:
        if has(stream, "attached_pic") and stream.codec_context is not None:
            stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
            return stream
    return None


def draw(packet: Any) -> bytes | None:
    """The picture as a JPEG of up to 320 × 320 pixels; None when it can't be read."""
    import av

    try:
        for frame in packet.decode():
            scale = min(1.0, SIDE / max(frame.width, frame.height))
            width, height = (max(2, round(side * scale) // 2 * 2) for side in (frame.width, frame.height))
            small = frame.reformat(width=width, height=height, format="yuvj420p")
            small.pts = None
            encoder: Any = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = 1
            return b"".join(bytes(part) for part in [*encoder.encode(small), *encoder.encode(None)])
    except (av.FFmpegError, ValueError, MemoryError):
        return None
    return None
