"""The child: opens one file behind every fence there is, and says in lines of JSON how far it is and how it ended."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tasks import children, disk, logs
from tasks.decode import cover, forms, sandbox, tracks
from tasks.decode.channels import mono
from tasks.decode.encode import LAYOUTS, encode, rate_for
from tasks.decode.facts import Sound, clean_tags
from tasks.decode.faults import FULL, must_be_readable, why
from tasks.decode.forms import FORMS, MOST_CHANNELS
from tasks.decode.level import Level, lift
from tasks.decode.listening import Listened, listen, tell
from tasks.decode.mixing import added
from tasks.decode.peaks import Peaks
from tasks.decode.recording import Recording, opened
from tasks.decode.samples import BYTES_PER_SECOND, SAMPLE_RATE, resampled
from tasks.errors import StenoboxError


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


def hear(
    source: Path,
    target: Path,
    max_seconds: float,
    track: int | None = None,
    language: str | None = None,
    extras: Path | None = None,
    spare_bytes: int = 0,
) -> Sound:
    """Write the samples of the tracks that are heard to target. extras: folder for peaks.json and cover.jpg, None for
    neither; spare_bytes: of the disk, to be left free."""
    drawn: list[bytes | None] = []

    def draw(packet: Any) -> None:
        if not drawn:
            drawn.append(cover.draw(packet))

    with open(target, "wb") as file, opened(source) as recording, contextlib.ExitStack() as stack:
        tried: list[Listened] = []
        for numbers in tracks.choose(recording.main, track, language):
            heard = listen(stack, recording, numbers, max_seconds, draw if extras and not tried else None)
            meter = Meter(recording, max_seconds, Room(target.parent, spare_bytes))
            meter.must_fit(BYTES_PER_SECOND)
            peaks, level = Peaks(SAMPLE_RATE), Level()
            if tried:
                file.truncate(file.seek(0))
            for block in added([_mono(one) for one in heard]):
                file.write(block.tobytes())
                peaks.add(block)
                level.add(block)
                meter.add(len(block))
            tried += heard
            if not all(one.silent for one in heard):
                break
        told = tell(recording, tried, asked=track is not None)
    if level.gain != 1:
        lift(target, level.gain)
    found = told.facts
    if extras:
        (extras / "peaks.json").write_bytes(peaks.as_json())
        if drawn and drawn[0]:
            (extras / "cover.jpg").write_bytes(drawn[0])
            found = replace(found, cover=True)
    return Sound(meter.samples / SAMPLE_RATE, told.damaged, peak(), found, told.notes)


def _mono(one: Listened) -> Iterator[Any]:
    return one.watch(mono(resampled(one.placed, SAMPLE_RATE, one.story)))


def _arrays(one: Listened, rate: int, layout: str) -> Iterator[Any]:
    return one.watch(block for _, block in resampled(one.placed, rate, one.story, layout))


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
    """Write the tracks that are heard to target in another form (see `forms`). spare_bytes: as for `hear`."""
    with open(target, "wb") as file, opened(source) as recording, contextlib.ExitStack() as stack:
        tags = clean_tags(recording.main.metadata)
        tried: list[Listened] = []
        for numbers in tracks.choose(recording.main, track, language):
            heard = listen(stack, recording, numbers, max_seconds)
            meter = Meter(recording, max_seconds, Room(target.parent, spare_bytes))
            meter.must_fit(0)  # how much it will be depends on the form
            if tried:
                file.truncate(file.seek(0))
            tried += heard
            if shapes := [shape for one in heard if (shape := one.shape())]:
                rate = rate_for(FORMS[form], max(rate for rate, _ in shapes))
                channels = min(MOST_CHANNELS, max(channels for _, channels in shapes))
                blocks = added([_arrays(one, rate, LAYOUTS[channels]) for one in heard])
                for seconds in encode(file, form, bitrate, blocks, rate, channels, tags):
                    meter.add(seconds * SAMPLE_RATE)
            if not all(one.silent for one in heard):
                break
        told = tell(recording, tried, asked=track is not None)
    return Sound(meter.samples / SAMPLE_RATE, told.damaged, peak(), told.facts, told.notes)


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

    def __init__(self, recording: Recording, max_seconds: float, room: Room) -> None:
        self.samples = 0.0
        self._room = room
        self._looked = 0.0
        self._most = max_seconds
        self._duration = (recording.main.duration or 0) / 1e6
        self._told = 0
        self._header = recording.told(recording.main) or 0.0
        if self._header > max_seconds * 2:  # a header can lie a little; a clear excess needs no decoding
            raise too_long(max_seconds)

    def must_fit(self, bytes_per_second: int) -> None:
        """Before anything is written: raises StenoboxError disk_full when it is known that there is no room for all."""
        needed = int(min(self._header, self._most) * bytes_per_second)
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


if __name__ == "__main__":
    main()
