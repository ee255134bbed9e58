"""What a running job is told to have left, stage by stage, under a clock that the test moves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tasks.costs import Kind, Record
from tasks.db import Database
from tasks.jobs import Stage
from tasks.journal import SPEECH_SHARE
from tasks.stages import LEAST_SECONDS, Course
from tasks.store import Line, StageCosts, StageTimes, add_record, stage_costs
from tasks.store.pace import fit

PRIOR = Line(0.0, 0.1, math.inf)
LENGTHS = (20.0, 600.0, 14_400.0)


@dataclass
class Box:
    """Seconds that stages take: some whatever the length, and some for each second of sound. speech: finding it, as a
    share of recognition; slow: times all of that."""

    align: float
    speech: float = 0.2
    slow: float = 1.0

    def stages(self, length: float) -> tuple[float, float, float]:
        recognition = 0.5 + 0.1 * length
        return (
            (0.1 + 0.005 * length) * self.slow,
            recognition * self.slow,
            recognition * self.align * self.slow,
        )

    def measured(self, *lengths: float, language: str = "en") -> StageCosts:
        decode, recognize, align = (
            fit([(length, self.stages(length)[number]) for length in lengths]) for number in range(3)
        )
        return StageCosts(decode, recognize, {language: align})


def run(
    box: Box,
    length: float,
    costs: StageCosts,
    language: str | None = "en",
    resumed: float = 0.0,
    known: float | None = None,
) -> Iterator[tuple[Stage, float, float | None, float, float]]:
    """One job in small steps: (stage, its progress, what is told to be left, what is left, the bar)."""  # fmt: skip
    now = 0.0
    course = Course(costs, PRIOR, language, known, clock=lambda: now)
    if resumed:
        yield Stage.TRANSCRIBE, resumed, None, 0.0, course.bar(Stage.TRANSCRIBE, resumed)
    decode, recognize, align = box.stages(length)
    recognition = recognize * (1 - box.speech) * (1 - (resumed - SPEECH_SHARE) / (1 - SPEECH_SHARE))
    if not resumed:
        recognition = recognize
    total = decode + recognition + align

    def step(stage: Stage, progress: float) -> tuple[Stage, float, float | None, float, float]:
        bar = course.reach(stage, progress)
        return stage, progress, course.left, total - now, bar

    for tenth in range(11):
        now = decode * tenth / 10
        yield step(Stage.DECODE, tenth / 10)
    course.decoded(length)
    finding = 0.0 if resumed else recognize * box.speech
    for part in range(51):
        if not resumed:
            now = decode + finding * part / 50
            yield step(Stage.TRANSCRIBE, SPEECH_SHARE * part / 50)
    start = resumed or SPEECH_SHARE
    for part in range(101):
        now = decode + finding + (recognition - finding) * part / 100
        yield step(Stage.TRANSCRIBE, start + (1 - start) * part / 100)
    course.aligning("en", True)
    for part in range(101):
        now = decode + recognition + align * part / 100
        yield step(Stage.ALIGN, part / 100)
    times = course.times(recognition, "en")
    assert times.decode == pytest.approx(decode)
    assert times.align == pytest.approx(align)


def hold(steps: Iterator[tuple[Stage, float, float | None, float, float]], most: float | None = None) -> None:
    """Never less than half of what is left, and the bar never goes back. most: times the truth."""
    last, told_any = 0.0, False
    for stage, progress, told, left, bar in steps:
        assert last <= bar <= 0.99 + 1e-9
        last = bar
        if told is not None:
            told_any = True
            assert told >= left / 2 - 1e-6, (stage, progress, told, left)
            assert most is None or told <= max(most * left, 2 * LEAST_SECONDS), (stage, progress, told, left)
    assert told_any


@pytest.mark.parametrize("align", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("speech", [0.02, 0.2, 0.5])
class TestLeft:
    def test_after_long_and_short_jobs(self, align: float, length: float, speech: float) -> None:
        box = Box(align, speech)
        hold(run(box, length, box.measured(*LENGTHS)), most=2.0)

    @pytest.mark.parametrize("seen", [(10.0, 15.0), (7200.0,)])
    def test_after_jobs_of_other_lengths(
        self, align: float, length: float, speech: float, seen: tuple[float, ...]
    ) -> None:
        box = Box(align, speech)
        hold(run(box, length, box.measured(*seen)))

    def test_the_first_job_of_a_model(self, align: float, length: float, speech: float) -> None:
        """Nothing is known but a factor from elsewhere."""
        hold(run(Box(align, speech), length, StageCosts()))

    def test_the_first_job_of_a_model_on_a_box_that_has_aligned_with_others(
        self, align: float, length: float, speech: float
    ) -> None:
        box = Box(align, speech)
        hold(run(box, length, StageCosts(align=box.measured(*LENGTHS).align)))

    def test_a_language_never_heard_here(self, align: float, length: float, speech: float) -> None:
        """Others' aligners were up to three times as fast."""
        box = Box(align, speech)
        hold(run(box, length, StageCosts(*_without_align(box), Box(align / 3).measured(*LENGTHS, language="xx").align)))

    def test_one_that_goes_on(self, align: float, length: float, speech: float) -> None:
        box = Box(align, speech)
        hold(run(box, length, box.measured(*LENGTHS), resumed=0.7, known=length))


