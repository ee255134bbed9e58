"""Jobs, what they were given and made, uploads, batches and links."""

# No `from __future__ import annotations` here: Python 3.11 would not see which keys are NotRequired.

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from tasks.jobs import JobKind, Stage, State
from webapp.shapes.common import Address, Count, Id, Number, Refusal, Seconds, Share, Time

Outcome = Literal["completed", "failed", "canceled", "requeued"]
GuideStatus = Literal["queued", "processing", "completed", "failed", "canceled"]
SourceType = Literal["upload", "url", "job", "sample", "inbox"]


class Source(TypedDict):
    """Where the media came from."""

    type: Annotated[SourceType, Meta(description="How it came")]
    name: Annotated[str, Meta(description="The file's name, or what its site calls it")]
    url: Annotated[str | None, Meta(description="Where it was, or is to be, fetched from")]
    bytes: Annotated[Count | None, Meta(description="Its size")]
    seconds: Annotated[Seconds | None, Meta(description="Its length, once it is decoded")]


class JobParams(TypedDict, total=False):
    """What was asked for, frozen at submission; which fields there are depends on the job's kind."""

    model: Annotated[str | None, Meta(description="Of transcriptions: the speech model")]
    language: Annotated[str | None, Meta(description="A code such as `en`; null: detected")]
    track: Annotated[Number | None, Meta(description="The audio track; null: the likeliest")]
    format: Annotated[str | None, Meta(description="Of extractions: the form of the sound")]
    bitrate: Annotated[int | None, Meta(description="Of extractions: bits a second; null: as usual for the form")]


class Track(TypedDict):
    """One audio track of a file."""

    number: Annotated[Number, Meta(description="1 for the first, as players count")]
    codec: str
    channels: int
    sample_rate: int
    language: Annotated[str | None, Meta(description="A code such as `en`, where the file says it")]
    title: str | None
    default: Annotated[bool, Meta(description="Whether players take it by default")]


class Media(TypedDict):
    """What a recording says of itself, once it is decoded."""

    container: Annotated[str, Meta(examples=["mp4"])]
    codec: Annotated[str, Meta(examples=["aac"])]
    channels: int
    sample_rate: int
    bit_rate: Annotated[int | None, Meta(description="Bits a second, where the file tells")]
    track: Annotated[int, Meta(description="The track that was heard")]
    tracks: list[Track]
    tags: Annotated[dict[str, str], Meta(description="Title, artist and the like; never trusted")]
    cover: Annotated[bool, Meta(description="Whether its picture is at `links.cover`")]


class Chapter(TypedDict):
    """A part of a recording, as its site names it."""

    start: Seconds
    end: Seconds | None
    title: str


class Fetching(TypedDict):
    """How a download goes."""

    total: Annotated[int | None, Meta(description="Bytes there will be, as far as the site tells")]
    bytes_per_second: Annotated[float, Meta(ge=0)]


class About(TypedDict, total=False):
    """What a link's site says of the recording; what it doesn't tell is left out. Never trusted."""

    title: str
    uploader: str
    duration: Annotated[float, Meta(description="Seconds")]
    thumbnail: Annotated[str, Meta(description="A URL")]
    webpage: Annotated[str, Meta(description="A URL")]
    site: str
    chapters: list[Chapter]
    download: Annotated[Fetching, Meta(description="While it is fetched")]


class Failed(TypedDict):
    """Why a job failed."""

    code: str
    message: str
    retryable: Annotated[bool, Meta(description="Whether trying again can help")]


class JobLinks(TypedDict):
    """Where what belongs to a job is; what is not there (yet) is left out."""

    self: Address
    transcript: NotRequired[Address]
    media: NotRequired[Address]
    peaks: NotRequired[Address]
    cover: NotRequired[Address]


class Job(TypedDict):
    """A job: one recording and what is to be done with it."""

    id: Id
    kind: JobKind
    state: State
    stage: Annotated[Stage | None, Meta(description="What it is doing while it runs")]
    progress: Annotated[Share, Meta(description="Of the stages together")]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    attempts: Annotated[Count, Meta(description="Tries so far, the present one included")]
    crashes: Annotated[Count, Meta(description="Tries that ended with an unexplained death; it fails at the third")]
    source: Source
    params: JobParams
    media: Media | None
    queue_position: Annotated[Number | None, Meta(description="1 for the next to start; null unless it waits")]
    eta_seconds: Annotated[Seconds | None, Meta(description="Until it is done, by an estimate, while it waits or runs")]
    realtime_factor: Annotated[Seconds | None, Meta(description="Processing time / length, once completed")]
    error: Failed | None
    note: Annotated[str | None, Meta(description="About the result, such as that no speech was found")]
    about: About
    batch: Annotated[Id | None, Meta(description="The batch it is in")]
    submitter: Annotated[
        str | None, Meta(description="The name of the key it came with, for who sees several people's jobs")
    ]
    links: JobLinks


class JobPage(TypedDict):
    """Some jobs, newest first."""

    jobs: list[Job]
    next: Annotated[Address | None, Meta(description="The next page; null: this is the last one")]


