"""Why a try ended: every kind of death, in a code and a sentence."""

from __future__ import annotations

import pytest

from tasks import causes
from tasks.children import ChildDied
from tasks.errors import KINDS, StenoboxError
from tasks.jobs import Stage
from tasks.store import Cause

SIGKILL, SIGSEGV = "was killed (SIGKILL)", "crashed (SIGSEGV)"

DEATHS: list[tuple[ChildDied, Stage, str, str]] = [
    (
        ChildDied("engine", SIGKILL, "out_of_memory"),
        Stage.TRANSCRIBE,
        "out_of_memory",
        "The engine ran out of memory while transcribing, and the system ended it.",
    ),
    (
        ChildDied("engine", SIGKILL, "out_of_memory", loaded=False),
        Stage.TRANSCRIBE,
        "out_of_memory",
        "The engine ran out of memory while loading the model, and the system ended it.",
    ),
    (
        ChildDied("decoder", SIGKILL, "out_of_memory"),
        Stage.DECODE,
        "out_of_memory",
        "The decoder ran out of memory while reading the file, and the system ended it.",
    ),
    (
        ChildDied("engine", SIGKILL, "killed"),
        Stage.ALIGN,
        "killed",
        "The engine was killed (SIGKILL) from outside while timing the words.",
    ),
    (
        ChildDied("decoder", SIGKILL, "killed"),
        Stage.DECODE,
        "killed",
        "The decoder was killed (SIGKILL) from outside while reading the file.",
    ),
    (
        ChildDied("downloader", SIGSEGV),
        Stage.DOWNLOAD,
        "engine_crashed",
        "The downloader crashed (SIGSEGV) while fetching the link.",
    ),
    (
        ChildDied("engine", SIGSEGV),
        Stage.TRANSCRIBE,
        "engine_crashed",
        "The engine crashed (SIGSEGV) while transcribing.",
    ),
    (
        ChildDied("engine", "left with status 3", beside=1),
        Stage.TRANSCRIBE,
        "engine_crashed",
        "The engine left with status 3 while transcribing. Another recording was in it, and either may be the cause.",
    ),
    (
        ChildDied("engine", "did nothing for 5 min", "hung", beside=2),
        Stage.ALIGN,
        "hung",
        "The engine hung while timing the words: it did nothing for 5 min, and was ended. "
        "2 other recordings were in it, and any of them may be the cause.",
    ),
]


@pytest.mark.parametrize(("death", "stage", "code", "sentence"), DEATHS)
def test_a_death_has_a_code_and_a_sentence_and_is_charged(
    death: ChildDied, stage: Stage, code: str, sentence: str
) -> None:
    assert causes.of_death(death, stage) == Cause(code, sentence, charged=True)
    assert KINDS[code].retryable


def test_an_end_for_anothers_sake_is_not_charged() -> None:
    found = causes.of_death(ChildDied("engine", "did nothing for 5 min", "hung", deliberate=True), Stage.ALIGN)
    assert found == Cause(
        "engine_ended", "The engine had to be ended because of another recording that was in it.", charged=False
    )


def test_a_gpu_s_memory() -> None:
    error = StenoboxError("out_of_memory", "The memory of cuda ran out.")
    assert causes.of_gpu(error, Stage.ALIGN) == Cause(
        "out_of_memory", "The memory of cuda ran out while timing the words.", charged=True
    )


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_can_be_told(stage: Stage) -> None:
    assert causes.of_death(ChildDied("engine", SIGSEGV), stage).sentence.startswith("The engine crashed (SIGSEGV) whi")


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (["hung"], "It hung. This recording may be what stops it"),
        (["killed", "killed"], "Tried twice: the process that ran it was killed twice. At last: It hung."),
        (
            ["engine_crashed", "out_of_memory", "hung"],
            "Tried 3 times: the process that ran it crashed once, ran out of memory once and hung once. At last",
        ),
        (["worker_lost", "hung"], "Tried twice: the process that ran it ended early once and hung once."),
    ],
)
def test_a_job_that_is_given_up_says_how_often_and_what_to_do(codes: list[str], words: str) -> None:
    assert causes.verdict(codes, Cause("hung", "It hung.", True)).startswith(words)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("out_of_memory", "Try a smaller model, lower the limit of jobs at once, or give the box more memory."),
        ("killed", "the host may have run out of memory: try a smaller model."),
        ("engine_crashed", "convert the file, or try a smaller model."),
        ("hung", "convert the file, or try another model."),
    ],
)
def test_what_to_do(code: str, advice: str) -> None:
    assert causes.verdict([code] * 3, Cause(code, "It ended.", True)).endswith(advice)


@pytest.mark.parametrize(
    ("who", "code", "advice"),
    [
        ("decoder", "engine_crashed", "convert it to another form, such as MP3, and send that."),
        ("decoder", "out_of_memory", "Lower the limit of jobs at once, or give the box more memory."),
        ("decoder", "killed", "run out of memory: lower the limit of jobs at once, or give the box more memory."),
        ("downloader", "engine_crashed", "try it later, or download the recording yourself and send the file."),
        ("downloader", "out_of_memory", "Lower the limit of jobs at once, or give the box more memory."),
        ("downloader", "killed", "run out of memory: lower the limit of jobs at once, or give the box more memory."),
    ],
)
def test_what_no_model_was_part_of_has_no_advice_about_models(who: str, code: str, advice: str) -> None:
    said = causes.verdict([code] * 3, Cause(code, "It ended.", True), who)
    assert said.endswith(advice)
    assert "model" not in said


def test_the_causes_that_the_store_knows_are_codes() -> None:
    known = {causes.PRESSURE.code, "canceled", "interrupted", "worker_lost", "engine_ended"}
    assert known <= set(KINDS)
