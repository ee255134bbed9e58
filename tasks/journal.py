"""What is already transcribed of a recording, kept beside it until its job ends, so that a killed attempt's work is
not done again.

JSON lines, written by the engine as it goes: what the rest was made from, where speech is, the language, and the words
of one window after another. A line torn by a kill is cut off, and another key starts the file anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import msgspec

logger = logging.getLogger(__name__)

SPEECH_SHARE = 0.2
"""Finding speech takes a fifth of the time of transcribing it, more with the smallest models."""
SYNC_SECONDS = 2.0
"""Work that a machine which loses its power may have to do again; a killed process loses none."""


class Key(msgspec.Struct, frozen=True, tag="key", omit_defaults=True):
    """What the words depend on. sound: a digest of the samples; weights: what tells the model's files from others of
    the same name; versions: of what recognizes. The batch is not among it: it changes no words."""

    model: str
    weights: str
    compute_type: str
    device: str
    language: str | None
    sound: str
    versions: str


class Speech(msgspec.Struct, frozen=True, tag="speech"):
    """Windows with speech in them, (start, end) in seconds, in order; seconds: what finding them took."""

    windows: list[tuple[float, float]]
    seconds: float


class Language(msgspec.Struct, frozen=True, tag="language"):
    """What was detected: a Whisper code."""

    code: str


class Window(msgspec.Struct, frozen=True, tag="window"):
    """The words of the next window. score: their mean log probability; seconds: what recognizing them took."""

    text: str
    score: float | None
    seconds: float


_line = msgspec.json.Decoder(Key | Speech | Language | Window)


class Journal:
    """What is known of one recording, and a way to add to it. Without a file it is remembered only here."""

    def __init__(self) -> None:
        self.key: Key | None = None
        self.speech: list[tuple[float, float]] | None = None
        self.language: str | None = None
        self.windows: list[Window] = []
        self.seconds = 0.0
        self._file: int | None = None
        self._synced = self._lap = time.monotonic()

    @property
    def progress(self) -> float:
        """How much of finding and recognizing speech is done, 0..1."""
        if self.speech is None:
            return 0.0
        return SPEECH_SHARE + (1 - SPEECH_SHARE) * (len(self.windows) / len(self.speech) if self.speech else 1.0)

    def found_speech(self, windows: list[tuple[float, float]]) -> None:
        self._add(Speech(windows, self._seconds()))

    def found_language(self, code: str) -> None:
        self._add(Language(code))

    def found_words(self, text: str, score: float) -> None:
        """Of the next window."""
        self._add(Window(text, score, self._seconds()))

    def begin(self) -> None:
        """Work begins now: what is added next took from here on."""
        self._lap = time.monotonic()

    def _seconds(self) -> float:
        began, self._lap = self._lap, time.monotonic()
        return round(self._lap - began, 3)

    def _add(self, entry: Key | Speech | Language | Window) -> None:
        self._take(entry)
        if self._file is None:
            return
        try:
            line = msgspec.json.encode(entry) + b"\n"
            if os.write(self._file, line) < len(line):
                raise OSError("only a part of a line could be written")
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:  # a full disk: the job can go on, and what it has done so far stays readable
            logger.warning("what is transcribed is no longer kept: %s", error)
            self._file = None

    def _take(self, entry: Key | Speech | Language | Window) -> None:
        match entry:
            case Key():
                self.key = entry
            case Speech():
                self.speech = entry.windows
                self.seconds += entry.seconds
            case Language():
                self.language = entry.code
            case Window():
                self.windows.append(entry)
                self.seconds += entry.seconds


@contextmanager
def resume(path: Path, key: Key) -> Iterator[Journal]:
    """What an earlier attempt with the same key left in the file, and what this one adds.

    Who finds the file in another's hands (an engine that was frozen, and may thaw) reads it and adds nothing. So does
    who can't open it. Its `seconds` are the earlier attempts' until something is added.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        logger.warning("what is transcribed is not kept: %s", error)
        yield Journal()
        return
    try:
        yield _read_or_begin(file, key)
    finally:
        os.close(file)  # and so gives the lock back


def _read_or_begin(file: int, key: Key) -> Journal:
    try:
        return _read(file, key)
    except OSError as error:  # a broken disk: the recording itself may be readable
        logger.warning("what was transcribed can't be read: %s", error)
        return Journal()


def _read(file: int, key: Key) -> Journal:
    mine = True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        mine = False
    found, end = _entries(file)
    journal = found if found.key == key else Journal()
    if mine:
        keep = end if journal is found else 0
        os.ftruncate(file, keep)
        os.lseek(file, keep, os.SEEK_SET)
        journal._file = file
        if not keep:
            journal._add(key)
    return journal


def _entries(file: int) -> tuple[Journal, int]:
    """What the whole lines say, and where they end."""
    journal, end = Journal(), 0
    with open(file, "rb", closefd=False) as lines:
        for line in lines:
            try:
                if not line.endswith(b"\n"):
                    break
                journal._take(_line.decode(line))
            except msgspec.MsgspecError:
                break
            end += len(line)
    return journal, end


def progress(path: Path) -> float:
    """How much of a recording's speech an earlier attempt has recognized, 0..1; 0 where there is nothing."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0.0
    try:
        return _entries(file)[0].progress
    except OSError:  # a broken disk
        return 0.0
    finally:
        os.close(file)


def digest(sound: Path) -> str:
    """Of a file of samples, read in pieces: a third of a second for an hour."""
    with open(sound, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> str:
    """Of the libraries that recognize: another one may hear other words."""
    return " ".join(f"{name} {version(name)}" for name in ("whisperx", "ctranslate2"))


def weights(folder: Path) -> str:
    """What tells a model's files from others that had the same name."""
    try:
        found = (folder / "model.bin").stat()
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"
