"""Word times on Apple's GPU, and what happens when it fails; which language is asked for and heard. WhisperX and
torch are stood for: they are slow."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.engine.spec import Spec
from tasks.jobs import Stage

SOUND = np.zeros(16_000, "f4")
SEGMENTS = [{"text": " One.", "start": 0.0, "end": 1.0}]


class Aligner:
    """Stands for whisperx.alignment. failing: what Apple's GPU does; loaded: devices, in order."""

    def __init__(self, failing: Exception | None) -> None:
        self.failing = failing
        self.loaded: list[str] = []

    def load_align_model(self, language_code: str, device: str, **_: Any) -> tuple[str, dict[str, str]]:
        self.loaded.append(device)
        return f"on {device}", {"language": language_code}

    def align(self, segments: list[Any], model: str, metadata: Any, audio: Any, device: str, **options: Any) -> Any:
        assert model == f"on {device}"
        options["progress_callback"](50)
        if device != "cpu" and self.failing:
            raise self.failing
        return {"segments": [segment | {"words": [{"word": "One."}], "device": device} for segment in segments]}


def recognizer(
    monkeypatch: pytest.MonkeyPatch, aligner: Aligner, align_device: str = "cpu", model_name: str = "demo"
) -> Any:
    """One with no model."""
    for name in ("torch", "whisperx", "whisperx.alignment", "whisperx.asr", "whisperx.vads", "whisperx.log_utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    modules: dict[str, Any] = dict(sys.modules)
    modules["torch"].set_num_threads = lambda threads: None
    modules["whisperx"].alignment, modules["whisperx"].asr = aligner, modules["whisperx.asr"]
    modules["whisperx"].vads = modules["whisperx.vads"]
    model = SimpleNamespace(model=SimpleNamespace(is_multilingual=True))
    modules["whisperx.asr"].WhisperModel = lambda *_, **__: model
    modules["whisperx.asr"].FasterWhisperPipeline = object
    modules["whisperx.vads"].Pyannote = object
    modules["whisperx.log_utils"].setup_logging = lambda level: None
    monkeypatch.delitem(sys.modules, "tasks.engine.recognizer", raising=False)
    from tasks.engine.recognizer import Recognizer

    monkeypatch.delitem(sys.modules, "tasks.engine.recognizer")  # nobody else's
    meter: Any = SimpleNamespace(loading=nullcontext)
    return Recognizer(Spec(model_name, "/nowhere", "cpu", "int8", 1, 1, 1, align_device), meter)


def align(recognizer: Any, progress: list[tuple[Stage, float]] | None = None) -> Any:
    told = [] if progress is None else progress
    (segment,), note = recognizer._align(
        SEGMENTS, "en", SOUND, lambda *step: told.append(step), lambda language: ("/aligner", None)
    )
    assert note is None
    return segment


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_word_times_run_where_the_spec_says(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    aligner = Aligner(None)
    ours = recognizer(monkeypatch, aligner, device)
    assert align(ours)["device"] == align(ours)["device"] == device
    assert aligner.loaded == [device]


@pytest.mark.parametrize(
    "failing",
    [
        NotImplementedError("The operator 'aten::x' is not implemented for the MPS device."),
        RuntimeError("MPS backend out of memory"),
        TypeError("Cannot convert a MPS Tensor to float64 dtype"),
    ],
)
def test_what_apples_gpu_can_not_do_is_done_on_the_cpu(monkeypatch: pytest.MonkeyPatch, failing: Exception) -> None:
    aligner = Aligner(failing)
    ours, progress = recognizer(monkeypatch, aligner, "mps"), list[tuple[Stage, float]]()
    assert align(ours, progress)["device"] == "cpu"
    assert aligner.loaded == ["mps", "cpu"]
    assert {stage for stage, _ in progress} == {Stage.ALIGN}
    aligner.failing = None
    assert align(ours)["device"] == "mps"  # the next job tries again


def test_other_failures_and_other_devices_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        align(recognizer(monkeypatch, Aligner(RuntimeError("CUDA out of memory")), "cuda"))
    aligner = Aligner(KeyError("canceled"))
    with pytest.raises(KeyError):
        align(recognizer(monkeypatch, aligner, "mps"))
    assert aligner.loaded == ["mps"]


@pytest.mark.parametrize(
    ("name", "english"),
    [("tiny.en", True), ("distil-large-v2", True), ("distil-large-v3", True), ("large-v3", False), ("my-own", False)],
)
def test_a_model_that_knows_english_alone_is_asked_for_english(
    monkeypatch: pytest.MonkeyPatch, name: str, english: bool
) -> None:
    """Also one that kept the tokens of other languages: a detected one would turn German into a guess."""
    assert recognizer(monkeypatch, Aligner(None), model_name=name)._english is english


@pytest.mark.parametrize(
    ("windows", "heard"),
    [
        ([], [(0, 30)]),
        ([(35, 40)], [(35, 40)]),
        ([(35, 40), (70, 90)], [(35, 40), (70, 90)]),
        ([(35, 60), (70, 90), (95, 99)], [(35, 60), (70, 75)]),
        ([(10, 60)], [(10, 40)]),
    ],
)
def test_the_language_is_heard_where_speech_is(
    monkeypatch: pytest.MonkeyPatch, windows: list[tuple[float, float]], heard: list[tuple[int, int]]
) -> None:
    first_speech = recognizer(monkeypatch, Aligner(None)).transcribe.__globals__["_first_speech"]
    audio = np.repeat(np.arange(100, dtype="f4"), 16_000)
    seconds = [second for start, end in heard for second in range(start, end)]
    assert first_speech(audio, windows)[::16_000].tolist() == seconds
