"""WhisperX on one shared model. Runs only inside the engine process; importing it takes ten seconds and 900 MB."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisperx.alignment
import whisperx.asr
import whisperx.vads
from whisperx.log_utils import setup_logging

from tasks.decode import SAMPLE_RATE
from tasks.engine.meter import Meter
from tasks.engine.spec import Spec
from tasks.jobs import Stage
from tasks.journal import SPEECH_SHARE, Journal
from tasks.models import CATALOGUE

setup_logging("error")
for _chatty in ("lightning", "lightning.pytorch", "pytorch_lightning", "lightning_fabric", "pyannote"):
    logging.getLogger(_chatty).setLevel(logging.ERROR)  # after their import, which sets its own level
logger = logging.getLogger(__name__)

_SHORTEST = SAMPLE_RATE  # the voice detector's convolutions need a second of sound
_VAD_OPTIONS = {"vad_onset": 0.5, "vad_offset": 0.363}  # WhisperX's own defaults
WINDOW = 30 * SAMPLE_RATE
"""What Whisper hears at a time."""
NO_SPEECH = "No speech found."

Progress = Callable[[Stage, float], None]
FindAligner = Callable[[str], tuple[str | None, str | None]]


class _Vad(whisperx.vads.Pyannote):  # type: ignore[misc]
    """WhisperX's voice detector, which takes minutes for hours of sound: tells how far it is, so it can be stopped,
    and doesn't look again for what the journal knows."""

    on_progress: Callable[[float], None]
    journal: Journal

    def __call__(self, audio: Any, **_: Any) -> Any:
        def hook(completed: int, total: int) -> None:
            self.on_progress(min(1.0, completed / total))

        return None if self.journal.speech is not None else self.vad_pipeline._segmentation(audio, hook=hook)

    def merge_chunks(self, segments: Any, *arguments: Any, **options: Any) -> list[dict[str, float]]:
        if self.journal.speech is None:
            chunks = super().merge_chunks(segments, *arguments, **options)
            self.journal.found_speech([(float(chunk["start"]), float(chunk["end"])) for chunk in chunks])
        return [{"start": start, "end": end} for start, end in self.journal.speech or []]


class _Pipeline(whisperx.asr.FasterWhisperPipeline):  # type: ignore[misc]
    """WhisperX's pipeline, which asks its own methods for the language and for one window after another: those that
    the journal knows are not recognized again, and each of the others is written down as it comes."""

    def __init__(self, made: Any, journal: Journal) -> None:
        """made: one that `load_model` made, whose options this one takes over."""
        super().__init__(
            model=made.model,
            vad=made.vad_model,
            vad_params=made._vad_params,
            options=made.options,
            tokenizer=made.tokenizer,
            language=made.preset_language,
            suppress_numerals=made.suppress_numerals,
        )
        self.journal = journal

    def detect_language(self, audio: np.ndarray) -> str:
        if self.journal.language is None:
            self.journal.found_language(super().detect_language(_first_speech(audio, self.journal.speech or [])))
        return str(self.journal.language)

    def __call__(self, inputs: Iterable[Any], batch_size: int, **options: Any) -> Iterator[dict[str, Any]]:
        def answer(text: str, score: float | None) -> dict[str, Any]:
            # WhisperX unpacks batches itself, but not those of one.
            return {"text": text, "avg_logprob": score} if batch_size > 1 else {"text": [text], "avg_logprob": [score]}

        known = list(self.journal.windows)
        for window in known:
            yield answer(window.text, window.score)
        rest = (window for window in islice(inputs, len(known), None))  # it asks whether it has a generator
        for out in super().__call__(rest, batch_size=batch_size, **options):
            text, score = (out[name] if batch_size > 1 else out[name][0] for name in ("text", "avg_logprob"))
            self.journal.found_words(text, score)
            yield answer(text, score)


