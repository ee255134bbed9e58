"""espeak-ng through its C library: words in, sound and the time of every word out."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, Union, c_char, c_char_p, c_int, c_short, c_void_p
from typing import Any

import numpy as np
from scipy.signal import resample_poly
from words import RATE

_WORD_EVENT = 1
_RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL: samples go to the callback, no sound card needed
_UTF8 = 1
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "wordgap": 7}

Words = list[tuple[str, float, float]]
"""(word, start, end) in seconds."""


class _Id(Union):
    _fields_ = [("number", c_int), ("name", c_char_p), ("string", c_char * 8)]


class _Event(Structure):
    _fields_ = [
        ("type", c_int),
        ("uid", ctypes.c_uint),
        ("text_position", c_int),
        ("length", c_int),
        ("audio_position", c_int),
        ("sample", c_int),
        ("user_data", c_void_p),
        ("id", _Id),
    ]


class _Espeak:
    """The library with its callback; one a process, since it is all global state in C."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        rate = self.library.espeak_Initialize(_RETRIEVAL, 0, None, 0)
        if rate != 22_050:
            raise RuntimeError(f"espeak-ng gives {rate} samples a second instead of 22050")
        self.samples: list[np.ndarray] = []
        self.events: list[tuple[int, float]] = []
        callback_type = ctypes.CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(_Event))
        self.callback = callback_type(self._collect)  # kept: C holds only a pointer to it
        self.library.espeak_SetSynthCallback(self.callback)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self.samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != 0:
            if events[i].type == _WORD_EVENT:
                self.events.append((events[i].text_position, events[i].audio_position / 1000))
            i += 1
        return 0

    def speak(self, text: str, voice: str, parameters: dict[str, int]) -> tuple[np.ndarray, list[tuple[int, float]]]:
        """Samples at 22050 Hz, and (position in text from 1, seconds) of every word event."""
        self.samples.clear()
        self.events.clear()
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise LookupError(f"espeak-ng has no voice {voice}")
        for name, value in parameters.items():
            self.library.espeak_SetParameter(_PARAMETERS[name], int(value), 0)
        data = text.encode()
        self.library.espeak_Synth(c_char_p(data), len(data) + 1, 0, 1, 0, _UTF8, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self.samples), list(self.events)


_espeak: _Espeak | None = None


def trim(sound: np.ndarray, decibels: float = -40.0, hop: int = 80) -> tuple[int, int]:
    """Index of the first and behind the last sample above a level relative to the loudest 5 ms."""
    count = len(sound) // hop
    level = np.sqrt((sound[: count * hop].reshape(count, hop) ** 2).mean(1))
    loud = np.flatnonzero(level > level.max() * 10 ** (decibels / 20))
    return int(loud[0] * hop), int((loud[-1] + 1) * hop)


def say(words: list[str], voice: str = "en-us", **parameters: int) -> tuple[np.ndarray, Words] | None:
    """Float samples at 16 kHz without silence around them, and the words' times; None where espeak's events don't
    match the words. Raises LookupError for an unknown voice."""
    global _espeak
    _espeak = _espeak or _Espeak()
    raw, events = _espeak.speak(" ".join(words), voice, {"rate": 160, "volume": 100, "pitch": 50, **parameters})
    sound = resample_poly(raw.astype(np.float32) / 32768, 320, 441).astype(np.float32)
    first, last = trim(sound)
    starts = _starts(words, events)
    if starts is None:
        return None
    starts = [max(start, first / RATE) for start in starts]
    ends = [*starts[1:], last / RATE]
    times: Words = []
    for word, start, end in zip(words, starts, ends, strict=True):
        if end - start < 0.06:
            return None
        piece = sound[int(start * RATE) : int(end * RATE)]
        if len(piece) > 400:  # silence before the next word (word gap) does not belong to the word
            inner_first, inner_last = trim(piece, decibels=-38)
            start, end = start + inner_first / RATE, start + inner_last / RATE
        times.append((word, start, end))
    sound, offset = sound[first:last], first / RATE
    length = len(sound) / RATE
    return sound, [(word, max(0, start - offset), min(length, end - offset)) for word, start, end in times]


def _starts(words: list[str], events: list[tuple[int, float]]) -> list[float] | None:
    """Seconds at which each word begins, by the events' positions in the text."""
    index_at, position = {}, 1
    for index, word in enumerate(words):
        index_at[position] = index
        position += len(word) + 1
    starts: dict[int, float] = {}
    for position, seconds in events:
        if position in index_at:
            starts.setdefault(index_at[position], seconds)
    return [starts[i] for i in range(len(words))] if len(starts) == len(words) else None
