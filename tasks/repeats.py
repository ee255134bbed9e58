"""The same submission sent again (Idempotency-Key, draft-ietf-httpapi-idempotency-key-header): it gets the same job.

A key names one submission of one submitter for as long as its job is there, and for at least a day.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tasks import store
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, State

HEADER = "Idempotency-Key"
KEEP_SECONDS = 86_400.0
"""How long a key outlives its acceptance, whatever becomes of its job."""
AGAIN_SECONDS = 2
"""When to ask again while the first one with this key is still arriving."""
SMALL_BYTES = 64 * 2**20
"""A repeat that may be larger is refused before it is sent while the first one is still arriving."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def check_key(text: str | None) -> str:
    """The key of a header: up to 255 visible ASCII characters, with or without the quotes of a structured field.

    None: there is none, which is "". Raises StenoboxError invalid_value, also for a header without a key: who sends one
    believes to be safe.
    """
    if text is None:
        return ""
    key = text.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise StenoboxError(
            "invalid_value",
            f"{HEADER} must be 1 to 255 visible ASCII characters without spaces. Send a random one, such as a UUID.",
            param=HEADER,
        )
    return key


def find(database: Database, submitter: str, key: str, is_same: Callable[[Job], bool]) -> Job | None:
    """The job that this key stands for; None when it is free. is_same: whether the job is what is asked for now.

    For submissions that are known at once; a recording that has to arrive first is a `Repeat`.
    Raises StenoboxError idempotency_in_progress, idempotency_mismatch, idempotency_gone.
    """
    job_id = store.find_key(database, submitter, key) if key else None
    if job_id is None:
        return None
    job = store.get(database, job_id)
    if job is None:
        raise gone()
    if job.state == State.RECEIVING:
        raise in_progress()
    if not is_same(job):
        raise mismatch()
    return job


@dataclass
class Repeat:
    """A recording under a key that is taken: its bytes are compared, not kept, and it takes no place.

    Used as `actions.Receiving` is. Raises what `find` raises, as soon as it is known.
    """

    database: Database
    submitter: str
    key: str
    size: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)
    _bytes: int | None = None

    def begin(self, size: int | None) -> None:
        """What can be said before the body comes. size: bytes that it has at least, None if unknown."""
        job = self._job()
        if job.state == State.RECEIVING and size is not None and size > SMALL_BYTES:
            raise in_progress()
        if job.state != State.RECEIVING:
            self._bytes = job.source.bytes
        self._check(size or 0)

    def write(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.size += len(chunk)
            self._check(self.size)
            self._digest.update(chunk)

    def settled(self) -> bool:
        """Whether the first one with this key has arrived, or broken."""
        return self._job().state != State.RECEIVING

    def queue(self, params: Params, name: str | None = None) -> Job:
        """The job, if it is the same recording with the same parameters. name: makes no difference."""
        job = self._job()
        if job.state == State.RECEIVING:
            raise in_progress()
        sent = (self.size, self._digest.hexdigest(), params)
        if sent != (job.source.bytes, job.source.sha256, job.params):
            raise mismatch()
        return job

    def _check(self, size: int) -> None:
        if self._bytes is not None and size > self._bytes:
            raise mismatch()

    def _job(self) -> Job:
        job_id = store.find_key(self.database, self.submitter, self.key)
        if job_id is None:  # the first one broke meanwhile: the next try takes its place
            raise in_progress()
        job = store.get(self.database, job_id)
        if job is None:
            raise gone()
        return job


def in_progress() -> StenoboxError:
    return StenoboxError(
        "idempotency_in_progress",
        f"A request with this {HEADER} is still arriving. Send this one again in {AGAIN_SECONDS} s.",
        param=HEADER,
        retry_after=AGAIN_SECONDS,
    )


def mismatch() -> StenoboxError:
    return StenoboxError(
        "idempotency_mismatch",
        f"This {HEADER} was used for another recording or other parameters. Send a new key with a new request.",
        param=HEADER,
    )


def gone() -> StenoboxError:
    return StenoboxError(
        "idempotency_gone",
        f"The job that was sent with this {HEADER} has been deleted. Send a new key to have it done again.",
        param=HEADER,
    )
