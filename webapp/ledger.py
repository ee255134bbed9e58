"""What `stenobox submit` remembers between two runs: one small JSON file, replaced as a whole after each step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import StenoboxError
from tasks.media import write_durably
from tasks.repeats import SMALL_BYTES

VERSION = 1


@dataclass
class Entry:
    """One recording of a batch. It is the same one as long as path, size and time of change are; of a link, the URL.

    state: new; sending: an attempt has begun and its answer is not known; sent: the box has it; done; failed.
    attempt: the box's clock when the last attempt began; job: its id on the box; saved: name of the transcript's file;
    error: a sentence; asked: attempts that ended in a fault of the box; key: by which the box knows this submission
    again (Idempotency-Key), "" before the first attempt.
    """

    path: str
    bytes: int
    changed: int
    state: str = "new"
    attempt: float = 0.0
    job: str | None = None
    saved: str | None = None
    error: str | None = None
    asked: int = field(default=0, compare=False)
    key: str = ""

    @property
    def link(self) -> bool:
        """Whether `path` is a URL. Paths of files are absolute."""
        return self.path.startswith(("http://", "https://"))

    @property
    def dear(self) -> bool:
        """Whether it is looked up before it is sent again: it is large, or an earlier version's, without a key."""
        return not self.key or (not self.link and self.bytes > SMALL_BYTES)

    @property
    def name(self) -> str:
        """For people: the file's name, or the link without its query."""
        return self.path.partition("?")[0] if self.link else Path(self.path).name


class Ledger:
    """The entries of all batches that used this file. scope: what else makes a submission another one."""

    def __init__(self, path: Path, scope: str) -> None:
        self._path = path
        self._scope = scope
        self._all: dict[str, Entry] = {}

    def entry(self, path: Path | str) -> Entry:
        """The entry of a recording, from an earlier run or new. A link is text. Raises OSError when a file is not
        there."""
        if isinstance(path, str):
            return self._all.setdefault(json.dumps([self._scope, path]), Entry(path, 0, 0))
        status, name = path.stat(), str(path.absolute())
        key = json.dumps([self._scope, name, status.st_size, status.st_mtime_ns])
        return self._all.setdefault(key, Entry(name, status.st_size, status.st_mtime_ns))

    def jobs(self) -> set[str]:
        """Jobs that belong to an entry."""
        return {entry.job for entry in self._all.values() if entry.job}

    def names(self) -> set[str]:
        """Names of transcripts that belong to an entry."""
        return {entry.saved for entry in self._all.values() if entry.saved}

    def save(self) -> None:
        """Write it all. Survives a loss of power; a reader sees the old or the new, never a part."""
        entries = {key: asdict(entry) for key, entry in self._all.items()}
        write_durably(self._path, json.dumps({"version": VERSION, "entries": entries}, indent=0).encode())

    def read(self) -> None:
        """Read what an earlier run left. Raises StenoboxError when the file is something else."""
        try:
            found = json.loads(self._path.read_bytes())
            if found["version"] != VERSION:
                raise ValueError
            self._all = {key: Entry(**entry) for key, entry in found["entries"].items()}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StenoboxError(
                "invalid_value",
                f"{self._path} is not a state file of stenobox submit. Move it away, or name another with --state; "
                "without it, recordings that were sent before are sent again.",
            ) from None


@contextmanager
def open_ledger(path: Path, scope: str) -> Iterator[Ledger]:
    """The state file, for one run at a time. Raises StenoboxError while another run has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=0):
            ledger = Ledger(path, scope)
            ledger.read()
            ledger.save()  # said now if it can't be written, not after the first upload
            yield ledger
    except Timeout:
        raise StenoboxError("wrong_state", f"Another stenobox submit is at work with {path}. Let it finish.") from None
    except PermissionError as error:
        raise StenoboxError("invalid_value", f"{error.filename} can't be written. Name a place with --state.") from None
