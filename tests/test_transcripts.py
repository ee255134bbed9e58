"""Transcripts as files: exact output, how cues are cut, and that no text can break out of its cue."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cues import APART_SECONDS, CUE_SECONDS, GAP_SECONDS, LINE_CHARACTERS, SHORTEST_SECONDS, cues_of
from tasks.errors import StenoboxError
from tasks.transcripts import (
    FORMATS,
    as_csv,
    as_json,
    as_srt,
    as_text,
    as_vtt,
    find_format,
)

Word = tuple[str, float | None, float | None]


def segment(text: str, start: float = 0.0, end: float = 1.0, words: list[Word] | None = None) -> dict[str, Any]:
    return {
        "id": 0,
        "start": start,
        "end": end,
        "text": text,
        "speaker": None,
        "confidence": None,
        "words": [{"word": w, "start": s, "end": e, "confidence": 0.9} for w, s, e in words or []],
    }


def spoken(words: list[str], glue: str = " ", start: float = 0.0, each: float = 0.25) -> dict[str, Any]:
    """A segment whose words follow each other without a pause."""
    timed: list[Word] = [(word, start + i * each, start + (i + 1) * each) for i, word in enumerate(words)]
    return segment(glue.join(words), start, start + len(words) * each, timed)


def transcript(*segments: dict[str, Any]) -> dict[str, Any]:
    return {
        "language": "en",
        "seconds": max((s["end"] for s in segments), default=0.0),
        "text": " ".join(s["text"] for s in segments),
        "segments": list(segments),
    }


SHORT = transcript(
    segment("Five light.", 0.5, 1.25, [("Five", 0.5, 0.875), ("light.", 1.0, 1.25)]),
    segment("R&D <now>", 3661.0, 3662.5, [("R&D", 3661.0, 3661.5), ("<now>", 3662.0, 3662.5)]),
)


# Exact output


def test_text_has_a_line_a_segment() -> None:
    assert as_text(SHORT) == "Five light.\nR&D <now>\n"


def test_srt_is_exactly_this() -> None:
    assert as_srt(SHORT) == (
        "1\n00:00:00,500 --> 00:00:01,250\nFive light.\n\n2\n01:01:01,000 --> 01:01:02,500\nR&D <now>\n\n"
    )


def test_vtt_is_exactly_this() -> None:
    assert as_vtt(SHORT) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.250\nFive light.\n\n01:01:01.000 --> 01:01:02.500\nR&amp;D &lt;now&gt;\n\n"
    )


def test_csv_is_exactly_this() -> None:
    said = transcript(
        segment("Five light.", 0.5, 1.25) | {"speaker": "A, B"}, segment('He said "no",\nR&D <now>', 3661.0, 3662.0005)
    )
    assert as_csv(said) == (
        '\ufeffstart,end,speaker,text\r\n0.500,1.250,"A, B",Five light.\r\n'
        '3661.000,3662.001,,"He said ""no"", R&D <now>"\r\n'
    )


def test_json_is_what_was_stored() -> None:
    assert json.loads(as_json(SHORT)) == SHORT
    assert "Grüße 你好" in as_json(transcript(segment("Grüße 你好")))


def test_nothing_said_is_an_empty_file_with_its_header() -> None:
    assert [as_text(transcript()), as_srt(transcript()), as_vtt(transcript())] == ["", "", "WEBVTT\n\n"]
    assert as_csv(transcript()) == "\ufeffstart,end,speaker,text\r\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "00:00:00.000"),
        (0.0004, "00:00:00.000"),
        (0.0006, "00:00:00.001"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (86399.5, "23:59:59.500"),
        (360000.0, "100:00:00.000"),
        (-0.2, "00:00:00.000"),
    ],
)
def test_times_are_rounded_to_milliseconds_and_never_negative(seconds: float, shown: str) -> None:
    assert as_vtt(transcript(segment("a", seconds, 400_000.0))).splitlines()[2].split(" --> ")[0] == shown


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("txt", "text/plain; charset=utf-8"),
        ("srt", "application/x-subrip; charset=utf-8"),
        ("vtt", "text/vtt; charset=utf-8"),
        ("csv", "text/csv; charset=utf-8"),
        ("json", "application/json"),
    ],
)
def test_a_format_is_found_by_its_name(name: str, media_type: str) -> None:
    found = find_format(name)
    assert found.media_type == media_type
    assert isinstance(found.write(SHORT), str)


@pytest.mark.parametrize("name", ["", "SRT", "pdf", "../txt", "x" * 500])
def test_another_format_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(StenoboxError, match=r"Choose one of txt, srt, vtt, csv, json\.$") as refusal:
        find_format(name)
    assert (refusal.value.code, refusal.value.param) == ("unknown_format", "format")
    assert len(refusal.value.message) < 120
    assert set(FORMATS) == {"txt", "srt", "vtt", "csv", "json"}


# Where cues are cut


def cues(*segments: dict[str, Any]) -> list[tuple[float, float, tuple[str, ...]]]:
    return [(cue.start, cue.end, cue.lines) for cue in cues_of(transcript(*segments))]


def test_a_short_segment_is_one_cue() -> None:
    assert cues(spoken(["one", "two", "three"])) == [(0.0, 0.75, ("one two three",))]


def test_a_cue_ends_with_its_segment() -> None:
    assert cues(spoken(["one"]), spoken(["two"], start=0.25)) == [(0.0, 0.25, ("one",)), (0.25, 0.55, ("two",))]


@pytest.mark.parametrize(("pause", "count"), [(0.0, 1), (GAP_SECONDS, 1), (GAP_SECONDS + 0.5, 2)])
def test_a_pause_ends_a_cue(pause: float, count: int) -> None:
    found = cues(segment("one two", 0, 9, [("one", 0.0, 1.0), ("two", 1.0 + pause, 2.0 + pause)]))
    assert len(found) == count
    assert found[-1][1] == 2.0 + pause


def test_a_cue_lasts_seven_seconds_at_most() -> None:
    found = cues(spoken([str(number) for number in range(10)], each=1.0))
    assert [(start, end) for start, end, _ in found] == [(0.0, CUE_SECONDS), (7.0, 10.0)]
    assert [lines for *_, lines in found] == [("0 1 2 3 4 5 6",), ("7 8 9",)]


def test_a_single_word_may_last_longer() -> None:
    assert cues(segment("Ooooh", 0, 30, [("Ooooh", 0.0, 30.0)])) == [(0.0, 30.0, ("Ooooh",))]


def test_a_cue_has_two_lines_of_forty_two_characters_at_most() -> None:
    found = cues(spoken(["1234567890"] * 10, each=0.1))
    line = " ".join(["1234567890"] * 3)
    assert [lines for *_, lines in found] == [(line, line), (line, "1234567890")]


@pytest.mark.parametrize(("last", "lines"), [("x" * 21, 1), ("x" * 22, 2)])
def test_a_line_of_exactly_forty_two_characters_is_not_broken(last: str, lines: int) -> None:
    ((_, _, found),) = cues(spoken(["y" * 20, last]))
    assert len(found) == lines
    assert LINE_CHARACTERS == 42


def test_a_word_longer_than_a_line_stays_whole() -> None:
    assert cues(spoken(["a", "b" * 100, "c"])) == [(0.0, 0.5, ("a", "b" * 100)), (0.5, 0.8, ("c",))]


@pytest.mark.parametrize(
    ("words", "times"),
    [
        ([], [(0.0, 7.0), (10.0, 17.0)]),
        ([("one", None, None), ("two", 2.5, 3.0)], [(0.0, 3.0)]),
        ([("one", 0.0, None), ("two", 2.5, 3.0)], [(0.0, 3.0)]),
        ([("one", 0.0, 0.5), ("two", None, 1.0)], [(0.0, 0.5), (0.5, 7.5)]),
    ],
)
def test_words_without_times_lie_between_their_neighbours(words: list[Word], times: list[tuple[float, float]]) -> None:
    found = cues(segment("one two", 0.0, 20.0, words))
    assert [(start, end) for start, end, _ in found] == times
    assert " ".join(line for *_, lines in found for line in lines) == "one two"


FIELD = Path(__file__).parent / "data" / "transcripts"


def test_a_long_segment_without_word_times_is_shared_out() -> None:
    """After m-bain/whisperX#1214."""
    found = list(cues_of(json.loads((FIELD / "no_word_times.json").read_bytes())))
    assert (found[0].start, found[-1].end) == (10.0, 38.0)
    assert all(cue.end - cue.start <= CUE_SECONDS and len(cue.lines) <= 2 for cue in found)
    assert all(len(line) <= LINE_CHARACTERS for cue in found for line in cue.lines)
    assert " ".join(line for cue in found for line in cue.lines) == " ".join(f"word{n}" for n in range(60))
    assert 4 <= len(found) <= 8


