"""A watched folder (STENOBOX_INBOX): what is put there is transcribed once, and its words are laid beside it.

    <inbox>/talk.mp3            somebody is putting it there; taken once it has arrived (see `arrivals`)
    <inbox>/working/talk.mp3    ours: a job has it, or it waits for room like any client's
    <inbox>/done/talk.mp3       with talk.mp3.txt and talk.mp3.json, its transcript
    <inbox>/failed/talk.mp3     with talk.mp3.error.txt, why

The folders are the state: a rename takes a file, and an Idempotency-Key made from the file itself leads back to its job
after any death, so nothing is sent twice. Folders in the folder are looked into and come back as they were. No file's
trouble is another's: each is told once and tried again a minute later.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks import store
from tasks.actions import Box
from tasks.arrivals import OURS, Arrivals, recordings
from tasks.errors import StenoboxError
from tasks.jobs import Job, State
from tasks.transcripts import FORMATS

logger = logging.getLogger(__name__)

SUBMITTER = "inbox"
"""Whose its jobs are: it takes turns with others, and a limit per key counts for it."""
LOOK_SECONDS = 2.0
AGAIN_SECONDS = 60.0
"""Until a file that made trouble is tried again."""
WATCHED_SECONDS = 3600.0
"""How long a file that is done is looked at: if it still changes, what was read was a part of it."""
PIECE_BYTES = 2**20
_FULL = (429, 503, 507)
"""Refusals that are the box's and not the file's."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    sentence: str
    again: float


@dataclass(frozen=True, slots=True)
class _Laid:
    """A file at its end. key: of what was read; beside: what was laid there; until: how long it is watched."""

    key: str
    beside: tuple[Path, ...]
    until: float


