"""The life of a job: the map of the whole system.

A job is what a person sees; an attempt is one try at it. The jobs table is the truth about both,
and every arrow below is one guarded UPDATE in `store`:

    receiving ──> queued ──> running ──> completed     (receiving ──> completed: its transcript was here already)
        │           │  ▲        │  │
        └─> (gone)  │  └────────┘  └──> failed ──> queued   (a person tries again)
                    └─> canceled <──────┘ │
                              └───────────┴──> queued
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a job is. Each member says who moves it on."""

    RECEIVING = "receiving"
    """Its bytes are arriving and it holds a place. The web process queues it, or removes it if the upload breaks, or
    completes it when the same recording's transcript is here already."""
    QUEUED = "queued"
    """Waits for a slot. A worker claims it in order; a person can cancel it."""
    RUNNING = "running"
    """Owned by one worker under a token and a lease. Only the owner of the token moves it on, or a rescuer
    once the lease is over."""
    COMPLETED = "completed"
    """Has a transcript (which may hold no speech). Final."""
    FAILED = "failed"
    """Has an error. Final, unless a person tries again."""
    CANCELED = "canceled"
    """A person stopped it. Final, unless a person tries again."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.RECEIVING: frozenset({State.QUEUED, State.COMPLETED}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELED}),
    State.RUNNING: frozenset({State.QUEUED, State.COMPLETED, State.FAILED, State.CANCELED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELED: frozenset({State.QUEUED}),
}

ACTIVE = (State.RECEIVING, State.QUEUED, State.RUNNING)
"""States that hold one of the places that admission counts."""
FINISHED = (State.COMPLETED, State.FAILED, State.CANCELED)


class Stage(StrEnum):
    """What a running job is doing."""

    DOWNLOAD = "download"
    """Fetching what the job needs and the box lacks: its model, the first time."""
    DECODE = "decode"
    TRANSCRIBE = "transcribe"
    ALIGN = "align"
    SAVE = "save"


MAX_CRASHES = 3
"""A job whose processes died unexplained this often is failed: it is likely what kills them."""

FORGIVEN_LOSSES = 10
"""A job whose worker was ended in the middle of it that often in a row is charged a crash each further time: machines
are restarted, but not for ever at the same job."""

_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """A job id: 122 random bits as 32 hex digits."""
    return uuid.uuid4().hex


def is_id(text: str) -> bool:
    """Whether text has the form of a job id. Checked before an id may name a folder."""
    return _ID.fullmatch(text) is not None


class JobKind(StrEnum):
    """What is to be done with the media, and what the job's result is then."""

    TRANSCRIPTION = "transcription"
    """Its words."""
    EXTRACTION = "extraction"
    """Its sound, in a form of one's choice."""
    DOWNLOAD = "download"
    """The media itself, as it came."""

    @property
    def light(self) -> bool:
        """Whether it needs no model, and so no slot of those that hold one."""
        return self != JobKind.TRANSCRIPTION


@dataclass(frozen=True, slots=True)
class Source:
    """Where the media came from. name is the uploader's own and only ever data. bytes: size; seconds: duration,
    known once decoded; sha256: of its bytes, in hex, None where they were not counted as they came; url: where it was,
    or is to be, fetched from."""

    type: str
    name: str
    bytes: int | None = None
    seconds: float | None = None
    sha256: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Params:
    """What was asked for, frozen at submit. language: a Whisper language code, or None to detect it; track: which
    audio track, from 1, None for the likeliest; format, bitrate: of extracted sound, in bits a second."""

    model: str = ""
    language: str | None = None
    track: int | None = None
    kind: JobKind = JobKind.TRANSCRIPTION
    format: str | None = None
    bitrate: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: a code from errors.KINDS and a sentence."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the jobs table. Times are seconds since 1970, UTC; progress is 0..1."""

    id: str
    kind: JobKind
    state: State
    source: Source
    params: Params
    created_at: float
    stage: Stage | None = None
    progress: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    crashes: int = 0
    cancel_requested: bool = False
    error: Failure | None = None
    note: str | None = None
    """A sentence about the result that is not an error, such as that no speech was found."""
    result: str | None = field(default=None, repr=False)
    """Name of the file in the job's folder that came out: a transcript, sound, or the source as it came; set only by
    the attempt that finished the job."""
    media: dict[str, Any] | None = None
    """What the recording says of itself, once it is decoded (see `decode.Facts`)."""
    submitter: str = ""
    """Whose it is: a digest of the key it came with, "" for the page and for programs without one."""
    work_seconds: float | None = None
    """Time it was worked on in the attempt that completed it, without waiting for the model to load."""
    media_removed_at: float | None = None
    """When its recording was removed because it was kept long enough; the transcript may still be there."""
    needs_download: bool = False
    """Whether its media has still to be fetched from `source.url`, in a slot of its own kind (see `fetching`)."""
    about: dict[str, Any] = field(default_factory=dict)
    """What is known about the media, as data: title, uploader, thumbnail, chapters, … Never trusted."""
    batch: str | None = None
    """The id of the batch it is in, if it is in one."""
    queue_position: int | None = None
    """1 for the next to start; only for queued jobs read through `store.get` and the lists."""
    ahead_seconds: float | None = field(default=None, repr=False)
    """Estimated work in line before it; as `queue_position`, and None before anything was measured."""
    left_seconds: float | None = field(default=None, repr=False)
    """Estimated work left in it, of a job that waits or runs; None while nothing is known."""

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def by_demo(self) -> bool:
        """Whether its words are the demo model's, of anything but the sample that this model is made for."""
        return self.params.model == "demo" and self.source.type != "sample"

    @property
    def realtime_factor(self) -> float | None:
        """Processing time / audio time of the attempt that completed the job, without loading the model."""
        if self.state != State.COMPLETED or not self.source.seconds or self.work_seconds is None:
            return None
        return self.work_seconds / self.source.seconds
