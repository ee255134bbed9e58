"""What is kept of a recording's words: whatever was cut off, by whomever, what was whole is found again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from tasks import journal
from tasks.journal import Journal, Key, resume

KEY = Key("demo", "1-2", "int8", "cpu", None, "f00d", "whisperx 1")
SPEECH = [(0.5, 20.25), (21.0, 48.1), (50.0, 61.7)]


def write(path: Path, words: int = 2, key: Key = KEY) -> None:
    with resume(path, key) as kept:
        kept.begin()
        kept.found_speech(SPEECH)
        kept.found_language("de")
        for number in range(words):
            kept.found_words(f" window {number}", -0.1 - number / 3)


def read(path: Path, key: Key = KEY) -> Journal:
    with resume(path, key) as kept:
        return kept


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_what_was_written_is_found_again(path: Path) -> None:
    write(path)
    found = read(path)
    assert found.speech == SPEECH
    assert found.language == "de"
    assert [(window.text, window.score) for window in found.windows] == [
        (" window 0", -0.1),
        (" window 1", -0.1 - 1 / 3),  # to the last digit
    ]
    assert found.seconds == pytest.approx(sum(window.seconds for window in found.windows), abs=1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_comes_next_is_added(path: Path) -> None:
    write(path)
    before = path.read_bytes()
    with resume(path, KEY) as kept:
        kept.found_words(" window 2", -1.0)
    assert path.read_bytes().startswith(before)
    assert len(read(path).windows) == 3


def test_progress(path: Path) -> None:
    assert journal.progress(path) == 0
    with resume(path, KEY) as kept:
        assert journal.progress(path) == kept.progress == 0
        kept.found_speech(SPEECH)
        assert journal.progress(path) == kept.progress == pytest.approx(0.2)
        kept.found_words("", None)  # type: ignore[arg-type]
        assert journal.progress(path) == kept.progress == pytest.approx(0.2 + 0.8 / 3)
        for _ in range(2):
            kept.found_words("", -1.0)
        assert journal.progress(path) == kept.progress == 1


def test_without_speech_all_is_done(path: Path) -> None:
    with resume(path, KEY) as kept:
        kept.found_speech([])
    assert read(path).speech == []
    assert journal.progress(path) == 1


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_line_is_cut_off_and_the_next_one_is_whole(path: Path, cut: int) -> None:
    write(path)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    path.write_bytes(whole[:-cut])
    assert cut < last
    with resume(path, KEY) as kept:
        assert len(kept.windows) == 1
        kept.found_words(" again", -1.0)
    assert [window.text for window in read(path).windows] == [" window 0", " again"]


@pytest.mark.parametrize(
    "damage", [b"\0" * 200, b"\0" * 200 + b"\n", b"{}\n", b"[1]\n", b'{"type":"window"}\n', b"\xff\n"]
)
def test_damage_ends_what_is_believed(path: Path, damage: bytes) -> None:
    write(path, words=1)
    whole = path.read_bytes()
    path.write_bytes(whole + damage + msgspec.json.encode(journal.Window(" late", -1.0, 0.0)) + b"\n")
    assert [window.text for window in read(path).windows] == [" window 0"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("field", Key.__struct_fields__)
def test_another_key_starts_anew(path: Path, field: str) -> None:
    write(path)
    other = msgspec.structs.replace(KEY, **{field: "other"})
    found = read(path, other)
    assert (found.speech, found.language, found.windows, found.seconds) == (None, None, [], 0)
    assert read(path, other).key == other
    assert read(path).windows == []  # nor is the old one left


def test_a_file_of_something_else_is_replaced(path: Path) -> None:
    path.write_bytes(b"\x00\x01 not ours")
    write(path, words=1)
    assert len(read(path).windows) == 1


def test_who_finds_it_in_another_ones_hands_reads_only(path: Path) -> None:
    """An engine that was frozen past its lease and thaws still has the file open."""
    write(path, words=1)
    with resume(path, KEY) as frozen:
        with resume(path, KEY) as kept:
            assert len(kept.windows) == 1
            kept.found_words(" mine", -1.0)
            assert len(kept.windows) == 2
        frozen.found_words(" thawed", -1.0)
    assert [window.text for window in read(path).windows] == [" window 0", " thawed"]


def test_a_folder_that_is_gone_costs_the_journal_only(tmp_path: Path) -> None:
    with resume(tmp_path / "deleted" / "journal", KEY) as kept:
        kept.found_speech(SPEECH)
        assert kept.progress == pytest.approx(0.2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", [None, 5], ids=["nothing", "a part"])
def test_a_full_disk_ends_the_keeping_and_not_the_work(
    path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None
) -> None:
    write(path, words=1)
    real = os.write

    def full(file: int, data: bytes) -> int:
        if written is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[:written])

    with resume(path, KEY) as kept:
        monkeypatch.setattr(os, "write", full)
        kept.found_words(" not kept", -1.0)
        monkeypatch.undo()
        kept.found_words(" nor this: it would follow half a line", -1.0)
        assert len(kept.windows) == 3
    assert [window.text for window in read(path).windows] == [" window 0"]


def test_a_broken_disk_costs_the_journal_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", broken)
    with resume(path, KEY) as kept:
        kept.found_speech(SPEECH)
        assert (kept.windows, kept.speech) == ([], SPEECH)
    monkeypatch.setattr(journal, "_entries", broken)
    assert journal.progress(path) == 0.0


def test_it_reaches_the_disk_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write(path)
    assert synced == []  # a disk that is slow must not make recognizing slow
    monkeypatch.setattr(journal, "SYNC_SECONDS", -1.0)
    write(path)
    assert len(synced) >= 2


def test_what_tells_sounds_and_models_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"\0" * 100_000)
    other.write_bytes(b"\0" * 99_999 + b"\1")
    assert journal.digest(one) != journal.digest(other)
    assert journal.digest(one) == journal.digest(one)
    assert journal.weights(tmp_path) == ""
    (tmp_path / "model.bin").write_bytes(b"weights")
    first = journal.weights(tmp_path)
    os.utime(tmp_path / "model.bin", (1, 1))
    assert "" != first != journal.weights(tmp_path)
    assert journal.versions().startswith("whisperx 3.")