@pytest.mark.parametrize("text", ["今天天气很好。" * 25, "私はPython 3でコードを書きます、" * 10, "สวัสดีครับ" * 20])
def test_text_without_spaces_is_shared_out_by_its_letters(text: str) -> None:
    found = list(cues_of(transcript(segment(text, 10.0, 38.0))))
    assert "".join(line for cue in found for line in cue.lines).replace(" ", "") == text.replace(" ", "")
    assert all(cue.end - cue.start <= CUE_SECONDS and len(cue.lines) <= 2 for cue in found)
    assert all(len(line) <= LINE_CHARACTERS for cue in found for line in cue.lines)
    assert not any(line[0] in "。、ั" or line.endswith("Pytho") for cue in found for line in cue.lines)


def test_one_word_without_a_time_is_one_of_the_others() -> None:
    """After m-bain/whisperX#1115: the year, which has no letter that an aligner knows."""
    said = spoken(["word"] * 25 + ["2014"] + ["word"] * 25, each=0.4)
    timed = cues(said)
    said["words"][25] |= {"start": None, "end": None}
    assert cues(said) == timed
    assert len(timed) > 2


def test_a_word_without_length_is_shown_for_a_while() -> None:
    (found,) = cues_of(json.loads((FIELD / "zero_length_word.json").read_bytes()))
    assert (found.start, found.end) == (1.0, 1.0 + SHORTEST_SECONDS)


