"""The box itself: what it can hold, its settings, whether it works."""

# No `from __future__ import annotations` here: Python 3.11 would not see which keys are NotRequired.

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from webapp.shapes.common import Count, Time

Unit = Literal["jobs", "bytes"]
Settings = Annotated[
    dict[str, Any], Meta(description="All settings", extra_json_schema={"$ref": "#/components/schemas/Settings"})
]
"""Their fields are those of `tasks.capacity.Limits`."""
LimitsInForce = Annotated[
    dict[str, Any], Meta(description="The limits in force", extra_json_schema={"$ref": "#/components/schemas/Limits"})
]


class Slots(TypedDict):
    """Jobs at once."""

    in_force: int
    fixed: Annotated[bool, Meta(description="Whether a person has said how many")]
    maximum: Annotated[int, Meta(description="As many as memory holds")]
    recommended: Annotated[int, Meta(description="As many as this box should run; 0: the model doesn't fit")]


class ArithmeticLine(TypedDict):
    """One line of the arithmetic."""

    text: str
    value: float
    unit: Unit


class Arithmetic(TypedDict):
    """How many jobs fit with the default model, line by line."""

    model: str
    device: str
    batch: Annotated[int, Meta(description="Windows recognized together")]
    threads: Annotated[int, Meta(description="CPU threads for each job")]
    maximum: int
    recommended: int
    lines: list[ArithmeticLine]


class Gpu(TypedDict):
    """The GPU that recognizes."""

    name: str
    memory_bytes: int


class Devices(TypedDict):
    """Where each stage runs, and why."""

    recognition: str
    voice_detection: str
    alignment: str
    why: str
    gpu: Gpu | None


class Bound(TypedDict):
    """One limit that the machine sets."""

    name: str
    value: float
    tightest: bool


class MemoryLimits(TypedDict):
    """What memory there is."""

    limit_bytes: float
    used_bytes: int
    bounds: list[Bound]


class CpuLimits(TypedDict):
    """What CPUs there are."""

    count: int
    warning: str | None
    bounds: list[Bound]


class BoxLoad(TypedDict):
    """What the box holds now."""

    running: Count
    queued: Count
    receiving: Count
    places: Annotated[Count, Meta(description="Jobs that there is room for")]
    guard: Annotated[str, Meta(description="What is done about a shortage of memory; `calm`: nothing")]


class Fit(TypedDict):
    """How many jobs with a model fit."""

    maximum: int
    recommended: int


class Disk(TypedDict):
    """Where the data folder is."""

    free_bytes: Count
    total_bytes: Count


class NotReady(TypedDict):
    """One reason why not."""

    code: str
    message: str


class BoxState(TypedDict):
    """What every page says of the box as a whole."""

    code: Annotated[str, Meta(description="`open`, or that of the first reason")]
    reasons: Annotated[
        list[NotReady], Meta(description="Why it takes or begins nothing now, the worst first; none while it is open")
    ]


class Capacity(TypedDict):
    """What the box can hold, why, and when the next place is free."""

    limits: LimitsInForce
    slots: Slots
    arithmetic: Arithmetic
    devices: Devices
    memory: MemoryLimits
    cpus: CpuLimits
    disk: Annotated[Disk | None, Meta(description="null when it can't be asked")]
    state: BoxState
    warnings: Annotated[list[str], Meta(description="What a person should know, in sentences")]
    load: Annotated[BoxLoad | None, Meta(description="null while the database is busy")]
    next_free_seconds: Annotated[
        Count | None, Meta(description="Until one more job would be taken; 0: now; null: nobody can tell")
    ]
    models: Annotated[dict[str, Fit], Meta(description="By the name of each model")]


class SettingsInForce(TypedDict):
    """The settings, which can be sent back as they are."""

    settings: Settings
    slots_in_force: Annotated[int, Meta(description="Jobs at once, also where `slots` is auto")]
    changed: Annotated[list[str], Meta(description="Those that a person has changed from their first value")]


class Change(TypedDict):
    """One change of a setting."""

    at: Time
    by: str
    name: str
    old: Any
    new: Any


class Changes(TypedDict):
    """Changes of settings, newest first."""

    changes: list[Change]


class Said(TypedDict):
    """A sentence about what happens now."""

    message: str


class Health(TypedDict):
    """The web process is alive."""

    status: Literal["ok"]
    version: str


class Readiness(TypedDict):
    """Whether work should be sent here."""

    status: Literal["ready", "not ready"]
    reasons: list[NotReady]
