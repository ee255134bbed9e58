"""Tracks while they are heard, and what there is to say of them afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tasks.decode import cover, kinds, notes, tracks
from tasks.decode.facts import Facts, Track, clean_tags, container_name
from tasks.decode.recording import Recording
from tasks.decode.timeline import Story
from tasks.errors import StenoboxError

SILENT = 1e-4
"""The loudest sample of a track in which nobody says anything."""


class Listened:
    """One track: its frames in their time, the story of that, and how loud its loudest sample was."""

    def __init__(self, number: int, stream: Any, story: Story, placed: Iterator[tuple[float, Any]]) -> None:
        self.number = number
        self.stream = stream
        self.story = story
        self.placed = placed
        self._peak = 0.0

    @property
    def silent(self) -> bool:
        return self._peak < SILENT

    def shape(self) -> tuple[int, int] | None:
        """Rate and channels of its first frame; headers know them less well. None without one."""
        first = next(self.placed, None)
        if first is None:
            return None
        self.placed = chain([first], self.placed)
        return first[1].sample_rate, first[1].layout.nb_channels

    def watch(self, blocks: Iterator[Any]) -> Iterator[Any]:
        """Passes its samples on."""
        import numpy as np

        for block in blocks:
            self._peak = max(self._peak, float(np.abs(block).max(initial=0)))
            yield block


def listen(
    stack: contextlib.ExitStack,
    recording: Recording,
    numbers: list[int],
    most: float,
    on_picture: Callable[[Any], None] | None = None,
) -> list[Listened]:
    """These tracks, from the beginning, each from a container of its own: so all can be read in step however far apart
    the file keeps them. most: seconds; on_picture: gets the packet with the recording's picture."""
    heard: list[Listened] = []
    for number in numbers:
        container = recording.fresh(stack)
        story = Story()
        picture = cover.find(container) if on_picture and not heard else None
        stream = container.streams.audio[number - 1]
        placed = recording.listen(stream, number - 1, most, story, picture, on_picture)
        heard.append(Listened(number, stream, story, placed))
    return heard


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to say. damaged, notes: as for `facts.Sound`."""

    damaged: bool
    facts: Facts
    notes: list[str]


def tell(recording: Recording, heard: list[Listened], asked: bool) -> Told:
    """Of all tracks that were listened to. asked: for one, by number. Raises StenoboxError when none gave a sound."""
    if not any(one.story.sounded for one in heard):
        codec = heard[0].stream.codec_context
        raise StenoboxError("undecodable", recording.refusal() if codec is not None else kinds.no_decoder("unknown"))
    loud = [one for one in heard if not one.silent] or heard[:1]
    silent = [one.number for one in heard if one.silent]
    damaged, said = False, notes.of_tracks(asked, [one.number for one in loud if not one.silent], silent)
    for one in loud:
        short = recording.cut_short(one.stream.container, one.stream, one.story)
        damaged = damaged or notes.damaged(one.story, short)
        said += [note for note in notes.of_time(one.story, short) if note not in said]
    return Told(damaged, _facts(loud[0].stream, loud[0].number), said)


def _facts(stream: Any, number: int) -> Facts:
    """What the file says of itself. Codecs are asked after decoding, when what they found counts."""
    container = stream.container
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
