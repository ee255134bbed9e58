"""A recording while it arrives: a place in the box, a file that grows, and at its end a job."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tasks import media, reuse, store
from tasks.capacity import SPARE_BYTES, Limits, disk_full, too_large
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, Source
from tasks.lookout import Lookout
from tasks.names import clean_name
from tasks.queue import Queue

logger = logging.getLogger(__name__)


def digest_for(submitter: str, key: str = "") -> Any:
    """What counts a recording's bytes: only under a submitter's key can it be the same as an earlier one, and only
    under a submission's own name is it compared with another. Else counting would halve the rate of what comes in."""
    return hashlib.sha256() if submitter or key else None


class Place(Protocol):
    """What is needed of the box that receives it."""

    config: Config
    database: Database
    queue: Queue
    lookout: Lookout

    def get(self, job_id: str) -> Job: ...


@dataclass
class Receiving:
    """A place taken for a recording that arrives: write its bytes, then `queue` it.

    digest: SHA-256 of them as they come, None where nobody will compare them (see `digest_for`)."""

    box: Place
    job_id: str
    source: Source
    part: media.Part
    limits: Limits
    digest: Any
    job: Job | None = None
    adopted: bool = False

    def write(self, *chunks: bytes) -> None:
        """Blocks on the disk. Raises StenoboxError too_large or disk_full."""
        if self.part.size + sum(map(len, chunks)) > self.limits.max_bytes:
            raise too_large(self.limits)
        if self.box.lookout.disk_free() < SPARE_BYTES:  # by others' uploads, or it didn't say how much would come
            raise disk_full()
        self.part.write(*chunks)
        if self.digest is not None:
            for chunk in chunks:
                self.digest.update(chunk)

    def adopt(self, path: Path, sha256: str | None) -> None:
        """Take another job's file as it is, instead of writing one. sha256: its digest, None if that isn't known."""
        self.part.adopt(path)
        self.source, self.adopted = replace(self.source, sha256=sha256), True

    def queue(self, params: Params, name: str | None = None) -> Job:
        """All bytes are here: once this returns, the job survives any crash. Raises StenoboxError."""
        if not self.part.size:
            raise StenoboxError("empty_file", "The file is empty. Choose another one.", param="file")
        try:
            self.part.keep()
        except StenoboxError:
            self.box.get(self.job_id)  # deleted meanwhile, and its folder with it: that is what to say
            raise
        name = clean_name(name or self.source.name)
        sha256 = self.digest.hexdigest() if self.digest is not None and not self.adopted else self.source.sha256
        source = replace(self.source, bytes=self.part.size, name=name, sha256=sha256)
        config, database, job = self.box.config, self.box.database, None
        if self.limits.reuse and not params.kind.light:
            job = reuse.complete(config, database, self.job_id, source, params)
        job = job or store.queue_if_receiving(database, self.job_id, source, params)
        if job is None:
            raise StenoboxError("not_found", "The job was deleted while its recording arrived.")
        self.job = job
        logger.info("job %s: accepted, %d bytes", job.id, self.part.size)
        if job.finished:
            self.box.lookout.forget()
        else:
            self.box.queue.wake(job.id)
        return job
