"""Uploads that may break off and go on: a receiving job that outlives connections and processes, for a while.

Its bytes are the file's: what is on disk is what has come, whatever became of the process that wrote it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tasks import batches, media, store
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, Source, State, is_id
from tasks.names import clean_name
from tasks.receiving import Receiving, digest_for
from tasks.store import Plan, Upload

if TYPE_CHECKING:
    from hashlib import _Hash

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 3600.0
"""How long an upload keeps its place without a byte: a train's tunnel or a laptop's lunch, not a night."""
EMPTY_SECONDS = 600.0
"""The same before its first byte: a page that was closed, or a client that only tries, shuts nobody out for longer."""
WANTED_SECONDS = 30.0
"""The same while others are refused for want of a place: a client that means it sends at once."""
ASKED_SECONDS = 60.0
"""So long after a refusal the places count as wanted: who was refused is still about, and this is looked at seldom."""
REMEMBERED_SECONDS = 86_400.0
"""How much longer it is known that there was one: its client is told so, instead of that there never was."""
HASHES = ("sha1", "sha256", "sha512", "md5")


def begin(
    box: Box, name: str, length: int | None, plan: tuple[Params, str, bool], submitter: str = "", asker: str = "",
    batch: str = "",
) -> Upload:  # fmt: skip
    """Take a place for an upload. length: bytes, None if it is told later; plan: what becomes of it, its metadata as
    sent, and whether it is queued once complete; batch: as for `batches.enter`. Raises the refusal."""
    if length == 0:
        raise StenoboxError("empty_file", "The file is empty. Choose another one.", param="Upload-Length")
    source = Source("upload", clean_name(name), length)
    job_id = box.admit(source, submitter, asker, plan=Plan(*plan, expires_at=time.time() + EMPTY_SECONDS))
    try:
        batches.enter_job(box, job_id, batch)
        with media.Part(box.config, job_id):
            pass
    except StenoboxError:
        store.drop_if_receiving(box.database, job_id)
        raise
    box.queue.warm(job_id)
    return find(box, job_id, submitter)


def find(box: Box, upload_id: str, submitter: str = "") -> Upload:
    """The upload. Raises StenoboxError not_found for what is not this submitter's, gone for what is over."""
    upload = store.find_upload(box.database, upload_id) if is_id(upload_id) else None
    if upload is None or upload.submitter != submitter:
        raise StenoboxError("not_found", "There is no such upload.")
    if upload.job is None:
        raise StenoboxError("gone", "This upload was given up, or its time was over. Send the file again.")
    return upload


def offset(box: Box, upload: Upload) -> int:
    """Bytes that have come and count. Raises StenoboxError when the file is gone."""
    if not receiving(upload):
        return upload.length or 0
    arrived = media.arrived(box.config, upload.id)
    return arrived if upload.verified_to is None else min(arrived, upload.verified_to)


def receiving(upload: Upload) -> bool:
    """Whether bytes may still come: it is no job yet."""
    return upload.job is not None and upload.job.state == State.RECEIVING


@dataclass
class Slice:
    """Some bytes that arrive at the end of an upload, which is as they have made it. Methods block on disk and
    database: call them from a thread."""

    box: Box
    upload: Upload
    target: Receiving
    start: int
    hash: _Hash | None = None
    came: int = 0

    @property
    def size(self) -> int:
        return self.target.part.size

    def write(self, *chunks: bytes) -> None:
        """Raises StenoboxError too_large, disk_full."""
        length, count = self.upload.length, sum(map(len, chunks))
        if length is not None and self.size + count > length:
            raise StenoboxError("too_large", f"More came than the {length:,} bytes that this upload announced.")
        self.target.write(*chunks)
        self.came += count
        if self.hash is not None:
            for chunk in chunks:
                self.hash.update(chunk)
        with contextlib.suppress(StenoboxError):  # others write now; bytes don't wait for that
            self.lives_on(at_once=True)

    def lives_on(self, *, at_once: bool = False) -> None:
        """One that moves doesn't expire. Seldom noted: each note is a commit. Raises StenoboxError."""
        expires_at = time.time() + (SILENCE_SECONDS if self.size else EMPTY_SECONDS)
        if expires_at - self.upload.expires_at > SILENCE_SECONDS / 8:
            store.note_upload(self.box.database, self.upload.id, at_once=at_once, expires_at=expires_at)
            self.upload = replace(self.upload, expires_at=expires_at)

    def verify(self, digest: bytes) -> None:
        """All of it is here. Raises StenoboxError checksum_mismatch, and the slice is forgotten."""
        assert self.hash is not None
        if self.hash.digest() != digest:
            self.target.part.cut(self.start)
            raise StenoboxError("checksum_mismatch", "What came is not what was sent, by its checksum. Send it again.")
        self.hash = None

    def keep_length(self) -> None:
        """What came was taken: the length that was told with it counts from now on."""
        known = store.find_upload(self.box.database, self.upload.id)
        if known is not None and known.length is None and self.upload.length is not None:
            store.note_upload(self.box.database, self.upload.id, length=self.upload.length)

    def finish(self) -> None:
        """Queue the job with the parameters of its upload. Raises StenoboxError."""
        job = self.upload.job
        assert job is not None
        self.upload = replace(self.upload, job=self.target.queue(job.params))


