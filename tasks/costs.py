"""What jobs cost in memory: priors from measurement elsewhere, replaced by what this box's own jobs needed.

    engine = base + load              once, shared by all slots (weights are counted once)
    box    = own + engine + slots × job

With a GPU the same sum is made twice: for the host's memory, and for the GPU's own, of which nothing is measured yet.

Priors: resident memory of WhisperX 3.8.6 with the CUDA build of torch 2.8 on a CPU, November 2026, models with their
true dimensions and random weights; see tools and docs/capacity.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

MIB = 2**20

OWN = 150 * MIB
"""Supervisor, web and worker together."""
BASE = 920 * MIB
"""The engine with its libraries imported and no model."""
DECODER = 90 * MIB
"""The decode child, whatever the recording's length."""
VOICE_DETECTOR = 46 * MIB
VOICE_DETECTION = 140 * MIB
"""220 as measured elsewhere; inside the engine, whose allocator keeps nothing (MALLOC_ARENA_MAX=1), jobs of one window
peaked at 132 to 192 MiB with the detector's weights (tiny and base, int8, 30 and 120 s; `bench --check-costs`)."""
ALIGNER = 364 * MIB
ALIGNMENT = 570 * MIB
"""wav2vec2-base: its weights, and its peak over a window of 30 s."""
CUDA = 1200 * MIB
"""In the GPU's memory before any model: CUDA, its libraries and their scratch space. faster-whisper's benchmark has
4,755 MB for large-v2 with float16 on a V100: less 2,957 MiB of weights and a window that is 1,040 to 1,260 MiB."""
CUDA_HOST = 600 * MIB
"""What the driver and CUDA's libraries take of the host once they are used. An estimate."""
HOST_JOB = 250 * MIB
"""What a job on the GPU takes of the host: its features, and what the aligner's search keeps. An estimate."""
RECENT = 20
"""Records of a kind that its estimate rests on: the last ones, so that an upgrade is soon believed."""

WINDOW_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Model:
    """Bytes. load: weights with int8; first: what one window of 30 s adds at its peak; more: each further window."""

    load: int
    first: int
    more: int


def _model(load: int, first: int, more: int) -> _Model:
    return _Model(load * MIB, first * MIB, more * MIB)


# Load, batch 1 and batch 4 as measured, less the 60 MiB of the interpreter with faster-whisper.
_TINY, _BASE, _SMALL = _model(55, 101, 80), _model(130, 126, 103), _model(474, 174, 159)
_MEDIUM, _TURBO, _LARGE = _model(1530, 340, 338), _model(1634, 288, 240), _model(3102, 541, 533)
_MODELS = {
    "demo": _model(5, 40, 10),
    "tiny": _TINY,
    "base": _BASE,
    "small": _SMALL,
    "medium": _MEDIUM,
    "large": _LARGE,
    "turbo": _TURBO,
    "distil-small.en": _SMALL,
    "distil-medium.en": _model(790, 340, 300),
    "distil-large": _TURBO,
}
_WEIGHTS = {"int8": 1.0, "int8_float16": 1.0, "float32": 3.9}
"""Size of the weights against int8; small: 474 and 1,420 MiB more than the interpreter, medium 1,530 and 3,880."""


def numbers(device: str, compute_type: str) -> str:
    """What records call the number format on a device: what a job takes of which memory depends on both. float16 alone
    needs no other name, as no CPU has it."""
    return compute_type if device != "cuda" or compute_type == "float16" else f"{_GPU}{compute_type}"


_GPU = "cuda_"


@dataclass(frozen=True, slots=True)
class Kind:
    """What makes two jobs cost the same. compute_type: as `numbers` says it; windows: stretches of 30 s recognized
    together, at most the batch."""

    model: str
    compute_type: str
    windows: int
    aligned: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes. base and load: the engine before and with the model (and aligner), shared; job: what one job adds at its
    peak; records: how many of this box's own jobs `job` rests on;
    related: jobs of other lengths with the same model, where it rests on those."""

    base: int
    load: int
    job: int
    records: int = 0
    related: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """What one finished job needed, in bytes."""

    kind: Kind
    base: int
    load: int
    job: int


def windows(batch: int, seconds: float | None) -> int:
    """How many windows a recording of that length fills at once; all of the batch when its length is unknown."""
    if seconds is None:
        return batch
    return max(1, min(batch, math.ceil(seconds / WINDOW_SECONDS)))


def prior(kind: Kind) -> Cost:
    """What a job takes of the host's memory before this box has run one of the kind. An operator's own model is taken
    for a medium one."""
    size = _size(kind.model)
    if kind.compute_type == "float16" or kind.compute_type.startswith(_GPU):
        # The weights pass through: the same benchmark has 3,244 MB of the host for large-v2.
        return Cost(BASE, CUDA_HOST + size.load + _aligner(kind), HOST_JOB)
    load = round(size.load * _WEIGHTS.get(kind.compute_type, _WEIGHTS["float32"]))
    recognition = size.first + (kind.windows - 1) * size.more
    return Cost(BASE, load + _aligner(kind), max(DECODER, _peak(kind, recognition)))


def gpu_prior(kind: Kind) -> Cost:
    """What a job takes of the GPU's own memory, with float16. An estimate, which records don't replace: they hold what
    the host gave.

    Weights of two bytes a parameter are, within 7 % or 20 MiB, as large as int8 ones are on a CPU. Further windows
    hold float16 where a CPU holds float32: half as much (faster-whisper's benchmark: 4,525 MB for large-v2, 6,090 MB
    with batch 8, so 224 a window; half of ours is 266 MiB).
    """
    size = _size(kind.model)
    recognition = size.first + (kind.windows - 1) * size.more // 2
    return Cost(CUDA, size.load + _aligner(kind), _peak(kind, recognition))


def _peak(kind: Kind, recognition: int) -> int:
    """One stage after the other: the largest counts, and the decoder has left before the first begins."""
    alignment = 0 if not kind.aligned else 60 * MIB if kind.model == "demo" else ALIGNMENT
    return VOICE_DETECTOR + max(VOICE_DETECTION, recognition, alignment)


def _aligner(kind: Kind) -> int:
    return 0 if not kind.aligned else 2 * MIB if kind.model == "demo" else ALIGNER


def estimate(kind: Kind, records: Iterable[Record]) -> Cost:
    """What the records of this box say, newest first; the prior for what they don't.

    A kind with no record of its own takes its neighbours' (same model, other windows), scaled by their priors.
    """
    known = list(records)
    first = prior(kind)
    base = [record.base for record in known][:RECENT]
    load = [r.load for r in known if _same_engine(r.kind, kind)][:RECENT]
    own = [r.job for r in known if r.kind == kind][:RECENT]
    neighbours = [r.job * first.job / prior(r.kind).job for r in known if _same_engine(r.kind, kind)][:RECENT]
    job = statistics.median(own or neighbours or [first.job])
    return Cost(
        round(statistics.median(base)) if base else first.base,
        round(statistics.median(load)) if load else first.load,
        round(job),
        len(own),
        0 if own else len(neighbours),
    )


def _same_engine(one: Kind, other: Kind) -> bool:
    return (one.model, one.compute_type, one.aligned) == (other.model, other.compute_type, other.aligned)


def _size(name: str) -> _Model:
    for prefix in sorted(_MODELS, key=len, reverse=True):
        if name == prefix or name.startswith((prefix + ".", prefix + "-")):
            return _MODELS[prefix]
    return _MEDIUM
