"""A pool of clips spoken by espeak-ng, and utterances of up to 30 s put together from it."""

from __future__ import annotations

import pickle
from multiprocessing import Pool as Processes
from pathlib import Path
from typing import NamedTuple

import numpy as np
from espeak import Words, say
from words import RATE, WORDS_OF

# Tests use these voices; the held-out ones only ever measure how far the models generalise.
TRAINING_VOICES = ["", *"+m1 +m2 +m3 +m4 +m5 +m6 +f1 +f2 +f3 +f5 +Alex +linda +Lee +steph".split()]  # noqa: SIM905
HELD_OUT_VOICES = ["+m7", "+f4", "+Andy"]
ACCENTS = {"en": ["en-us", "en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan"], "de": ["de"]}
BATCH = 250  # clips a job


class Clip(NamedTuple):
    offset: int
    length: int
    words: Words
    language: str
    voice: str


def make_pool(folder: Path, phrases: dict[str, int], singles: dict[str, int], processes: int) -> None:
    """Write pool.npy (int16) and pool.pickle (the clips in it).

    phrases and singles: clips a language, of 2 to 8 words and of one.
    """
    jobs = []
    for seed, (kind, counts) in enumerate((("phrase", phrases), ("single", singles))):
        for language, count in counts.items():
            for start in range(0, count, BATCH):
                size = min(BATCH, count - start)
                jobs.append((language, size, 1_000_000 * seed + 100_000 * (language == "de") + start, kind))
    sounds: list[np.ndarray] = []
    clips: list[Clip] = []
    offset = 0
    with Processes(processes) as pool:
        for made in pool.imap(_speak_many, jobs):
            for sound, words, language, voice in made:
                sounds.append(sound)
                clips.append(Clip(offset, len(sound), words, language, voice))
                offset += len(sound)
    np.save(folder / "pool.npy", np.concatenate(sounds))
    (folder / "pool.pickle").write_bytes(pickle.dumps([tuple(clip) for clip in clips]))
    print(f"{len(clips)} clips, {offset / RATE / 3600:.2f} h")


def _speak_many(job: tuple[str, int, int, str]) -> list[tuple[np.ndarray, Words, str, str]]:
    language, count, seed, kind = job
    rng = np.random.default_rng(seed)
    known = WORDS_OF[language]
    made = []
    for i in range(count):
        if kind == "single":
            words = [known[(i + seed) % len(known)]]
        else:
            words = [str(word) for word in rng.choice(known, int(rng.integers(2, 9)))]
        voice = str(rng.choice(ACCENTS[language]) + rng.choice(TRAINING_VOICES))
        rate, pitch = int(rng.integers(115, 210)), int(rng.integers(25, 76))
        try:
            spoken = say(words, voice, rate=rate, pitch=pitch, wordgap=int(rng.choice([0, 0, 0, 3, 8])))
        except LookupError:  # a variant that this build of espeak-ng lacks
            continue
        if spoken is not None:
            sound, times = spoken
            sound = sound / (np.abs(sound).max() + 1e-6) * 0.9
            made.append(((sound * 32767).astype(np.int16), times, language, voice))
    return made


class Pool:
    """The clips of `make_pool`, and random utterances from them."""

    def __init__(self, folder: Path) -> None:
        self.sound = np.load(folder / "pool.npy", mmap_mode="r")
        self.clips = [Clip(*clip) for clip in pickle.loads((folder / "pool.pickle").read_bytes())]
        self.by_language: dict[str, list[Clip]] = {}
        self.by_voice: dict[tuple[str, str], list[Clip]] = {}
        for clip in self.clips:
            self.by_language.setdefault(clip.language, []).append(clip)
            self.by_voice.setdefault((clip.language, clip.voice), []).append(clip)
        self.voices = {
            language: sorted(v for of, v in self.by_voice if of == language) for language in self.by_language
        }

    def utterance(
        self, rng: np.random.Generator, longest: float, fill: bool = True, english: float = 0.65
    ) -> tuple[np.ndarray, Words, str]:
        """Float samples at 16 kHz of at most `longest` seconds, their words, and the language.

        fill: use all of the time; english: the share of English.
        """
        language = "en" if rng.random() < english else "de"
        candidates = self.by_language[language]
        if rng.random() < 0.6:  # else every clip is in another voice
            voices = self.voices[language]
            candidates = self.by_voice[(language, voices[rng.integers(len(voices))])]
        sound, words = self._compose(rng, candidates, _target(rng, longest, fill), longest)
        return _spoil(rng, sound, words, longest), words, language

    def _compose(
        self, rng: np.random.Generator, candidates: list[Clip], target: float, longest: float
    ) -> tuple[np.ndarray, Words]:
        """Clips with gaps between them, until the next one would pass the target (in seconds) three times."""
        lead = 0.0 if rng.random() < 0.3 else rng.uniform(0, 0.6)
        longest_gap = rng.choice([0.2, 0.6, 1.2, 3.0])
        at = int(lead * RATE)
        parts = [np.zeros(at, np.float32)]
        words: Words = []
        tries = 0
        while tries < 3:
            clip = candidates[rng.integers(len(candidates))]
            if (at + clip.length) / RATE > target:
                tries += 1
                if not words and clip.length / RATE < longest - 0.05:
                    parts, at, words = [], 0, []  # better one clip without its lead than none
                else:
                    continue
            gain = 10 ** (rng.uniform(-3, 3) / 20)
            parts.append(self.sound[clip.offset : clip.offset + clip.length].astype(np.float32) / 32768 * gain)
            words += [(word, start + at / RATE, end + at / RATE) for word, start, end in clip.words]
            at += clip.length
            if at / RATE > target:
                break
            gap = int(rng.uniform(0.04, longest_gap) * RATE)
            parts.append(np.zeros(gap, np.float32))
            at += gap
        return (np.concatenate(parts) if parts else np.zeros(1600, np.float32)), words


def _target(rng: np.random.Generator, longest: float, fill: bool) -> float:
    """Seconds of speech to aim at: everything, or short ones often."""
    if fill:
        return longest
    if rng.random() < 0.45:
        return rng.uniform(0.8, min(6.0, longest))
    return rng.uniform(min(1.0, longest / 3), longest)


def _spoil(rng: np.random.Generator, sound: np.ndarray, words: Words, longest: float) -> np.ndarray:
    """A random cut of the silence at the end, a level, and sometimes noise or a narrow band."""
    end = int(words[-1][2] * RATE) + int(rng.uniform(0, 0.5) * RATE) if words else len(sound)
    sound = sound[: min(len(sound), end, int(longest * RATE))]
    sound = sound * 10 ** (rng.uniform(-20, 0) / 20)
    if rng.random() < 0.6:
        level = np.sqrt((sound**2).mean()) + 1e-6
        noise = rng.standard_normal(len(sound)).astype(np.float32)
        if rng.random() < 0.5:
            noise = np.convolve(noise, np.ones(6, np.float32) / 2.4, "same")
        sound = sound + noise * level * 10 ** (-rng.uniform(12, 45) / 20)
    if rng.random() < 0.15:
        sound = np.convolve(sound, np.hanning(7).astype(np.float32) / 3, "same")
    return np.clip(sound, -1, 1).astype(np.float32)
