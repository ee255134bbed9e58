"""One file as libav reads it: opened behind whitelists, as often as there are tracks to hear, and what its header is
worth."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tasks.decode import cover, kinds, sandbox, window
from tasks.decode.samples import frames
from tasks.decode.timeline import Clock, Story, place
from tasks.errors import StenoboxError

_TELLING = ("flac", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "aiff", "caf", "w64", "wav")
"""Containers whose header says how long the sound is; for the others libav only estimates."""
_LEAST_BYTES = 20
"""A second of sound, at the least: FLAC's silence takes 50."""
_COUNTED = ("avi", "wav", "mp3", "aac", "amr", "ac3", "eac3", "aiff", "w64", "gsm", "au")
"""Containers without times: what libav gives for one counts bytes or frames, and AVI's is wrong where rates vary."""
_STREAMS = ("mpegts", "mpeg")
"""Containers of broadcasts, whose clock may be set anew in the middle."""


class Recording:
    """A file that is open. Raises StenoboxError undecodable when it is none that libav may read."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._size = os.fstat(self._descriptor).st_size
        self.stretches: list[tuple[int, int]] = []
        self._options: dict[str, str] = {}
        self._taken = False
        self.main = self._find()
        if kinds.looks_encrypted(self._descriptor):
            self.main.close()
            raise StenoboxError("undecodable", kinds.ENCRYPTED)

    def _find(self) -> Any:
        for start in window.entrances(self._descriptor):
            lengthless = window.claims_too_little(self._descriptor, start, self._size)
            self._options = {"ignore_length": "1"} if lengthless else {}
            self.stretches = window.links(self._descriptor, start, self._size)
            with contextlib.suppress(StenoboxError):
                return self.open(0)
        raise StenoboxError("undecodable", kinds.refusal(self._descriptor))

    def open(self, number: int) -> Any:
        """A stretch of it as a container of its own."""
        import av

        view = window.Window(self._descriptor, *self.stretches[number])
        options = self._options | {
            "protocol_whitelist": "none",
            "format_whitelist": kinds.FORMATS,
            "max_pixels": str(cover.MOST_PIXELS),
        }
        try:
            container = av.open(view, options=options, metadata_errors="replace")
        except TimeoutError:
            raise StenoboxError("undecodable", kinds.TOO_MUCH) from None
        except MemoryError:
            raise
        except Exception:  # of libav, or what PyAV makes of a broken header
            raise StenoboxError("undecodable", kinds.damaged()) from None
        view.until = None
        return container

    def fresh(self, stack: contextlib.ExitStack) -> Any:
        """A container that nobody has read from. It is closed with the stack."""
        if not self._taken:
            self._taken = True
            return self.main
        return stack.enter_context(self.open(0))

    def refusal(self) -> str:
        """What a person is told when there is no sound in it."""
        return kinds.refusal(self._descriptor)

    def listen(
        self,
        stream: Any,
        number: int,
        most: float,
        story: Story,
        picture: Any = None,
        on_picture: Callable[[Any], None] | None = None,
    ) -> Iterator[tuple[float, Any]]:
        """Frames of an audio track (see `timeline.place`), through all stretches. stream: the track in a container of
        the first one; number: it is among them, from 0."""
        yield from self._stretch(stream, most, story, picture, on_picture)
        for following in range(1, len(self.stretches)):
            try:
                container = self.open(following)
            except StenoboxError:
                story.broken = True
                continue
            with container:
                streams = container.streams.audio
                if streams:
                    yield from self._stretch(streams[min(number, len(streams) - 1)], most, story)

    def _stretch(self, stream: Any, most: float, story: Story, *picture: Any) -> Iterator[tuple[float, Any]]:
        container = stream.container
        only(container, stream, *picture[:1])
        start = container.start_time
        clock = Clock(
            origin=None if start is None else start / 1e6,
            most=most,
            stamped=container.format.name not in _COUNTED,
            stream=container.format.name in _STREAMS,
        )
        yield from place(frames(container, stream, story, *picture), clock, story)

    def told(self, container: Any) -> float | None:
        """Seconds that the header says the whole is long; None where libav only estimates that."""
        if container.format.name not in _TELLING or not container.duration:
            return None
        if self._options or len(self.stretches) > 1:
            return None
        seconds: float = (container.duration - max(0, container.start_time or 0)) / 1e6  # Matroska tells its end
        if seconds * _LEAST_BYTES > self._size:  # a clock went wrong while it was written
            return None
        if container.format.name == "wav" and (rate := container.streams[0].codec_context.bit_rate):
            return float(min(seconds, 8 * self._size / rate))
        return seconds

    def cut_short(self, container: Any, stream: Any, story: Story) -> bool:
        """Whether it clearly ends before its own header says, as after an interrupted transfer."""
        if story.doubted or self._options or len(self.stretches) > 1:
            return False
        if container.format.name == "wav":  # libav believes the file's size; recorders that stream claim 0, 2 or 4 GB
            start, end = self.stretches[0]
            claimed = int.from_bytes(os.pread(self._descriptor, 8, start)[4:], "little") + 8
            return end - start + 1024 < claimed < 2**31 - 2**16
        lame = container.format.name == "mp3" and container.start_time  # its header says how many frames there are
        if container.format.name not in _TELLING and not lame:
            return False
        origin = (container.start_time or 0) / 1e6
        if stream.duration:
            promised = float((max(stream.start_time or 0, 0) + stream.duration) * stream.time_base) - max(0, origin)
        else:  # the whole file's length; a picture may go on after the sound
            promised = (self.told(container) or 0.0) if len(container.streams) == 1 else 0.0
        return promised - story.position > max(0.5, promised / 100)


@contextlib.contextmanager
def opened(source: Path) -> Iterator[Recording]:
    """The file; while it is open nothing else can be opened. Raises StenoboxError undecodable."""
    whole_av()
    with open(source, "rb") as file, sandbox.no_new_files():
        recording = Recording(file)
        with recording.main:
            yield recording


def whole_av() -> Any:
    """PyAV with all its modules and what it uses: those it imports when first needed could not be opened then."""
    import av
    import numpy  # noqa: F401

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name != "av.__main__":
            importlib.import_module(module.name)
    av.logging.set_level(av.logging.PANIC)
    return av


def only(container: Any, *kept: Any) -> None:
    """Have libav drop the packets of all other tracks as early as it can."""
    from av.stream import Discard

    indexes = {stream.index for stream in kept if stream is not None}
    for stream in container.streams:
        if stream.index not in indexes:
            stream.discard = Discard.all