class Recognizer:
    """One Whisper model whose weights all threads share; everything with state is made anew for each job."""

    def __init__(self, spec: Spec, meter: Meter) -> None:
        self._spec = spec
        self._meter = meter
        self._model = whisperx.asr.WhisperModel(
            spec.folder,
            device=spec.device,
            compute_type=spec.compute_type,
            cpu_threads=spec.threads,
            num_workers=spec.slots,
            local_files_only=True,
        )
        # Some that were made of multilingual ones and trained on English alone kept the others' tokens.
        known = CATALOGUE.get(spec.model)
        self._english = not self._model.model.is_multilingual or (known is not None and known.languages == ("en",))
        torch.set_num_threads(spec.threads)
        self._own = threading.local()
        self._aligners: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._loading_aligner = threading.Lock()

    def transcribe(
        self,
        sound: Path,
        language: str | None,
        on_progress: Progress,
        find_aligner: FindAligner,
        journal: Journal,
        batch: int,
    ) -> tuple[dict[str, Any], str | None]:
        """Words of a file of float32 samples at 16 kHz.

        language: a Whisper code, or None to detect it. find_aligner answers a language with the folder of its
        aligner, or None and a sentence why there is none. on_progress may raise to stop early. journal: what an earlier
        attempt with the same key has found, and takes what this one finds. batch: windows recognized together.
        Returns the transcript (design section 10) and a note, or None.
        """
        # Mapped, not read: an hour is 230 MB, and the kernel may drop these pages at any time.
        audio: np.ndarray = np.memmap(sound, dtype="<f4", mode="c")
        seconds = len(audio) / SAMPLE_RATE
        if len(audio) < _SHORTEST:
            audio = np.pad(audio, (0, _SHORTEST - len(audio)))
        if self._english:
            language = "en"
        on_progress(Stage.TRANSCRIBE, journal.progress)
        journal.begin()
        # A fresh pipeline a job: WhisperX's own keeps tokenizer and options between calls and is not thread-safe.
        made = whisperx.asr.load_model(
            self._spec.model,
            device=self._spec.device,
            compute_type=self._spec.compute_type,
            model=self._model,
            vad_model=self._vad(lambda share: on_progress(Stage.TRANSCRIBE, SPEECH_SHARE * share), journal),
            language=language,
        )
        found = _Pipeline(made, journal).transcribe(
            audio,
            batch_size=batch,
            progress_callback=lambda _: on_progress(Stage.TRANSCRIBE, journal.progress),
        )
        segments, note = found["segments"], None
        if any(segment["text"].strip() for segment in segments):
            segments, note = self._align(segments, found["language"], audio, on_progress, find_aligner)
        segments = [_segment(segment, round(seconds, 3)) for segment in segments if segment["text"].strip()]
        return {
            "language": found["language"],
            "seconds": round(seconds, 3),
            "text": " ".join(segment["text"] for segment in segments),
            "segments": [{"id": number, **segment} for number, segment in enumerate(segments)],
        }, note if segments else NO_SPEECH

    def _vad(self, on_progress: Callable[[float], None], journal: Journal) -> Any:
        # One a thread (46 MB): whether a pyannote pipeline may be shared is not documented.
        if not hasattr(self._own, "vad"):
            self._own.vad = _Vad(torch.device(self._spec.device), token=None, **_VAD_OPTIONS)
        self._own.vad.on_progress, self._own.vad.journal = on_progress, journal
        return self._own.vad

    def _align(
        self, segments: list[Any], language: str, audio: np.ndarray, on_progress: Progress, find_aligner: FindAligner
    ) -> tuple[list[Any], str | None]:
        on_progress(Stage.ALIGN, 0.0)
        folder, note = find_aligner(language)
        if folder is None:
            return segments, note
        device = self._spec.align_device
        try:
            return self._aligned(device, folder, segments, language, audio, on_progress), None
        except (RuntimeError, TypeError) as error:  # out of its memory, an operator or a number format it lacks
            if device != "mps":
                raise
            logger.warning("word times run on the CPU for this job; Apple's GPU failed: %s", error)
        return self._aligned("cpu", folder, segments, language, audio, on_progress), None

    def _aligned(
        self, device: str, folder: str, segments: list[Any], language: str, audio: np.ndarray, on_progress: Progress
    ) -> list[Any]:
        model, metadata = self._aligner(device, folder, language)
        aligned: dict[str, list[Any]] = whisperx.alignment.align(
            segments,
            model,
            metadata,
            audio,
            device,
            progress_callback=lambda percent: on_progress(Stage.ALIGN, percent / 100),
        )
        return aligned["segments"]

    def _aligner(self, device: str, folder: str, language: str) -> tuple[Any, Any]:
        # One is kept: the next language's, or the next device's, takes its place.
        with self._loading_aligner:
            if (device, language) not in self._aligners:
                with self._meter.loading():
                    if self._aligners:  # gone before the next one comes, unless a job is still using it
                        self._aligners = {}
                        if device == "cuda":
                            torch.cuda.empty_cache()  # else its memory stays with torch, in pieces of other sizes
                    self._aligners = {
                        (device, language): whisperx.alignment.load_align_model(
                            language_code=language, device=device, model_name=folder, model_cache_only=True
                        )
                    }
            return self._aligners[device, language]


def _first_speech(audio: np.ndarray, windows: list[tuple[float, float]]) -> np.ndarray:
    """The first stretches with speech, as long as a window at the most: WhisperX would listen to the first 30 s,
    whatever is in them. Where there is no speech, those."""
    pieces, room = [], WINDOW
    for start, end in windows:
        piece = audio[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)][:room]
        pieces.append(piece)
        room -= len(piece)
        if not room:
            break
    return np.concatenate(pieces) if pieces else audio[:WINDOW]


def _segment(segment: dict[str, Any], end: float) -> dict[str, Any]:
    score = segment.get("avg_logprob")
    words = [
        {
            "word": word["word"],
            "start": _moment(word.get("start"), end),
            "end": _moment(word.get("end"), end),
            "confidence": _seconds(word.get("score")),
        }
        for word in segment.get("words", [])
    ]
    return {
        "start": _moment(segment["start"], end),
        "end": _moment(segment["end"], end),
        "text": segment["text"].strip(),
        "speaker": None,
        "confidence": None if score is None else round(math.exp(min(0.0, score)), 3),
        "words": words,
    }


def _moment(value: Any, end: float) -> float | None:
    # The voice detector rounds up to its frames, and short recordings are padded to a second.
    seconds = _seconds(value)
    return None if seconds is None else min(seconds, end)


def _seconds(value: Any) -> float | None:
    # WhisperX leaves numpy numbers and, where a word has no letter its aligner knows, NaN, which JSON can't say.
    return None if value is None or not math.isfinite(value) else round(float(value), 3)