def _without_align(box: Box) -> tuple[Line | None, Line | None]:
    costs = box.measured(*LENGTHS)
    return costs.decode, costs.recognize


@pytest.mark.parametrize("align", [0.25, 1.0, 3.0])
def test_a_box_slower_than_it_was_tells_so_as_soon_as_its_own_pace_shows_it(align: float) -> None:
    costs, box = Box(align).measured(*LENGTHS), Box(align, slow=4.0)
    steps = [step for step in run(box, 600.0, costs) if step[0] == Stage.ALIGN or step[1] > 0.4]
    hold(iter(steps))


def test_without_an_aligner_nothing_is_left_of_word_times() -> None:
    now = 0.0
    course = Course(Box(1.0).measured(*LENGTHS), PRIOR, None, 600.0, clock=lambda: now)
    course.decoded(600.0)
    course.reach(Stage.TRANSCRIBE, 1.0)
    assert course.left is not None
    assert course.left > 30
    course.aligning("xx", False)
    assert course.left == LEAST_SECONDS
    assert course.times(60.0, "xx").align is None


@pytest.mark.parametrize("align", [0.25, 3.0])
def test_the_bar_gives_each_stage_the_part_of_the_time_that_it_takes(align: float) -> None:
    box = Box(align)
    whole = sum(box.stages(600.0))
    for *_, left, bar in run(box, 600.0, box.measured(*LENGTHS)):
        assert bar == pytest.approx(1 - left / whole, abs=0.06)


@pytest.mark.parametrize("align", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("slow", [0.3, 10.0])
def test_a_first_job_whose_factor_was_wrong_tells_so_as_soon_as_its_own_pace_shows_it(
    align: float, slow: float
) -> None:
    steps = run(Box(align, slow=slow), 600.0, StageCosts())
    hold(step for step in steps if step[0] == Stage.ALIGN or (step[0] == Stage.TRANSCRIBE and step[1] > 0.4))


def test_the_bar_of_one_that_goes_on_stands_where_it_was_until_new_words_come() -> None:
    bars = {
        (stage, progress): bar
        for stage, progress, *_, bar in run(Box(1.0), 600.0, Box(1.0).measured(*LENGTHS), resumed=0.7)
    }
    assert bars[Stage.DECODE, 0.0] == bars[Stage.DECODE, 1.0] == pytest.approx(bars[Stage.TRANSCRIBE, 0.7], abs=0.02)


def test_what_is_recognized_already_costs_nothing() -> None:
    """An attempt that goes on after all words were found: at its first sign of life it is through."""
    now = 0.0
    course = Course(StageCosts(), PRIOR, "en", 600.0, clock=lambda: now)
    course.decoded(600.0)
    course.reach(Stage.TRANSCRIBE, 1.0)
    assert course.left == pytest.approx(1.5 * 60)


def test_what_stages_took_is_told_by_model_language_and_device(database: Database) -> None:
    def job(model: str, numbers: str, seconds: float, times: StageTimes) -> None:
        record = Record(Kind(model, numbers, 1), 1, 1, 1)
        add_record(database, record, audio_seconds=seconds, work_seconds=1.0, beside=1, stages=times)

    assert stage_costs(database, "tiny", "int8") == StageCosts()
    job("tiny", "int8", 100.0, StageTimes("en", 1.0, 10.0, 5.0))
    job("small", "int8", 100.0, StageTimes("de", 1.0, 40.0, 15.0))
    job("tiny", "float16", 100.0, StageTimes("en", 1.0, 1.0, 1.0))
    job("demo", "int8", 100.0, StageTimes("en", 0.1, 0.1, 0.1))
    job("tiny", "int8", 100.0, StageTimes("th", 1.0, 10.0, None))  # has no aligner
    record = Record(Kind("tiny", "int8", 1), 1, 1, 1)
    add_record(database, record, audio_seconds=100.0, work_seconds=900.0, beside=1)  # of a version that timed no stage
    found = stage_costs(database, "tiny", "int8")
    assert found.decode is not None
    assert found.recognize is not None
    assert found.decode.cost(200.0) == pytest.approx(2.0)
    assert found.recognize.cost(200.0) == pytest.approx(20.0)
    assert {language: line.cost(200.0) for language, line in found.align.items()} == pytest.approx(
        {"en": 10.0, "de": 30.0}
    )
    assert stage_costs(database, "base", "int8").recognize is None
