"""The child: opens one file behind every fence there is, and says in lines of JSON how far it is and how it ended."""

from __future__ import annotations

import contextlib
import importlib
import json
import pkgutil
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tasks import children, disk, logs
from tasks.decode import cover, forms, sandbox, tracks
from tasks.decode.encode import encode
from tasks.decode.facts import UNDECODABLE, Facts, Sound, Track, clean_tags, container_name
from tasks.decode.faults import FULL, must_be_readable, why
from tasks.decode.peaks import Peaks
from tasks.decode.samples import BYTES_PER_SECOND, SAMPLE_RATE, frames, mono_16k
from tasks.errors import StenoboxError

FORMATS = "wav,mp3,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,flac,aac,aiff,asf,avi,flv,mpegts,caf,amr,w64"
"""Containers of real media. Playlists, concat scripts and session descriptions, which name other files, are not."""

_TELLING = ("flac", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "aiff", "caf", "w64")
"""Containers whose header says how long the sound is; for the others libav only estimates."""


def main() -> None:
    children.die_with_parent()
    logs.begin("decode")
    task = json.loads(sys.argv[1])
    most = max(BYTES_PER_SECOND, forms.BYTES_PER_SECOND) if task["form"] else BYTES_PER_SECOND
    sandbox.enter(task["deadline"], int((task["max_seconds"] + 60) * most))
    source = Path(task["source"])
    try:
        answer = _do(task)
        if answer.damaged:
            must_be_readable(source)
    except Exception as error:
        found = why(error, source)
        say(error=[found.code, found.message])
    else:
        say(sound=asdict(answer))


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def _do(task: dict[str, Any]) -> Sound:
    source, target, extras = (Path(task[name]) if task[name] else None for name in ("source", "target", "extras"))
    assert source is not None
    assert target is not None
    chosen = {name: task[name] for name in ("max_seconds", "track", "language", "spare_bytes")}
    if task["form"]:
        return extract(source, target, task["form"], task["bitrate"], **chosen)
    return hear(source, target, **chosen, extras=extras)


@contextlib.contextmanager
def opened(source: Path) -> Iterator[Any]:
    """The file as libav's container. It gets an open descriptor and no protocol to open anything else with.

    Raises StenoboxError undecodable.
    """
    av = _whole_av()
    with open(source, "rb") as file:
        options = {
            "fd": str(file.fileno()),
            "protocol_whitelist": "fd",
            "format_whitelist": FORMATS,
            "max_pixels": str(cover.MOST_PIXELS),
        }
        try:
            with sandbox.no_new_files(but=1):
                container = av.open("fd:", options=options, metadata_errors="replace")
        except (av.FFmpegError, ValueError):
            raise StenoboxError("undecodable", UNDECODABLE) from None
        with container:
            yield container


def _whole_av() -> Any:
    """PyAV with all its modules and what it uses: those it imports when first needed could not be opened then."""
    import av
    import numpy  # noqa: F401

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name != "av.__main__":
            importlib.import_module(module.name)
    av.logging.set_level(av.logging.PANIC)
    return av


def hear(
    source: Path,
    target: Path,
    max_seconds: float,
    track: int | None = None,
    language: str | None = None,
    extras: Path | None = None,
    spare_bytes: int = 0,
) -> Sound:
    """Write the samples of one track to target. extras: folder for peaks.json and cover.jpg, None for neither;
    spare_bytes: of the disk, to be left free."""
    with opened(source) as container, open(target, "wb") as file:
        number, stream = tracks.choose(container, track, language)
        picture = cover.find(container) if extras else None
        drawn: list[bytes | None] = []

        def draw(packet: Any) -> None:
            if not drawn:
                drawn.append(cover.draw(packet))

        _only(container, stream, picture)
        damage: list[str] = []
        peaks = Peaks(SAMPLE_RATE)
        meter = Meter(container, max_seconds, Room(target.parent, spare_bytes))
        meter.must_fit(BYTES_PER_SECOND)
        with sandbox.no_new_files():
            for block in mono_16k(container, frames(container, stream, damage, picture, draw)):
                file.write(block.tobytes())
                peaks.add(block)
                meter.add(len(block))
        if not meter.samples:
            raise StenoboxError("undecodable", UNDECODABLE)
        found = facts(container, stream, number)
        if extras:
            (extras / "peaks.json").write_bytes(peaks.as_json())
            if drawn and drawn[0]:
                (extras / "cover.jpg").write_bytes(drawn[0])
                found = replace(found, cover=True)
        seconds = meter.samples / SAMPLE_RATE
        return Sound(
            seconds=seconds,
            damaged=bool(damage) or cut_short(container, stream, source, seconds),
            peak=peak(),
            facts=found,
        )


