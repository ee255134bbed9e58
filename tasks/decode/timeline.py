"""When each frame of a track is heard: by its timestamp where that can be believed, so that what is missing leaves
silence and all that follows stays at its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TOLERANCE = 0.05
"""Seconds by which a timestamp may be ahead of the samples: less is rounding, and jitter of what wrote the file."""
BACK = 1.0
"""A clock that goes back by more than so many seconds begins anew."""
DOUBT = 1.0
"""A jump of more than so many seconds counts only when the frames after it stand by it."""
WITNESSES = 0.5
"""Seconds of frames that have to."""
STREAM_JUMP = 300.0
"""Seconds: in a stream of broadcasts a clock that jumps by more is another clock."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A packet that gave no sound. harmed: it is damage; else a pause that the codec marks so."""

    seconds: float
    harmed: bool


@dataclass(slots=True)
class Story:
    """What became of a track's time. missing, harmed: seconds of silence that stand for what isn't there and for what
    can't be read; places: how many holes there are where nothing is; last: where the last of them ends; lost: seconds
    of packets that can't be read; broken: the container ends in something that can't be read; doubted: a timestamp was
    not believed; position: seconds so far; heard: frames there were; sounded: one of them gave samples."""

    missing: float = 0.0
    harmed: float = 0.0
    places: int = 0
    last: float = 0.0
    lost: float = 0.0
    broken: bool = False
    doubted: bool = False
    position: float = 0.0
    heard: int = 0
    sounded: bool = False


@dataclass(frozen=True, slots=True)
class Clock:
    """What a container's timestamps count from and are worth. origin: seconds where the recording begins, None for the
    first frame's; most: seconds that the whole may take; stamped: they come from the file, while counted ones say only
    where it begins; stream: they may begin anew."""

    origin: float | None
    most: float
    stamped: bool
    stream: bool


def place(items: Iterator[Any], clock: Clock, story: Story) -> Iterator[tuple[float, Any]]:
    """Frames, each with the seconds of silence before it; a last None with the silence at the end.

    items: frames, and Lost for packets that gave none.
    """
    # From here on: story.position = timestamp - base.
    base = None if clock.origin is None else clock.origin - story.position
    previous: float | None = None
    owed, harmed = 0.0, False
    waiting: deque[Any] = deque()
    source = iter(items)
    while True:
        item = waiting.popleft() if waiting else next(source, None)
        if item is None:
            break
        if isinstance(item, Lost):
            owed += item.seconds
            harmed = harmed or item.harmed
            story.lost += item.seconds if item.harmed else 0
            continue
        length = item.samples / item.sample_rate
        gap, time = 0.0, item.time if clock.stamped or not story.heard else None
        if time is None:
            gap = owed if story.position + owed <= clock.most else 0.0
        elif base is None:
            base = time - story.position
        else:
            gap = time - base - story.position
            back = previous is not None and time < previous - BACK
            if (back or gap > DOUBT) and not _stand_by(item, base + story.position, source, waiting):
                gap, time = 0.0, previous
                story.doubted = True
            elif back:  # another clock, or the same one from its beginning
                base, gap = time - story.position - owed, owed
            elif story.position + gap > clock.most or (previous is not None and clock.stream and gap > STREAM_JUMP):
                base, gap = time - story.position, 0.0
                story.doubted = True
        if gap > TOLERANCE:
            _tell(story, gap, owed, harmed)
            story.position += gap
        else:
            gap = 0.0
        owed, harmed = 0.0, False
        previous = None if time is None else time + length
        story.position += length
        story.heard += 1
        yield gap, item
    if story.heard and owed > TOLERANCE and story.position + owed <= clock.most:
        _tell(story, owed, owed, harmed)
        story.position += owed
        yield owed, None


def _stand_by(frame: Any, expected: float, source: Iterator[Any], waiting: deque[Any]) -> bool:
    """Whether the frames after this one go on from its own time, not from where it was expected. Those taken to see
    wait."""
    seen = frame.samples / frame.sample_rate
    for item in [*waiting, *_more(source, waiting)]:
        if isinstance(item, Lost) or item.time is None:
            continue
        if abs(item.time - expected - seen) < abs(item.time - frame.time - seen):
            return False
        seen += item.samples / item.sample_rate
        if seen >= WITNESSES:
            break
    return True


def _more(source: Iterator[Any], waiting: deque[Any]) -> Iterator[Any]:
    seconds = sum(item.samples / item.sample_rate for item in waiting if not isinstance(item, Lost))
    while seconds < WITNESSES and len(waiting) < 1000 and (item := next(source, None)) is not None:
        waiting.append(item)
        seconds += 0 if isinstance(item, Lost) else item.samples / item.sample_rate
        yield item


def _tell(story: Story, gap: float, owed: float, harmed: bool) -> None:
    """owed: seconds of the gap in which packets came that gave no sound."""
    if not story.heard:
        return  # it begins late: nothing is missing
    if harmed:
        story.harmed += min(gap, owed)
    if (missing := gap - owed) > TOLERANCE:
        story.missing += missing
        story.last = story.position + gap
        story.places += 1
