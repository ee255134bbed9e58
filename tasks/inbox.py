"""A watched folder (STENOBOX_INBOX): what is put there is transcribed once, and its words are laid beside it.

    <inbox>/talk.mp3            somebody is putting it there; taken once it has stopped growing
    <inbox>/working/talk.mp3    ours: a job has it, or it waits for room like any client's
    <inbox>/done/talk.mp3       with talk.mp3.txt and talk.mp3.json, its transcript
    <inbox>/failed/talk.mp3     with talk.mp3.error.txt, why

The folders are the state: a rename takes a file, and an Idempotency-Key made from the file itself leads back to its job
after any death, so nothing is sent twice. Only plain files right in the folder count: no links, no folders, no names
that programs use while they write.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks import store
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.jobs import Job, State
from tasks.media import write_durably
from tasks.transcripts import FORMATS

logger = logging.getLogger(__name__)

SUBMITTER = "inbox"
"""Whose its jobs are: it takes turns with others, and a limit per key counts for it."""
LOOK_SECONDS = 2.0
SETTLE_SECONDS = 5.0
"""A file whose size and time stood still for so long has arrived."""
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".filepart", "~")
"""Names that browsers and copying programs give to what they are still writing."""
SIDECARS = ("txt", "json")
PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Still:
    """What a file looked like, and since when (monotonic seconds) it has not changed."""

    size: int
    mtime_ns: int
    since: float


class Inbox:
    """Of the web process, which is what receives. One thread; `look` is one round of it."""

    def __init__(self, box: Box, folder: Path) -> None:
        self._box = box
        self._folder = folder
        self.working, self.done, self.failed = folder / "working", folder / "done", folder / "failed"
        self._still: dict[str, _Still] = {}
        self._not_before = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="inbox")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing of it runs any more; a file that was being read is read again at the next start."""
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        """Take what has arrived, hand in what there is room for, lay out what is finished. Raises OSError."""
        for folder in (self.working, self.done, self.failed):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.is_symlink():  # whoever may write into the inbox could lead it anywhere
                raise OSError(f"{folder} is a link; make it a folder")
        for path in self._arrived():
            # One that has a key here was put back after its end, to be done again: while it is ours it is in `working`.
            store.free_key_if_over(self._box.database, SUBMITTER, _key(path))
            path.rename(_free(self.working / path.name))
        for path in sorted(self._plain(self.working), key=lambda path: path.stat().st_mtime):
            self._advance(path)

    def _run(self) -> None:
        told = ""
        while not self._over.wait(LOOK_SECONDS):
            try:
                self.look()
                told = ""
            except OSError as error:  # an unplugged disk, a full one: later will do
                if str(error) != told:
                    logger.warning("the inbox %s can't be used: %s", self._folder, error)
                told = str(error)
            except StenoboxError as error:
                logger.warning("the inbox waits: %s", error.message)
            except Exception:
                logger.exception("the inbox failed; going on")

    def _arrived(self) -> list[Path]:
        now, seen, settled = time.monotonic(), {}, []
        for path in self._plain(self._folder):
            if path.name.startswith(".") or path.name.lower().endswith(UNFINISHED):
                continue
            found = path.stat(follow_symlinks=False)
            before = self._still.get(path.name)
            if before is None or (before.size, before.mtime_ns) != (found.st_size, found.st_mtime_ns):
                before = _Still(found.st_size, found.st_mtime_ns, now)
            seen[path.name] = before
            if now - before.since >= SETTLE_SECONDS:
                settled.append(path)
        self._still = seen
        return settled

    @staticmethod
    def _plain(folder: Path) -> list[Path]:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]

    def _advance(self, path: Path) -> None:
        job_id = store.find_key(self._box.database, SUBMITTER, _key(path))
        if job_id is None:
            if time.monotonic() >= self._not_before and not self._over.is_set():
                self._submit(path)
            return
        job = store.get(self._box.database, job_id)
        if job is None:
            self._fail(path, "Its job was deleted before it was finished.")
        elif job.state == State.COMPLETED:
            self._finish(path, job)
        elif job.state == State.FAILED:
            self._fail(path, job.error.message if job.error else "It failed.")
        elif job.state == State.CANCELED:
            self._fail(path, "Its job was canceled.")

    def _submit(self, path: Path) -> None:
        try:
            with _open(path) as file, self._box.receive(
                path.name, os.fstat(file.fileno()).st_size, "inbox", SUBMITTER, SUBMITTER, _key(path)
            ) as receiving:  # fmt: skip
                while piece := file.read(PIECE_BYTES):
                    if self._over.is_set():  # its place is given back, and it is read again at the next start
                        return
                    receiving.write(piece)
                receiving.queue(self._box.params(None, None))
        except StenoboxError as refusal:
            if refusal.kind.retryable:
                self._not_before = time.monotonic() + (refusal.retry_after or LOOK_SECONDS)
            else:
                self._fail(path, refusal.message)

    def _finish(self, path: Path, job: Job) -> None:
        try:
            transcript = self._box.transcript(job)
        except StenoboxError as error:
            self._fail(path, error.message)
            return
        target = _free(self.done / path.name)
        for form in SIDECARS:
            write_durably(target.with_name(f"{target.name}.{form}"), FORMATS[form].write(transcript).encode())
        path.rename(target)  # last: until then everything is done again
        logger.info("job %s: its words are beside the recording in the inbox", job.id)

    def _fail(self, path: Path, sentence: str) -> None:
        target = _free(self.failed / path.name)
        write_durably(target.with_name(f"{target.name}.error.txt"), f"{sentence}\n".encode())
        path.rename(target)


def _key(path: Path) -> str:
    """Stands for this file as it is: another one of the same name, or a changed one, has another."""
    found = path.stat(follow_symlinks=False)
    told = f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"  # not the device, whose number a restart may change
    return hashlib.sha256(told.encode()).hexdigest()


def _open(path: Path) -> BinaryIO:
    """For reading, if it still is a plain file: whoever may write into the inbox could have laid a link there."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is not a plain file")
    return open(handle, "rb")


def _free(target: Path) -> Path:
    """The path, or one with a number that nothing has yet: "talk (2).mp3"."""
    number, free = 1, target
    while free.exists() or free.is_symlink():
        number += 1
        free = target.with_name(f"{target.stem} ({number}){target.suffix}")
    return free
