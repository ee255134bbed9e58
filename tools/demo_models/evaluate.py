"""Both models through the unmodified WhisperX: word errors, word times, language."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from words import RATE


def load_sound(path: Path) -> np.ndarray:
    """Float samples at 16 kHz, mono, without the ffmpeg command that whisperx.load_audio needs."""
    import av

    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        frames = [*container.decode(audio=0), None]
        parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.float32) / 32768


def compare(expected: list[str], heard: list[str]) -> tuple[int, list[tuple[int, int]]]:
    """Edit distance in words, and the pairs of positions where both have the same word."""
    rows, columns = len(expected), len(heard)
    cost = np.zeros((rows + 1, columns + 1), int)
    cost[:, 0], cost[0] = range(rows + 1), range(columns + 1)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            change = cost[i - 1, j - 1] + (expected[i - 1] != heard[j - 1])
            cost[i, j] = min(cost[i - 1, j] + 1, cost[i, j - 1] + 1, change)
    pairs, i, j = [], rows, columns
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + (expected[i - 1] != heard[j - 1]):
            if expected[i - 1] == heard[j - 1]:
                pairs.append((i - 1, j - 1))
            i, j = i - 1, j - 1
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return int(cost[rows, columns]), pairs[::-1]


def evaluate(whisper: Path, aligner: Path, nltk_data: Path, samples: Path, longest: float) -> dict[str, Any]:
    """Transcribe and align the samples of at most `longest` seconds; returns and prints the measures.

    samples: a folder with truth.json: file, language, seconds, words[{word, start, end}].
    """
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", NLTK_DATA=str(nltk_data))
    logging.disable(logging.WARNING)
    import whisperx

    model = whisperx.load_model(str(whisper), device="cpu", compute_type="int8", vad_method="pyannote", threads=1)
    aligners = {
        language: whisperx.load_align_model(language_code=language, device="cpu", model_name=str(aligner))
        for language in ("en", "de")
    }
    errors = words = languages = files = aligned = 0
    starts: list[float] = []
    began = time.monotonic()
    for truth in json.loads((samples / "truth.json").read_text()):
        if truth["seconds"] > longest:
            continue
        sound = load_sound(samples / truth["file"])
        result = model.transcribe(sound, batch_size=4)
        heard = " ".join(segment["text"] for segment in result["segments"]).split()
        expected = [word["word"] for word in truth["words"]]
        wrong, pairs = compare(expected, heard)
        errors, words, files = errors + wrong, words + len(expected), files + 1
        languages += result["language"] == truth["language"]
        if not result["segments"] or result["language"] not in aligners:
            continue
        timed = whisperx.align(result["segments"], *aligners[result["language"]], sound, "cpu")["word_segments"]
        aligned += sum("start" in word for word in timed)
        if [word["word"] for word in timed] == heard:
            starts += [abs(timed[j]["start"] - truth["words"][i]["start"]) for i, j in pairs if "start" in timed[j]]
    measures = {
        "files": files,
        "words": words,
        "word_error_rate": round(errors / words, 4),
        "languages_right": languages,
        "words_aligned": aligned,
        "start_error_ms": [round(1000 * float(np.percentile(starts, q))) for q in (50, 95)] if starts else None,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(measures))
    return measures