class Word(TypedDict):
    """A word and when it was spoken."""

    word: str
    start: Annotated[float | None, Meta(description="Seconds; null where it couldn't be found")]
    end: float | None
    confidence: Annotated[float | None, Meta(description="0 to 1")]


class Segment(TypedDict):
    """Some words that belong together: about a sentence."""

    id: int
    start: Seconds
    end: Seconds
    text: str
    speaker: str | None
    confidence: Annotated[float | None, Meta(description="0 to 1")]
    words: list[Word]


class Transcript(TypedDict):
    """What was said and when."""

    language: Annotated[str | None, Meta(description="A code such as `en`")]
    seconds: Annotated[Seconds, Meta(description="Length of the recording")]
    text: str
    segments: list[Segment]


class Cause(TypedDict):
    """Why a try ended."""

    code: str
    message: str | None


class Attempt(TypedDict):
    """One try at a job."""

    number: Number
    started_at: Time
    ended_at: Time | None
    seconds: Annotated[Seconds | None, Meta(description="How long it took; null while it runs")]
    stage: Annotated[Stage | None, Meta(description="How far it came")]
    outcome: Annotated[
        Outcome | None,
        Meta(description="What became of the job by it; null while it runs"),
    ]
    cause: Annotated[Cause | None, Meta(description="Why it ended; null when it completed or runs")]
    charged: Annotated[bool, Meta(description="Whether it counts as a crash of the job")]
    peak_bytes: Annotated[Count | None, Meta(description="Memory that the engine had at most, where it was measured")]
    batch: Annotated[int | None, Meta(description="Windows that were recognized together")]
    worker: str
    crash: Annotated[str | None, Meta(description="Where a process of it was as it crashed, for a report")]


class Attempts(TypedDict):
    """Every try at a job, the first one first."""

    attempts: list[Attempt]


class Peaks(TypedDict):
    """The waveform of a recording."""

    seconds_per_peak: Annotated[float, Meta(gt=0)]
    peaks: list[Annotated[int, Meta(ge=0, le=255)]]


class UploadLinks(TypedDict):
    """Where the upload is, and the job that it has become."""

    self: Address
    job: NotRequired[Address]


class Upload(TypedDict):
    """A resumable upload."""

    id: Id
    offset: Annotated[Count, Meta(description="Bytes that have come and count")]
    length: Annotated[int | None, Meta(description="Bytes there will be; null: not told yet")]
    complete: bool
    active: Annotated[bool, Meta(description="Whether a request sends bytes for it now")]
    metadata: Annotated[dict[str, str], Meta(description="As its client sent them, decoded")]
    expires_at: Annotated[Time | None, Meta(description="When it is given up; null once it is a job")]
    job: Annotated[Id | None, Meta(description="The job that it has become")]
    links: UploadLinks


class BatchLinks(TypedDict):
    """Where what belongs to a batch is."""

    self: Address
    jobs: Address
    zip: Address


class BatchJobs(TypedDict):
    """How many of its jobs are in each state."""

    receiving: Count
    queued: Count
    running: Count
    completed: Count
    failed: Count
    canceled: Count


class Batch(TypedDict):
    """Many jobs under one name."""

    id: Id
    name: str
    created_at: Time
    finished_at: Annotated[Time | None, Meta(description="When its last job ended; null while one is active")]
    total: Count
    done: Annotated[Count, Meta(description="Jobs that have ended, however they ended")]
    jobs: BatchJobs
    progress: Share
    eta_seconds: Annotated[Seconds | None, Meta(description="Until the last of its jobs is done, by an estimate")]
    links: BatchLinks


class RetriedBatch(Batch):
    """A batch whose jobs were tried again."""

    retried: Annotated[Count, Meta(description="Jobs that are in line again")]
    left: Annotated[Count, Meta(description="Jobs there was no room for; send it again after Retry-After")]


class BatchPage(TypedDict):
    """Some batches, newest first."""

    batches: list[Batch]
    next: Annotated[Address | None, Meta(description="The next page; null: this is the last one")]


class LinkItem(TypedDict):
    """One recording at a link."""

    url: str
    title: str
    seconds: Annotated[Seconds | None, Meta(description="Its length, where the site tells")]
    live: Annotated[bool, Meta(description="Whether it is being broadcast, and can't be fetched")]


class Preview(TypedDict):
    """What a link holds."""

    title: str
    several: Annotated[bool, Meta(description="Whether it is a list: then submit an item's `url`")]
    items: list[LinkItem]
    more: Annotated[bool, Meta(description="Whether there are more than were listed")]


class GuideLinks(TypedDict):
    """Where the same job is in the words of /api/v1."""

    self: Address
    transcript: NotRequired[Address]
    media: NotRequired[Address]


class GuideResult(TypedDict):
    """What was said and when."""

    text: str
    language: str | None
    segments: list[Segment]


class GuideJob(TypedDict):
    """A job in the concurrency guide's words."""

    job_id: Id
    status: GuideStatus
    progress: Share
    status_url: Address
    links: GuideLinks
    error: NotRequired[Annotated[Refusal, Meta(description="Once it has failed")]]
    transcript: NotRequired[Annotated[str, Meta(description="The text, once a transcription is completed")]]
    result: NotRequired[GuideResult]
