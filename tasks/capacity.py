"""Admission: whether one more job fits, and when to come back if not.

`decide` is pure: the same limits, load and request give the same answer, so one table of cases tests it all.
It runs twice for each submission: on a cheap read before the body is read, and inside the transaction that inserts.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.jobs import Job
from tasks.typed import Reader

FIRST_GUESS_SECONDS = 30.0
"""What a job is taken to need until this box has finished one."""
LONGEST_RETRY_AFTER = 3600
"""Nobody is told to wait longer. Common clients (OpenAI's SDK) give up above 120 s; told less than the truth, they
would come back in vain and give up then."""
UNPROVEN_SECONDS = 30
"""So long anybody may be told to wait for places that were promised to others, of whom nobody knows whether they come;
beyond it, for twice the time until the box is empty."""
SPARE_BYTES = 512 * 2**20
"""What comes in must leave free on the disk, for the databases and the work on what is there."""
WORK_SPARE_BYTES = SPARE_BYTES // 4
"""What that work must leave free: less, or a box filled up to the other mark could do none of it. The rest is 100
minutes of decoded sound."""


class Limits(msgspec.Struct, frozen=True):
    """What a person allows and may change while it runs. Rows of the settings table; first values by `first_limits`."""

    slots: Annotated[int, Meta(ge=0, le=16, description="jobs at once; 0: as many as the arithmetic recommends")]
    queue_limit: Annotated[int, Meta(ge=0, le=100_000, description="jobs that may wait beyond the slots")]
    max_bytes: Annotated[int, Meta(ge=1, le=2**50, description="largest upload in bytes")]
    max_seconds: Annotated[float, Meta(gt=0, le=365 * 86_400, description="longest recording in seconds")]
    fail_fast: Annotated[bool, Meta(description="refuse when every slot is busy, whatever queue_limit says")] = False
    intake: Annotated[
        Literal["open", "paused", "draining"],
        Meta(description="open; paused: nothing starts or is taken; draining: what waits still runs"),
    ] = "open"
    model: Annotated[str, Meta(min_length=1, max_length=64, description="model of jobs that name none")] = "demo"
    per_key: Annotated[int, Meta(ge=0, le=100_000, description="active jobs of one key; 0: no limit")] = 0
    keep_days: Annotated[float, Meta(ge=0, le=36_500, description="days until a finished job goes; 0: never")] = 0.0
    keep_media_days: Annotated[
        float, Meta(ge=0, le=36_500, description="days until a finished job's recording goes; 0: with the job")
    ] = 0.0
    reuse: Annotated[bool, Meta(description="give a submitter's same recording its finished transcript at once")] = True
    download_slots: Annotated[int, Meta(ge=0, le=8, description="links fetched at once; 0: no links are taken")] = 2
    link_hosts: Annotated[
        str, Meta(max_length=2000, pattern=r"^[A-Za-z0-9., -]*$", description="sites links may name; none: any public")
    ] = ""
    generic_links: Annotated[
        bool, Meta(description="look for recordings on pages of sites nobody has written an extractor for")
    ] = True

    @property
    def places(self) -> int:
        """Jobs that may be active at once."""
        return self.slots + (0 if self.fail_fast else self.queue_limit)


@dataclass(frozen=True, slots=True)
class Load:
    """What the box holds now.

    job_seconds: mean processing time of the last completed jobs, None before the first. remaining: estimated seconds
    of work left in each running job; waiting: in each of the first in line; behind: how many more there are, with those
    that are being fetched, and behind_seconds: the work in all of those.
    downloading: jobs whose link is being fetched, in slots of their own; to_download: of the queued ones, those whose
    link still has to be. slack: times as long as expected that nine
    of ten jobs took at most. of_key: active jobs of the key that asks; guard: what the pressure guard does;
    light: jobs in line or running that need no model, counted nowhere else. announced: bytes that uploads under way
    said they would bring in all. key_left: estimated seconds left in the first running job of the key that asks;
    key_ahead: the work in line up to its first one there; None where it has none.
    """

    receiving: int = 0
    queued: int = 0
    running: int = 0
    job_seconds: float | None = None
    remaining: tuple[float, ...] = ()
    waiting: tuple[float, ...] = ()
    behind: int = 0
    behind_seconds: float = 0.0
    slack: float = 1.0
    of_key: int = 0
    guard: str = "calm"
    downloading: int = 0
    to_download: int = 0
    light: int = 0
    announced: int = 0
    key_left: float | None = None
    key_ahead: float | None = None

    @property
    def active(self) -> int:
        return self.receiving + self.queued + self.downloading + self.running + self.light


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. bytes: size of the upload, None when the client didn't say; disk_free: bytes; arrived: of
    what other uploads announced, what is here already; the rest is taken off; fits: the
    largest model that fits this box when the one asked for doesn't, "" when none does, None when it fits; promised:
    places that others were told of and that come before the one this client may be told of; promised_until: seconds
    until the one of them comes whose job has to end for it, None if none has to; proven: whether those who were told do
    come back (see `promises`)."""

    bytes: int | None = None
    model: str = ""
    disk_free: int | None = None
    arrived: int = 0
    fits: str | None = None
    promised: int = 0
    promised_until: float | None = None
    proven: bool = True


def decide(limits: Limits, load: Load, request: Request) -> StenoboxError | None:
    """None when the request fits; otherwise the refusal, with a time to come back if waiting helps.

    What can never work comes first, then what a person has decided, then what time will change.
    """
    if request.bytes is not None and request.bytes > limits.max_bytes:
        return too_large(limits)
    if request.fits is not None:
        return never_fits(request)
    if limits.intake != "open":
        return _closed(limits, load)
    to_come = max(0, load.announced - request.arrived)
    if request.disk_free is not None and request.disk_free - to_come < (request.bytes or 0) + SPARE_BYTES:
        return disk_full()
    if load.guard in ("hold", "unload", "stop"):
        wait = retry_after(limits, load)
        return StenoboxError(
            "memory_pressure",
            f"The box is short of memory and takes nothing new until it has recovered. Try again in {_told(wait)}.",
            retry_after=wait,
        )
    if limits.per_key and load.of_key >= limits.per_key:
        wait = _key_wait(limits, load)
        return StenoboxError(
            "key_limit",
            f"Your key has {load.of_key} active jobs, as many as it may have. Try again in {_told(wait)}, "
            "when one of them is done.",
            retry_after=wait,
        )
    if load.active >= limits.places:
        wait = retry_after(limits, load, request.promised, request.promised_until)
        if not request.proven:  # it may be the only one that comes back
            wait = min(wait, max(UNPROVEN_SECONDS, math.ceil(2 * empty_seconds(limits, load))))
        return StenoboxError(
            "queue_full",
            f"The box is full: {load.running} running, {load.queued + load.receiving + load.downloading} waiting, "
            f"room for {limits.places}. Try again in {_told(wait)}.",
            retry_after=wait,
        )
    return None


def too_large(limits: Limits) -> StenoboxError:
    """The refusal of an upload over the size limit."""
    return StenoboxError(
        "too_large",
        f"The file is larger than {limits.max_bytes:,} bytes, the most this box takes. "
        "Send a shorter or more compressed recording, or ask the operator to raise the limit on the Limits page.",
        param="file",
    )


def disk_full() -> StenoboxError:
    """The refusal of bytes that would take what must stay free."""
    return StenoboxError(
        "disk_full", "The disk of this box is almost full. Delete some jobs, or try later.", retry_after=120
    )


def never_fits(request: Request) -> StenoboxError:
    """The refusal of a model that this box can't hold, naming what would fit."""
    advice = f"The largest that fits is {request.fits}." if request.fits else "No model fits: it needs more memory."
    return StenoboxError(
        "never_fits", f"The model {request.model} does not fit into the memory of this box. {advice}", param="model"
    )


def _closed(limits: Limits, load: Load) -> StenoboxError:
    if limits.intake == "paused":
        return StenoboxError("paused", "The operator has paused this box. Try again later.", retry_after=120)
    return StenoboxError(
        "draining", "This box is finishing what it has and takes nothing new. Try again later.", retry_after=120
    )


def leaving() -> StenoboxError:
    """The refusal of a box that was told to stop."""
    return StenoboxError("draining", "This box is stopping or restarting. Try again in a moment.", retry_after=10)


def retry_after(limits: Limits, load: Load, promised: int = 0, promised_until: float | None = None) -> int:
    """Whole seconds a client is told to wait: until the first place nobody else was told of is very likely free.

    What jobs take more and less than expected evens out with their number, so the margin grows with its root.
    """
    above = _above(limits, load) + promised
    seconds = _free_in(limits, load, above) * _margin(load, above)
    if promised_until is not None:  # that client takes a place only when it comes, and keeps it for a whole round
        round_ = (load.job_seconds or FIRST_GUESS_SECONDS) * limits.places / limits.slots
        seconds = max(seconds, promised_until + round_ * _margin(load, limits.places))
    return min(LONGEST_RETRY_AFTER, max(1, math.ceil(seconds)))


def _margin(load: Load, jobs: int) -> float:
    return 1 + (load.slack - 1) / math.sqrt(jobs)


def seconds_until_room(limits: Limits, load: Load) -> int:
    """Whole seconds until a place should be free: until enough of what is here has finished."""
    return max(1, math.ceil(_free_in(limits, load, _above(limits, load))))


def _key_wait(limits: Limits, load: Load) -> int:
    """Whole seconds until the first job of the key that asks is very likely done."""
    in_line = None if load.key_ahead is None else (sum(load.remaining) + load.key_ahead) / limits.slots
    known = [seconds for seconds in (load.key_left, in_line) if seconds is not None]
    if not known:  # all are still arriving: they will be last in line
        return retry_after(limits, load)
    return min(LONGEST_RETRY_AFTER, max(1, math.ceil(min(known) * load.slack)))


def empty_seconds(limits: Limits, load: Load) -> float:
    """Estimated seconds until all that is here is done, when nothing more comes."""
    each = load.job_seconds or FIRST_GUESS_SECONDS
    work = sum(load.remaining) + sum(load.waiting) + load.behind_seconds + load.receiving * each
    longest = max([*load.remaining, *load.waiting, each if load.receiving else 0.0], default=0.0)
    return max(longest, work / limits.slots)


def _above(limits: Limits, load: Load) -> int:
    """How many jobs must end before one more fits."""
    return max(1, load.active - limits.places + 1)


def _free_in(limits: Limits, load: Load, above: int) -> float:
    """Estimated seconds until so many jobs have ended."""
    ends = _ends_in(limits.slots, load.remaining, load.waiting)
    if above <= len(ends):
        return ends[above - 1]
    seconds, more = ends[-1] if ends else 0.0, above - len(ends)
    if load.behind:
        seconds += min(more, load.behind) / load.behind * load.behind_seconds / limits.slots
        more = max(0, more - load.behind)
    # Uploads under way, and those who were told to come, will be jobs too, of a length nobody knows yet.
    return seconds + math.ceil(more / limits.slots) * (load.job_seconds or FIRST_GUESS_SECONDS)


def _told(seconds: int) -> str:
    return f"{seconds} s" if seconds <= 120 else f"{math.ceil(seconds / 60)} min"


@lru_cache(maxsize=16)  # refusals come by the thousand for one load
def _ends_in(slots: int, remaining: tuple[float, ...], waiting: tuple[float, ...]) -> tuple[float, ...]:
    """When each job is done, soonest first, when the slots take the queue in line."""
    return tuple(sorted([*remaining, *_queue_ends(slots, remaining, waiting)]))


def starts_in(limits: Limits, load: Load, position: int, ahead: float) -> float | None:
    """Estimated seconds until the job at this place in the queue (1 is next) starts; None before anything was measured.
    ahead: work in line before it."""
    if load.job_seconds is None or position > len(load.waiting) + load.behind:
        return None
    if position <= len(load.waiting):
        return _queue_ends(limits.slots, load.remaining, load.waiting)[position - 1] - load.waiting[position - 1]
    return (sum(load.remaining) + ahead) / limits.slots  # until then no slot is free


def times(limits: Limits, load: Load, job: Job) -> tuple[float | None, float | None]:
    """Estimated seconds until a job starts, None when it doesn't wait, and until it is done; None: unknown."""
    if job.queue_position is None:
        return None, job.left_seconds
    starts = None if job.ahead_seconds is None else starts_in(limits, load, job.queue_position, job.ahead_seconds)
    return starts, None if starts is None or job.left_seconds is None else starts + job.left_seconds


def _queue_ends(slots: int, remaining: tuple[float, ...], waiting: tuple[float, ...]) -> list[float]:
    """When each queued job is done, in line. With fewer slots than running jobs the last of those free the slots."""
    free = [0.0] * (slots - len(remaining)) + sorted(remaining)[-slots:]
    heapq.heapify(free)
    ends = []
    for seconds in waiting:
        ends.append(heapq.heappop(free) + seconds)
        heapq.heappush(free, ends[-1])
    return ends


def first_limits(config: Config, slots: int) -> Limits:
    """The limits before a person changes any. slots: the operator's number, or what the arithmetic recommends."""
    return Limits(max(1, slots), config.queue_limit, config.max_bytes, config.max_seconds, model=config.model)


def span(name: str) -> tuple[float, float]:
    """The least and the greatest value of a limit that is a number."""
    (meta,) = (m for m in get_type_hints(Limits, include_extras=True)[name].__metadata__ if isinstance(m, Meta))
    low = meta.gt if meta.ge is None else meta.ge
    return float(low or 0), float(meta.le or 0)


_limits = Reader(Limits)


def changed(limits: Limits, changes: dict[str, Any], *, text: bool = True) -> dict[str, Any]:
    """Values for the changed fields; text: whether numbers and choices may come as text, as forms send them.

    Raises StenoboxError unknown_field or invalid_value."""
    values = {}
    for name, value in changes.items():
        if name not in Limits.__struct_fields__:
            known = ", ".join(Limits.__struct_fields__)
            raise StenoboxError(
                "unknown_field", f"There is no setting {name[:40]!r}. There are: {known}.", param=name[:40]
            )
        try:
            result = _limits.convert(msgspec.structs.asdict(limits) | {name: value}, strict=not text)
        except msgspec.ValidationError as error:
            raise StenoboxError(
                "invalid_value", f"{name} can't be {str(value)[:40]!r}: {_reason(name, error)}.", param=name
            ) from None
        values[name] = getattr(result, name)
    return values


def _reason(name: str, error: msgspec.ValidationError) -> str:
    hint = get_type_hints(Limits)[name]
    if get_origin(hint) is Literal:
        return f"it must be one of {', '.join(get_args(hint))}"
    if hint is bool:
        return "it must be true or false"
    if hint is str:
        return str(error).partition(" - at")[0].replace("`", "").replace("Expected", "expected")
    low, high = span(name)
    kind = "a whole number" if hint is int else "a number"
    return f"it must be {kind} " + f"{'above' if name == 'max_seconds' else 'from'} {low:,.0f} to {high:,.0f}"