def test_overlapping_segments_make_no_overlapping_cues() -> None:
    one, two = cues_of(json.loads((FIELD / "overlapping_segments.json").read_bytes()))
    assert (one.end, two.start) == (3.0, 3.0)


def test_cues_are_in_order_and_none_begins_with_another() -> None:
    said = [segment(word, start, start, [(word, start, start)]) for word, start in (("c", 5.0), ("a", 1.0), ("b", 1.0))]
    assert cues(*said) == [
        (1.0, 1.0 + APART_SECONDS, ("a",)),
        (1.0 + APART_SECONDS, 1.0 + APART_SECONDS + SHORTEST_SECONDS, ("b",)),
        (5.0, 5.0 + SHORTEST_SECONDS, ("c",)),
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_segment_without_text_makes_no_cue(text: str) -> None:
    said = transcript(segment(text, 0.0, 1.0), segment("after", 1.0, 2.0))
    assert as_srt(said) == "1\n00:00:01,000 --> 00:00:02,000\nafter\n\n"


def test_a_word_that_ends_before_it_begins_makes_no_backward_cue() -> None:
    assert cues(segment("one", 5.0, 6.0, [("one", 5.5, 5.0)])) == [(5.5, 5.5 + SHORTEST_SECONDS, ("one",))]


# Languages without spaces


def test_chinese_characters_are_put_together_without_spaces() -> None:
    assert cues(spoken(list("今天天气很好"), glue="")) == [(0.0, 1.5, ("今天天气很好",))]


def test_chinese_lines_are_full_and_lose_no_character() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(100))
    found = cues(spoken(list(text), glue="", each=0.05))
    assert "".join("".join(lines) for *_, lines in found) == text
    assert [[len(line) for line in lines] for *_, lines in found] == [[42, 42], [16]]