@contextmanager
def receive(box: Box, upload: Upload, hash_name: str | None = None) -> Iterator[Slice]:
    """Add to an upload that is not complete; what was written when the block ends, however it ends, is on disk and
    counts. With hash_name (one of HASHES) it counts only if the block doesn't raise."""
    assert upload.job is not None
    with media.Part(box.config, upload.id, go_on=True) as part:
        if upload.verified_to is not None:  # the process died before it could verify the rest
            part.cut(min(part.size, upload.verified_to))
        start = part.size
        digest = _digest(box, upload, start)
        target = Receiving(box, upload.id, upload.job.source, part, box.limits(), digest)
        found = Slice(box, upload, target, start, hashlib.new(hash_name) if hash_name else None)
        if hash_name or upload.verified_to is not None:
            store.note_upload(box.database, upload.id, verified_to=start if hash_name else None)
        try:
            yield found
        except BaseException:
            if found.hash is not None:
                part.cut(start)
            raise
        finally:
            if target.job is None:
                part.sync()
                if digest is not None and found.size == start + found.came:
                    box.digests[upload.id] = (found.size, digest)
            if hash_name or upload.verified_to is not None:
                store.note_upload(box.database, upload.id, verified_to=None)
            if target.job is None:
                found.lives_on()


def with_length(box: Box, upload: Upload, length: int, least: int) -> Upload:
    """An upload with the length that is told with its bytes, which counts once those are here (`Slice.keep_length`).
    least: bytes that there are with them. Raises StenoboxError too_large, empty_file or invalid_request."""
    if upload.length == length:
        return upload
    if upload.length is not None:
        raise StenoboxError("invalid_request", "Upload-Length was told before, and was another.")
    if length > (most := box.limits().max_bytes):
        raise StenoboxError("too_large", f"The file is larger than {most:,} bytes, the most this box takes.")
    if length < least:
        raise StenoboxError(
            "invalid_request", f"Upload-Length says {length:,} bytes, and there are {least:,} with these."
        )
    if not length:
        raise StenoboxError("empty_file", "The file is empty. Choose another one.", param="Upload-Length")
    return replace(upload, length=length)


def submit(box: Box, upload: Upload, params: Params) -> Job:
    """Make a complete upload a job, once: asked again, the answer is the same job. Raises StenoboxError wrong_state."""
    assert upload.job is not None
    if not receiving(upload):
        if upload.job.params != params:
            raise StenoboxError("wrong_state", f"This upload is job {upload.id} already, with other parameters.")
        return upload.job
    if upload.length is None or offset(box, upload) < upload.length:
        raise StenoboxError("not_finished", "This upload is not complete yet. Send the rest of it first.")
    with media.Part(box.config, upload.id, go_on=True) as part:
        digest = _digest(box, upload, part.size)
        target = Receiving(box, upload.id, upload.job.source, part, box.limits(), digest)
        return target.queue(params)


def _digest(box: Box, upload: Upload, size: int) -> Any:
    """The hash of the first bytes of an upload: as this process made it while they came, else of the file. None where
    nobody will compare them."""
    assert upload.job is not None
    fresh = digest_for(upload.job.submitter)
    if fresh is None:
        return None
    count, digest = box.digests.pop(upload.id, (0, fresh))
    if count == size:
        return digest
    with media.part(box.config, upload.id).open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def settle(box: Box, upload: Upload) -> Upload:
    """Queue an upload that is complete and should have been: the process died, or the disk was full, in between."""
    if upload.job is None or not upload.submit or not receiving(upload):
        return upload
    if upload.length is None or offset(box, upload) < upload.length:
        return upload
    submit(box, upload, upload.job.params)
    return find(box, upload.id, upload.job.submitter)


def drop(box: Box, upload: Upload) -> None:
    """Give an upload up, with what came of it. Raises StenoboxError wrong_state when it has become a job."""
    store.drop_if_receiving(box.database, upload.id)
    if store.get(box.database, upload.id) is not None:
        raise StenoboxError("wrong_state", f"This upload is job {upload.id} by now. Cancel or delete that.")
    media.remove(box.config, upload.id)
    box.digests.pop(upload.id, None)
    box.lookout.forget()


def sweep(box: Box, moving: set[str]) -> None:
    """Give places of silent uploads back. moving: ids of those that bytes arrive for.

    Silence is what this process has seen of it, by a clock that nobody sets: when an upload's row says that it ends is
    only told to clients, and by how it changes it is known that something came."""
    now, seen, over = time.monotonic(), {}, []
    empty = WANTED_SECONDS if now - box.lookout.turned_away < ASKED_SECONDS else EMPTY_SECONDS
    for upload_id, stamp in store.open_uploads(box.database).items():
        before, since = box.silences.get(upload_id, (None, now))
        seen[upload_id] = (stamp, now if upload_id in moving or stamp != before else since)
        if now - seen[upload_id][1] > _patience(box, upload_id, empty):
            over.append(upload_id)
    box.silences = seen
    for upload_id in store.drop_uploads(box.database, over):
        logger.info("upload %s: nothing came for too long; its place is free again", upload_id)
        media.remove(box.config, upload_id)
        box.digests.pop(upload_id, None)
        box.lookout.forget()
    store.forget_old(box.database, time.time() - REMEMBERED_SECONDS)


def _patience(box: Box, upload_id: str, empty: float) -> float:
    try:
        return SILENCE_SECONDS if media.arrived(box.config, upload_id) else empty
    except StenoboxError:  # its file is gone
        return empty


def settle_all(box: Box) -> None:
    """Queue what was complete when the last process died. For the start of the only web process. Raises StenoboxError
    of a database that can't be asked."""
    for upload_id in store.open_uploads(box.database):
        with contextlib.suppress(StenoboxError, OSError):  # its client asks again, or its time will be over
            if (upload := store.find_upload(box.database, upload_id)) is not None:
                settle(box, upload)