def extract(
    source: Path,
    target: Path,
    form: str,
    bitrate: int | None,
    max_seconds: float,
    track: int | None = None,
    language: str | None = None,
    spare_bytes: int = 0,
) -> Sound:
    """Write one track to target in another form (see `forms`). spare_bytes: as for `hear`."""
    with opened(source) as container, open(target, "wb") as file:
        number, stream = tracks.choose(container, track, language)
        _only(container, stream)
        damage: list[str] = []
        meter = Meter(container, max_seconds, Room(target.parent, spare_bytes))
        meter.must_fit(0)  # how much it will be depends on the form
        with sandbox.no_new_files():
            tags = clean_tags(container.metadata)
            for seconds in encode(file, form, bitrate, frames(container, stream, damage), tags):
                meter.add(seconds * SAMPLE_RATE)
        if not meter.samples:
            raise StenoboxError("undecodable", UNDECODABLE)
        seconds = meter.samples / SAMPLE_RATE
        harmed = bool(damage) or cut_short(container, stream, source, seconds)
        return Sound(seconds=seconds, damaged=harmed, peak=peak(), facts=facts(container, stream, number))


def _only(container: Any, *kept: Any) -> None:
    """Have libav drop the packets of all other tracks as early as it can."""
    from av.stream import Discard

    indexes = {stream.index for stream in kept if stream is not None}
    for stream in container.streams:
        if stream.index not in indexes:
            stream.discard = Discard.all


@dataclass(frozen=True, slots=True)
class Room:
    """What may be written of a disk: all but `spare` bytes, which others of the box need."""

    folder: Path
    spare: int

    @property
    def left(self) -> int:
        return disk.room(self.folder, self.spare)


class Meter:
    """Counts samples, tells of progress, and stops at the limit, whatever the header says, or when room runs out."""

    LOOK_SECONDS = 60
    """Of sound, 11.5 MB at most, between two looks at the disk."""

    def __init__(self, container: Any, max_seconds: float, room: Room) -> None:
        self.samples = 0.0
        self._room = room
        self._looked = 0.0
        self._most = max_seconds
        self._duration = (container.duration or 0) / 1e6
        self._telling = container.format.name in (*_TELLING, "wav")
        self._told = 0
        if self._duration > max_seconds * 2:  # a header can lie a little; a clear excess needs no decoding
            raise too_long(max_seconds)

    def must_fit(self, bytes_per_second: int) -> None:
        """Before anything is written: raises StenoboxError disk_full when it is known that there is no room for all."""
        needed = int(min(self._duration, self._most) * bytes_per_second) if self._telling else 0
        if needed > (left := self._room.left):
            raise StenoboxError(
                "disk_full",
                f"There is no room for this recording: {needed / 1e6:,.0f} MB once it is read, and "
                f"{max(0, left) / 1e6:,.0f} MB of the disk of this box may be used. Delete some jobs, and try again.",
            )

    def add(self, samples: float) -> None:
        """samples: at 16 kHz. Raises StenoboxError too_long, disk_full."""
        self.samples += samples
        seconds = self.samples / SAMPLE_RATE
        if seconds > self._most:
            raise too_long(self._most)
        if seconds - self._looked >= self.LOOK_SECONDS:
            self._looked = seconds
            if self._room.left < 0:
                raise StenoboxError("disk_full", FULL)
        percent = int(100 * min(1.0, seconds / self._duration)) if self._duration else 0
        if percent > self._told:
            self._told = percent
            say(progress=percent / 100)


def facts(container: Any, stream: Any, number: int) -> Facts:
    """What the file says of itself. Codecs are asked after decoding, when what they found counts."""
    listed = tracks.list_tracks(container)
    heard: Track = tracks.describe(stream, number)
    listed[number - 1] = heard
    rate = stream.codec_context.bit_rate or (container.bit_rate if len(container.streams) == 1 else None)
    return Facts(
        container=container_name(container.format.name, container.metadata),
        codec=heard.codec,
        channels=heard.channels,
        sample_rate=heard.sample_rate,
        bit_rate=rate if rate and 0 < rate < 2**40 else None,
        track=number,
        tracks=listed,
        tags=clean_tags(stream.metadata | container.metadata if len(listed) == 1 else container.metadata),
    )


def peak() -> int:
    """The most memory this process has held, in bytes."""
    with contextlib.suppress(OSError):  # not Linux
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Not on Linux, where this begins with what the parent held when it started us.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def too_long(max_seconds: float) -> StenoboxError:
    most = f"{max_seconds / 60:.0f} minutes" if max_seconds >= 120 else f"{max_seconds:.0f} seconds"
    return StenoboxError(
        "too_long",
        f"The recording is longer than {most}, the most this box takes. "
        "Cut it into parts, or ask the operator to raise the limit on the Limits page.",
    )


def cut_short(container: Any, stream: Any, source: Path, seconds: float) -> bool:
    """Whether clearly less sound came out than the file's own header promises, as after an interrupted transfer."""
    name = container.format.name
    if name == "wav":  # libav believes the file's size instead; recorders that stream claim 0, 2 or 4 GB
        with open(source, "rb") as file:
            claimed = int.from_bytes(file.read(8)[4:], "little") + 8
        return source.stat().st_size + 1024 < claimed < 2**31 - 2**16
    if name not in _TELLING and not (name == "mp3" and container.start_time):  # an MP3 with LAME's header
        return False
    if stream.duration:
        promised = float(stream.duration * stream.time_base)
    else:  # the whole file's length; a picture may go on after the sound
        promised = (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0
    return promised - seconds > max(0.5, promised / 100)


if __name__ == "__main__":
    main()