@pytest.mark.parametrize(
    "text",
    ["我用 Python 写代码", "你好 世界", "東京 2026年11月", "the 你 end", "早上好。 再见", "Hello, world", "New  York"],
)
def test_spaces_are_where_the_text_has_them_also_between_scripts(text: str) -> None:
    # WhisperX gives Chinese and Japanese as one "word" a character, without the spaces between them.
    characters: list[Word] = [(c, i * 0.1, i * 0.1 + 0.1) for i, c in enumerate(text) if c != " "]
    ((_, _, lines),) = cues(segment(text, 0.0, 2.0, characters))
    assert lines == (" ".join(text.split()),)


def test_words_that_the_text_spells_otherwise_are_kept_apart() -> None:
    said = segment("one 2 three", 0, 1, [("one", 0.0, 0.1), ("two", 0.1, 0.2), ("three", 0.2, 0.3)])
    assert cues(said) == [(0.0, 0.3, ("one two three",))]


# Hostile text

HOSTILE = [
    "-->",
    "--->",
    "a-->b",
    "----->>",
    "00:00:01.000 --> 00:00:02.000",
    "line\n\nNOTE stolen",
    "line\r\n\r\n2\r\n00:00:00,000 --> 00:00:01,000\r\nstolen",
    "\u2028\u2028stolen",
    "\x0b\x0c\x1c\x85stolen",
    "<script>alert(1)</script>",
    "</v><c.big>& &amp; &lt;",
    "WEBVTT",
    "{\\an8}",
    "\u202eright to left",
    "a\x00b",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31mred",
    "=cmd|' /C calc'!A0",
]

SRT_CUE = re.compile(r"(\d+)\n(\d\d+:\d\d:\d\d,\d{3}) --> (\d\d+:\d\d:\d\d,\d{3})\n((?:[^\n]+\n)+)\n")
VTT_CUE = re.compile(r"(\d\d+:\d\d:\d\d\.\d{3}) --> (\d\d+:\d\d:\d\d\.\d{3})\n((?:[^\n]+\n)+)\n")


def seconds(time: str) -> float:
    hours, minutes, rest = time.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def read_srt(file: str) -> list[tuple[float, float, list[str]]]:
    """A strict reader: numbers count up, cues hold no arrow, nothing lies between them."""
    found, at = [], 0
    while at < len(file):
        cue = SRT_CUE.match(file, at)
        assert cue, file[at:]
        assert int(cue[1]) == len(found) + 1
        assert "-->" not in cue[4]
        found.append((seconds(cue[2]), seconds(cue[3]), cue[4].rstrip("\n").split("\n")))
        at = cue.end()
    return found


def read_vtt(file: str) -> list[tuple[float, float, list[str]]]:
    """A strict reader: no markup, no arrow; entities are turned back."""
    assert file.startswith("WEBVTT\n\n")
    found, at = [], 8
    while at < len(file):
        cue = VTT_CUE.match(file, at)
        assert cue, file[at:]
        assert not re.search(r"-->|<|>|&(?!amp;|lt;|gt;)", cue[3])
        text = cue[3].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        found.append((seconds(cue[1]), seconds(cue[2]), text.rstrip("\n").split("\n")))
        at = cue.end()
    return found