class Inbox:
    """Of the web process, which is what receives. One thread; `look` is one round of it."""

    def __init__(self, box: Box, folder: Path) -> None:
        self._box = box
        self._folder = folder
        self.working, self.done, self.failed = (folder / name for name in OURS)
        self._arrivals = Arrivals(folder, box.config.inbox_settle, self._tell_of_folder)
        self._laid: dict[Path, _Laid] = {}
        self._troubles: dict[Path, _Trouble] = {}
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
        """Take what has arrived, hand in what there is room for, lay out what is finished. Raises OSError of the folder
        as a whole, and StenoboxError of a database that is busy."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.working, self.done, self.failed):
            self._make(folder)
        for path in list(self._laid):
            with self._apart(path):
                self._look_again(path)
        for path in self._arrivals.settled():
            with self._apart(path):
                self._take(path)
        for path in sorted(recordings(self.working, lambda error: None), key=_changed_at):
            if self._may_be_tried(path):
                with self._apart(path):
                    self._advance(path)
        self._troubles = {path: trouble for path, trouble in self._troubles.items() if os.path.lexists(path)}

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
                if error.message != told:
                    logger.warning("the inbox waits: %s", error.message)
                told = error.message
            except Exception:
                logger.exception("the inbox failed; going on")

    # One file's trouble

    @contextmanager
    def _apart(self, path: Path) -> Iterator[None]:
        """Whatever goes wrong with this file is told, and is not the next one's."""
        try:
            yield
            self._troubles.pop(path, None)
        except OSError as error:
            self._tell(path, error)
        except StenoboxError as error:
            if error.code == "database_busy":
                raise
            self._tell(path, error)
        except Exception as error:
            logger.exception("the inbox: %s", path.name)
            self._tell(path, error)

    def _tell(self, path: Path, error: Exception) -> None:
        sentence = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        known = self._troubles.get(path)
        if known is None or known.sentence != sentence:
            name = path.relative_to(self._folder) if path.is_relative_to(self._folder) else path
            logger.warning("the inbox: %r waits: %s", str(name), sentence)
        self._troubles[path] = _Trouble(sentence, time.monotonic() + AGAIN_SECONDS)

    def _tell_of_folder(self, error: OSError) -> None:
        self._tell(Path(error.filename or self._folder), error)

    def _may_be_tried(self, path: Path) -> bool:
        trouble = self._troubles.get(path)
        return trouble is None or time.monotonic() >= trouble.again

    # One file's way

    def _take(self, path: Path) -> None:
        if not self._may_be_tried(path):
            return
        # One that has a key here was put back after its end, to be done again: while it is ours it is in `working`.
        store.free_key_if_over(self._box.database, SUBMITTER, _key(path))
        path.rename(self._place(self.working, path))

    def _advance(self, path: Path) -> None:
        key = _key(path)
        job_id = store.find_key(self._box.database, SUBMITTER, key)
        if job_id is None:
            if time.monotonic() >= self._not_before and not self._over.is_set():
                self._submit(path, key)
            return
        job = store.get(self._box.database, job_id)
        if job is None:
            self._fail(path, key, "Its job was deleted before it was finished.")
        elif job.state == State.COMPLETED:
            self._finish(path, key, job)
        elif job.state == State.FAILED:
            self._fail(path, key, job.error.message if job.error else "It failed.")
        elif job.state == State.CANCELED:
            self._fail(path, key, "Its job was canceled.")

    def _submit(self, path: Path, key: str) -> None:
        try:
            file = _open(path)
        except OSError as error:
            self._fail(path, key, f"This box may not read it: {error.strerror or error}. Change its mode or its owner.")
            return
        try:
            self._read(file, path, key)
        except StenoboxError as refusal:
            if refusal.kind.status in _FULL:
                self._not_before = time.monotonic() + (refusal.retry_after or LOOK_SECONDS)
            elif refusal.kind.retryable:
                raise
            else:
                self._fail(path, key, refusal.message)

    def _read(self, file: BinaryIO, path: Path, key: str) -> None:
        config = self._box.config
        with file, self._box.receive(
            path.name, os.fstat(file.fileno()).st_size, "inbox", SUBMITTER, SUBMITTER, key
        ) as receiving:  # fmt: skip
            while piece := file.read(PIECE_BYTES):
                if self._over.is_set():  # its place is given back, and it is read again at the next start
                    return
                receiving.write(piece)
            if _key(path) == key:  # else it changed while it was read: what it is now is read in the next round
                receiving.queue(self._box.params(config.inbox_model or None, config.inbox_language or None))

    def _finish(self, path: Path, key: str, job: Job) -> None:
        try:
            transcript = self._box.transcript(job)
        except StenoboxError as error:
            if error.code == "database_busy":
                raise
            self._fail(path, key, error.message)
            return
        forms = {form: FORMATS[form].write(transcript) for form in self._box.config.inbox_forms}
        self._lay(path, key, self.done, forms)
        logger.info("job %s: its words are beside the recording in the inbox", job.id)

    def _fail(self, path: Path, key: str, sentence: str) -> None:
        self._lay(path, key, self.failed, {"error.txt": f"{sentence}\n"})
        logger.warning("the inbox: %r failed: %s", str(path.relative_to(self.working)), sentence)

    def _lay(self, path: Path, key: str, folder: Path, texts: dict[str, str]) -> None:
        """Move a file to its end, after what belongs beside it is there."""
        target = self._place(folder, path)
        beside = []
        for ending, text in texts.items():
            beside.append(_fitting(target, f".{ending}"))
            self._write(beside[-1], text.encode())
        path.rename(target)  # last: until then everything is done again
        self._laid[target] = _Laid(key, tuple(beside), time.monotonic() + WATCHED_SECONDS)
        for parent in path.relative_to(self.working).parents[:-1]:  # folders in ours that are empty now
            with contextlib.suppress(OSError):
                (self.working / parent).rmdir()

    def _look_again(self, path: Path) -> None:
        """One that goes on growing at its end had only paused when it was taken: it is done anew, as a whole."""
        laid = self._laid[path]
        try:
            changed = _key(path) != laid.key
        except OSError:  # taken away, as it should be
            changed, laid = False, _Laid(laid.key, (), 0.0)
        if changed:
            logger.warning("the inbox: %r has changed since it was read; it is read again", path.name)
            for beside in laid.beside:
                beside.unlink(missing_ok=True)
            path.rename(self._place(self._folder, path))
        if changed or time.monotonic() >= laid.until:
            del self._laid[path]

    # Where things go

    def _place(self, root: Path, path: Path) -> Path:
        """A free name for a file below another root, in folders as those it was in."""
        inner = path.relative_to(self._folder)
        inner = inner.relative_to(inner.parts[0]) if inner.parts[0] in OURS else inner
        for parent in reversed((root / inner).parents):
            if parent.is_relative_to(self._folder) and parent != self._folder:
                self._make(parent)
        return _free(root / inner)

    def _make(self, folder: Path) -> None:
        """A folder of ours, for the same people as the inbox. Raises OSError when it is a link: whoever may write into
        the inbox could lead it anywhere."""
        if folder.is_symlink():
            raise OSError(f"{folder} is a link; make it a folder")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            self._share(handle, 0o2777, 0o700)
        finally:
            os.close(handle)

    def _share(self, handle: int, mask: int, least: int) -> None:
        """Give what is open to those whose the inbox is."""
        like = self._folder.stat()
        with contextlib.suppress(OSError):  # another group is only a member's to give
            os.fchown(handle, -1, like.st_gid)
        with contextlib.suppress(OSError):
            os.fchmod(handle, like.st_mode & mask | least)

    def _write(self, path: Path, data: bytes) -> None:
        """A whole file or none, readable by those who may read the inbox."""
        part = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}")
        part.unlink(missing_ok=True)
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(data)
                self._share(file.fileno(), 0o666, 0o600)
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _changed_at(path: Path) -> float:
    try:
        return path.stat(follow_symlinks=False).st_mtime
    except OSError:  # taken away meanwhile
        return 0.0


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
    number, free, suffix = 1, target, target.suffix
    if len(suffix) > 9:  # no file type, just a late dot
        suffix = ""
    while os.path.lexists(free):
        number += 1
        free = _fitting(target.with_name(target.name.removesuffix(suffix)), f" ({number}){suffix}")
    return free


def _fitting(path: Path, ending: str) -> Path:
    """The path with this ending; of a name that has no room for it, as much as there is and a few letters that keep
    it apart from others."""
    try:
        most = os.pathconf(path.parent, "PC_NAME_MAX")
    except (OSError, ValueError):
        most = 255
    name = os.fsencode(path.name)
    if len(name) + len(os.fsencode(ending)) <= most:
        return path.with_name(path.name + ending)
    apart = f"~{hashlib.sha256(name).hexdigest()[:6]}{ending}"
    kept = name[: most - len(os.fsencode(apart))]
    return path.with_name(kept.decode("utf-8", "ignore") + apart)
