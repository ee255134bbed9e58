"""Subtitles from a transcript: when each cue is shown, and how its text is broken into lines.

Words without a time of their own (a language without an aligner, a word that it could not place) lie between their
neighbours, each as long as its letters; from then on they are words like others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

LINE_CHARACTERS = 42
CUE_SECONDS = 7.0
"""Longest line and cue, from the BBC's and Netflix's subtitle guidelines; two lines a cue."""
SHORTEST_SECONDS = 0.3
"""Shorter ones can't be read; only the next cue may cut one off earlier."""
APART_SECONDS = 0.1
"""Between the beginnings of two cues: players drop one that begins when the next does."""
GAP_SECONDS = 1.0
"""A pause this long between two words ends a cue."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle: one or two lines shown from start to end, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Word:
    """text: with the space before it, if there is one; times: start and end in seconds, None where nobody knows."""

    text: str
    times: tuple[float, float] | None

    @property
    def weight(self) -> int:
        return len(self.text.strip()) or 1


@dataclass(frozen=True, slots=True)
class _Timed:
    text: str
    start: float
    end: float


def cues_of(transcript: dict[str, Any]) -> list[Cue]:
    """Subtitles of at most two lines and seven seconds (one long word apart), broken at pauses, in order, of which none
    is shown with the next."""
    found = [cue for segment in transcript["segments"] for cue in _of_segment(segment)]
    found.sort(key=lambda cue: cue.start)
    for number in range(1, len(found)):
        start = max(found[number].start, found[number - 1].start + APART_SECONDS)
        found[number - 1] = _shown(found[number - 1], start)
        found[number] = replace(found[number], start=start)
    return [*found[:-1], *(_shown(cue, None) for cue in found[-1:])]


def one_line(text: str) -> str:
    """Without what would end a cue, or control a terminal in which the file is shown."""
    return _CONTROL.sub("", re.sub(r"\s+", " ", text)).strip()


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _shown(cue: Cue, following: float | None) -> Cue:
    end = max(cue.end, cue.start + SHORTEST_SECONDS)
    return replace(cue, end=end if following is None else min(end, following))


def _of_segment(segment: dict[str, Any]) -> Iterator[Cue]:
    words = _words(segment)
    if not words:
        return
    for group in _groups(_placed(words, segment["start"], segment["end"])):
        yield Cue(group[0].start, group[-1].end, _lines([word.text for word in group]))


def _words(segment: dict[str, Any]) -> list[_Word]:
    text = one_line(segment["text"])
    said = [word for word in segment["words"] if one_line(word["word"])]
    if not text:
        return []
    if not said:
        return [_Word(piece, None) for word in text.split(" ") for piece in _pieces(f" {word}")]
    words = []
    for word, spelled in zip(said, _spelled(text, said), strict=True):
        if word["start"] is None or word["end"] is None:
            words += [_Word(piece, None) for piece in _pieces(spelled)]
        else:
            words.append(_Word(spelled, (word["start"], word["end"])))
    return words


def _spelled(text: str, words: list[dict[str, Any]]) -> list[str]:
    """Each word, after a space if the text has one there.

    Chinese and Japanese come as one "word" a character, without the spaces that the text may have between them.
    """
    spelled, at = [], 0
    for word in (one_line(word["word"]) for word in words):
        found = text.find(word, at)
        apart = found < 0 or " " in text[at:found]
        spelled.append(f" {word}" if apart else word)
        at = at if found < 0 else found + len(word)
    return spelled


def _pieces(word: str) -> list[str]:
    """Where a line may be broken in it: before each letter of a script without spaces. Marks and punctuation stay with
    the letter before them, as do letters of other scripts with each other."""
    pieces = [word[:1]]
    for before, letter in pairwise(word):
        breaks = _UNSPACED.match(letter) or _UNSPACED.match(before)
        if breaks and before != " " and unicodedata.category(letter)[0] not in "MP":
            pieces.append(letter)
        else:
            pieces[-1] += letter
    return pieces


def _placed(words: Sequence[_Word], start: float, end: float) -> list[_Timed]:
    """All of them with times, one after the other. start, end: of their segment."""
    placed: list[_Timed] = []
    run: list[_Word] = []
    for word in words:
        if word.times is None:
            run.append(word)
            continue
        placed += _shared_out(run, placed[-1].end if placed else min(start, word.times[0]), word.times[0])
        run = []
        at = max(word.times[0], placed[-1].start if placed else word.times[0])
        placed.append(_Timed(word.text, at, max(at, word.times[1])))
    return placed + _shared_out(run, placed[-1].end if placed else start, end)


def _shared_out(words: Sequence[_Word], start: float, end: float) -> list[_Timed]:
    """Words that follow each other from start to end, by their letters."""
    whole, begun, shared = sum(word.weight for word in words), 0, []
    span = max(0.0, end - start)
    for word in words:
        at = start + span * begun / whole
        begun += word.weight
        shared.append(_Timed(word.text, at, min(start + span * begun / whole, at + CUE_SECONDS)))
    return shared


def _groups(words: Sequence[_Timed]) -> Iterator[list[_Timed]]:
    group: list[_Timed] = []
    for word in words:
        if group and (
            word.start - group[-1].end > GAP_SECONDS
            or word.end - group[0].start > CUE_SECONDS
            or len(_lines([*(before.text for before in group), word.text])) > 2
        ):
            yield group
            group = []
        group.append(word)
    yield group


def _lines(words: list[str]) -> tuple[str, ...]:
    """Words, each with the space before it if there is one, as lines."""
    lines = [words[0].lstrip()]
    for word in words[1:]:
        if len(lines[-1] + word) <= LINE_CHARACTERS:
            lines[-1] += word
        else:
            lines.append(word.lstrip())
    return tuple(re.sub("-+->", "->", line) for line in lines)  # an arrow would end the cue