@pytest.mark.parametrize("timed", [True, False], ids=["timed", "untimed"])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_out_of_its_cue(text: str, timed: bool) -> None:
    words: list[Word] = [(text, 1.0, 2.0), ("end", 2.0, 3.0)] if timed else []
    said = transcript(segment(f"{text} end", 1.0, 3.0, words))
    for found in (read_srt(as_srt(said)), read_vtt(as_vtt(said))):
        ((start, end, lines),) = found
        assert (start, end) == (1.0, 3.0)
        assert " ".join(lines).endswith("end")
    assert as_text(said).count("\n") == 1
    for file in (as_text(said), as_srt(said), as_vtt(said), as_csv(said)):
        assert not [c for c in file if unicodedata.category(c) == "Cc" and c not in "\r\n"]


def test_an_arrow_that_only_forms_between_words_is_broken_too() -> None:
    said = transcript(spoken(["-", "-", ">", "-", "-", "-", ">"], glue=""))
    ((_, _, lines),) = read_srt(as_srt(said))
    assert lines == ["->->"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'=1"),
        ("\r=1", "'=1"),
        ("\xa0=1", "'=1"),
        ("\x00=1", "'=1"),
        ("＝1", "'＝1"),  # noqa: RUF001
        ('"=1', '"=1'),
        ("'=1", "'=1"),
        (";=1", ";=1"),
        ("a,=1\n=2", "a,=1 =2"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_no_cell_of_a_table_is_a_formula(text: str, cell: str) -> None:
    said = transcript(segment(text) | {"speaker": text})
    _, row = csv.reader(io.StringIO(as_csv(said).removeprefix("\ufeff")))
    assert row == ["0.000", "1.000", cell, cell]


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_table_has_a_row_a_segment_whatever_was_said(text: str, speaker: str) -> None:
    said = transcript(segment(text) | {"speaker": speaker}, segment("after"))
    rows = list(csv.reader(io.StringIO(as_csv(said).removeprefix("\ufeff"))))
    assert [len(row) for row in rows] == [4, 4, 4]
    assert rows[2][3] == "after"
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in rows[1])


def test_plain_text_keeps_an_arrow() -> None:
    assert as_text(transcript(segment("a --> b"))) == "a --> b\n"


# Any text, any times

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda word: len(word.split()) == 1 and word == word.strip() and not re.search(r"\s", word)
)


@st.composite
def transcripts(draw: st.DrawFn) -> dict[str, Any]:
    """Segments after each other, with words after each other in them."""
    now, segments = 0.0, []
    for _ in range(draw(st.integers(0, 4))):
        texts = draw(st.lists(WORDS, min_size=1, max_size=30))
        glue = draw(st.sampled_from([" ", ""]))
        now += draw(st.floats(0, 5))
        start, words = now, []
        for text in texts:
            begin = now + draw(st.floats(0, 2))
            now = begin + draw(st.floats(0, 3))
            words.append((text, begin, now))
        segments.append(segment(glue.join(texts), start, now, words))
    return transcript(*segments)


def arrowless(text: str) -> str:
    return re.sub(r"-+>", "->", re.sub(r"[\s\x00-\x1f\x7f-\x9f]", "", text))


@settings(max_examples=150, deadline=None)
@given(transcripts())
def test_every_word_appears_once_and_in_order_in_cues_that_read_back(said: dict[str, Any]) -> None:
    spoken_words = arrowless("".join(word["word"] for part in said["segments"] for word in part["words"]))
    direct = [(cue.start, cue.end, list(cue.lines)) for cue in cues_of(said)]
    for found in (direct, read_srt(as_srt(said)), read_vtt(as_vtt(said))):
        assert arrowless("".join("".join(lines) for *_, lines in found)) == spoken_words
        assert [lines for *_, lines in found] == [lines for *_, lines in direct]
        before = 0.0
        for start, end, lines in found:
            assert before <= start <= end
            before = end
            assert len(lines) <= 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), min_size=1, max_size=40))
def test_words_with_spaces_between_them_are_separated_by_one_space_or_line(words: list[str]) -> None:
    found = cues(spoken(words))
    assert [word for *_, lines in found for line in lines for word in line.split(" ")] == words
