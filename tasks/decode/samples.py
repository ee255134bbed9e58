"""From packets to samples of one rate, in their place in time: what can't be read is silence, as long as it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tasks.decode.timeline import Lost, Story

SAMPLE_RATE = 16_000
BYTES_PER_SECOND = SAMPLE_RATE * 4
MOST_CHANNELS = 8
"""Above, libav mixes them before anybody looks at each."""

_BLOCK_SECONDS = 10
_RESTARTS = 1_000
_BARE = ("mp3", "aac", "ac3", "eac3", "dts", "loas")
"""Containers that are only frames one after the other, found by what they begin with."""
_PAUSES = {"amrnb": (8, 9, 10, 11, 12, 13, 14, 15), "amrwb": (9, 14, 15)}
"""Types of frames in which nobody speaks or nothing came: libav refuses them."""
LONGEST_PACKET = 10.0
"""Seconds that one packet may say it takes."""


def frames(
    container: Any, stream: Any, story: Story, picture: Any = None, on_picture: Callable[[Any], None] | None = None
) -> Iterator[Any]:
    """Decoded frames of one audio track, and Lost for each packet that gives none. on_picture: gets the packets of
    picture, a track that comes along."""
    restarts, came, pace = 0, True, _Pace(container, stream)
    packets = _packets(container, stream, picture)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except MemoryError:
            raise
        except Exception as error:
            # PyAV trips over tracks that appear in the middle of a file, and libav over bytes that it can pass.
            if not isinstance(error, IndexError):
                story.broken = True
            if not came or restarts == _RESTARTS:
                return
            packets, came, restarts = _packets(container, stream, picture), False, restarts + 1
            continue
        if packet.size:
            came = True
        if picture is not None and packet.stream.index == picture.index:
            if on_picture is not None:
                on_picture(packet)
            continue
        try:
            found = packet.decode()
        except EOFError:  # it had been emptied before
            continue
        except MemoryError:
            raise
        except Exception:
            yield pace.lost(packet)
        else:
            pace.heard(packet, found)
            yield from found


def _packets(container: Any, stream: Any, picture: Any) -> Iterator[Any]:
    found: Iterator[Any] = container.demux(stream) if picture is None else container.demux(stream, picture)
    return found


class _Pace:
    """How much time a packet stands for that gives no sound."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._bare = container.format.name in _BARE
        self._pauses = _PAUSES.get(stream.codec_context.name, ()) if stream.codec_context else ()
        self._bytes = self._packets = 0
        self._seconds = 0.0

    def heard(self, packet: Any, frames: list[Any]) -> None:
        self._bytes += packet.size
        self._packets += 1
        self._seconds += sum(frame.samples / frame.sample_rate for frame in frames)

    def lost(self, packet: Any) -> Lost:
        head = bytes(packet)[:1] if self._pauses else b""
        pause = bool(head) and (head[0] >> 3 & 15) in self._pauses
        seconds = float(packet.duration * packet.time_base) if packet.duration and packet.time_base else 0.0
        seconds = min(seconds, LONGEST_PACKET)
        if self._bare and self._seconds and packet.size > 3 * self._bytes / self._packets:
            # Frames that can't be told from each other any more: their bytes took as long as others did.
            seconds = (packet.size - _tagged(bytes(packet))) * self._seconds / self._bytes
        return Lost(seconds, not pause)


def _tagged(data: bytes) -> int:
    """Bytes of an ID3 tag in the middle: there one file begins after another."""
    at = data.find(b"ID3")
    if at < 0 or len(data) < at + 10 or max(data[at + 6 : at + 10]) > 127:
        return 0
    size = sum(byte << shift for byte, shift in zip(data[at + 6 : at + 10], (21, 14, 7, 0), strict=True))
    return min(len(data), size + 10)


def resampled(
    placed: Iterator[tuple[float, Any]], rate: int, story: Story, layout: str | None = None
) -> Iterator[tuple[Any, Any]]:
    """Arrays of float32 samples, a row a channel, with the layout they are in. layout: libav's name for what all is
    mixed to; None to keep the channels, up to MOST_CHANNELS."""
    yield from _Resampling(rate, story, layout).run(placed)


class _Resampling:
    """One libav resampler after the other: a stream may change its shape, a resampler may not."""

    def __init__(self, rate: int, story: Story, layout: str | None) -> None:
        import av

        self._rate = rate
        self._story = story
        self._layout = layout
        self._kept: Any = av.AudioLayout(layout or "mono")
        self._resampler: Any = None
        self._shape: Any = None

    def run(self, placed: Iterator[tuple[float, Any]]) -> Iterator[tuple[Any, Any]]:
        """Silence is counted in what was written so far, so that no rounding adds up."""
        written, position, behind = 0, 0.0, False
        for gap, frame in placed:
            blocks: list[Any] = []
            if gap or behind:
                for block in self._flush():
                    written += block.shape[1]
                    yield self._kept, block
                position += gap
                for block in _silence(round(position * self._rate) - written, self._kept.nb_channels, self._rate):
                    written += block.shape[1]
                    yield self._kept, block
                behind = False
            if frame is None:
                break
            seconds = frame.samples / frame.sample_rate
            position += seconds
            seen = (frame.format.name, frame.layout.name, frame.sample_rate)
            if seen != self._shape:
                for block in self._flush():
                    written += block.shape[1]
                    yield self._kept, block
            frame.pts = None  # timestamps of broken files upset the resampler; they have been read before
            try:
                if seen != self._shape:
                    self._begin(frame, seen)
                blocks = _blocks(self._resampler, frame)
                self._story.sounded = True
            except MemoryError:
                raise
            except Exception:  # channels that nobody can mix, and the like
                self._story.lost += seconds
                behind, self._resampler, self._shape = True, None, None
            for block in blocks:
                written += block.shape[1]
                yield self._kept, block
        for block in self._flush():
            yield self._kept, block

    def _begin(self, frame: Any, shape: Any) -> None:
        import av

        wanted = self._layout or (frame.layout if frame.layout.nb_channels <= MOST_CHANNELS else "mono")
        self._kept = wanted if isinstance(wanted, av.AudioLayout) else av.AudioLayout(wanted)
        self._resampler, self._shape = av.AudioResampler(format="flt", layout=wanted, rate=self._rate), shape

    def _flush(self) -> list[Any]:
        rest = [] if self._resampler is None else _blocks(self._resampler, None)
        self._resampler = self._shape = None
        return rest


def _blocks(resampler: Any, frame: Any) -> list[Any]:
    """Interleaved first: of eight planes and more PyAV knows where some are not."""
    return [
        out.to_ndarray().astype("<f4", copy=False).reshape(-1, out.layout.nb_channels).T
        for out in resampler.resample(frame)
    ]


def _silence(samples: int, channels: int, rate: int) -> Iterator[Any]:
    import numpy as np

    while samples > 0:
        count = min(samples, _BLOCK_SECONDS * rate)
        yield np.zeros((channels, count), "<f4")
        samples -= count
