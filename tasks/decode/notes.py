"""What a person is told of a recording that isn't all there, or of which more than one track was heard."""

from __future__ import annotations

from tasks.decode.timeline import Story

DAMAGED = "Parts of the file could not be read and were left out."
HARMED = "Parts of the file could not be read: silence stands in for them."

_WORTH_SAYING = 0.3
"""Seconds that are missing in all: a word may have been there."""
_SMALL = 0.05
"""Seconds of packets that can't be read and are only the seam between two recordings, or a frame cut off."""


def damaged(story: Story, short: bool) -> bool:
    """Whether parts of the file could not be read. short: it ends before its header says."""
    return short or story.broken or story.lost > _SMALL


def of_time(story: Story, short: bool) -> list[str]:
    """What is missing, and what of it the file is to blame for."""
    notes = []
    if damaged(story, short):
        notes.append(DAMAGED if short or story.broken or story.harmed < _SMALL else HARMED)
    if story.missing >= _WORTH_SAYING:
        verb = "is" if story.missing < 1.25 else "are"
        where = f"in {story.places} places" if story.places > 1 else _where(story)
        notes.append(f"About {_seconds(story.missing)} {verb} missing {where}: silence stands in for {_it(story)}.")
    return notes


def of_tracks(asked: bool, heard: list[int], silent: list[int]) -> list[str]:
    """asked: for one, by number; heard: numbers of tracks with sound; silent: of those without that came before."""
    if asked or not heard:
        return []
    if len(heard) > 1:
        return [f"Tracks {_listed(heard)} were mixed."]
    if before := [number for number in silent if number < heard[0]]:
        tracks = f"Track {before[0]} is" if len(before) == 1 else f"Tracks {_listed(before)} are"
        return [f"{tracks} silent, so track {heard[0]} was heard."]
    return []


def _where(story: Story) -> str:
    if story.last > story.position - 1:
        return "at the end"
    return "in the middle"


def _it(story: Story) -> str:
    return "it" if story.missing < 1.25 and story.places == 1 else "them"


def _seconds(seconds: float) -> str:
    if seconds >= 90:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds:.0f} s" if seconds >= 1.25 else f"{seconds:.1f} s"


def _listed(numbers: list[int]) -> str:
    """1, 2 and 4; a long row of neighbours is told by its ends."""
    if len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
