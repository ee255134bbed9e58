"""Why a try at a job ended before its end, in a code and a sentence for people: what happened, where, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tasks import crashes
from tasks.children import ChildDied
from tasks.errors import StenoboxError
from tasks.jobs import Stage
from tasks.store import Cause

_DOING = {
    Stage.DOWNLOAD: "fetching what it needs",
    Stage.DECODE: "reading the file",
    Stage.TRANSCRIBE: "transcribing",
    Stage.ALIGN: "timing the words",
    Stage.SAVE: "saving the transcript",
}
_ADVICE = {
    "out_of_memory": "Try a smaller model, lower the limit of jobs at once, or give the box more memory.",
    "killed": "If nobody did that by hand, the host may have run out of memory: try a smaller model.",
    "hung": "This recording may be what stops it: convert the file, or try another model.",
}
_CRASHED = "This recording may be what breaks it: convert the file, or try a smaller model."
_MEMORY = "lower the limit of jobs at once, or give the box more memory."
_ADVICE_WITHOUT_MODEL = {
    "out_of_memory": _MEMORY.capitalize(),
    "killed": f"If nobody did that by hand, the host may have run out of memory: {_MEMORY}",
}
_CRASHED_WITHOUT_MODEL = {
    "decoder": "This file may be what breaks it: convert it to another form, such as MP3, and send that.",
    "downloader": "What the site sends may be what breaks it: try it later, or download the recording yourself and "
    "send the file.",
}
_HOW_OFTEN = {
    "out_of_memory": "ran out of memory",
    "killed": "was killed",
    "engine_crashed": "crashed",
    "hung": "hung",
}

PRESSURE = Cause(
    "memory_pressure",
    "Memory became short, and it was the newest of what ran, so it was stopped before the box fell over.",
)
PRESSED_SENTENCE = (
    "Memory ran out several times while this recording was worked on, and it was stopped before the box fell over. "
    "Try a smaller model, lower the limit of jobs at once, or give the box more memory."
)


def smaller(now: int, usual: int) -> str:
    """A note on a job that was done with fewer windows at once."""
    return f"Memory ran out at first, so less of it was recognized at a time: {now} × 30 s instead of {usual} × 30 s."


def of_death(death: ChildDied, stage: Stage) -> Cause:
    """Of a child that ended while it ran the job at that stage."""
    doing = _DOING[stage] if death.loaded else "loading the model"
    if death.who == "downloader":
        doing = "fetching the link"
    if death.deliberate:
        return Cause("engine_ended", "The engine had to be ended because of another recording that was in it.")
    match death.cause:
        case "out_of_memory":
            how = f"ran out of memory while {doing}"
            if "SIG" in death.ending:  # else it has said so and left by itself
                how += ", and the system ended it"
        case "killed":
            how = f"{death.ending} from outside while {doing}"
        case "hung":
            how = f"hung while {doing}: it {death.ending}, and was ended"
        case _:
            how = f"{death.ending} while {doing}"
            if where := crashes.place(death.crash):
                how += f", {where}"
    return Cause(death.cause, f"The {death.who} {how}.{_beside(death.beside)}", charged=True)


def of_gpu(error: StenoboxError, stage: Stage) -> Cause:
    """Of an engine that lives on although memory ran out: a GPU's."""
    return Cause("out_of_memory", f"{error.message[:-1]} while {_DOING[stage]}.", charged=True)


def of_failure(error: StenoboxError) -> Cause:
    """Of an engine that failed, which may be the engine's fault or the recording's: tried again, nobody is charged."""
    return Cause(error.code, error.message)


def verdict(codes: Sequence[str], last: Cause, who: str = "engine") -> str:
    """What a job says that is given up. codes: of its charged tries, the last one included; who: ended in that one."""
    counted = Counter(codes)
    times = [f"{_HOW_OFTEN.get(code, 'ended early')} {_times(n)}" for code, n in counted.items()]
    tried = f"Tried {_times(len(codes))}: the process that ran it {_and(times)}. " if len(codes) > 1 else ""
    return f"{tried}{'At last: ' if tried else ''}{last.sentence} {_advice(last.code, who)}"


def _advice(code: str, who: str) -> str:
    if who in _CRASHED_WITHOUT_MODEL:
        return _ADVICE_WITHOUT_MODEL.get(code, _CRASHED_WITHOUT_MODEL[who])
    return _ADVICE.get(code, _CRASHED)


def _beside(others: int) -> str:
    if not others:
        return ""
    if others == 1:
        return " Another recording was in it, and either may be the cause."
    return f" {others} other recordings were in it, and any of them may be the cause."


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
