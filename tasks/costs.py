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
_LARGE_ALIGNER, _LARGE_ALIGNMENT = 1205 * MIB, 800 * MIB
"""wav2vec2-large (XLSR), which nearly all languages but English have: measured with random weights."""
_LOADING = 0.67
"""Of its weights, what an aligner takes besides while it is loaded: 802 MiB for 1,205."""
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
CATALOGUE = (
    "demo",
    "tiny",
    "base",
    "small",
    "medium",
    "large-v2",
    "large-v3",
    "turbo",
    "tiny.en",
    "base.en",
    "small.en",
)
_WEIGHTS = {"int8": 1.0, "int8_float16": 1.0, "float32": 3.9}
"""Size of the weights against int8, on a CPU; small: 474 and 1,420 MiB more than the interpreter, medium 1,530 and
3,880."""


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


_GPU_WEIGHTS = {"float16": 1.0, "bfloat16": 1.0, "int8": 0.6, "int8_float16": 0.6}
"""On a GPU, against int8 on a CPU; float32 twice as much."""


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
    """What one finished job needed, in bytes. gpu_*: of a GPU's memory, with CUDA itself; 0 where that was not
    measured."""

    kind: Kind
    base: int
    load: int
    job: int
    gpu_load: int = 0
    gpu_job: int = 0


def windows(batch: int, seconds: float | None) -> int:
    """How many windows a recording of that length fills at once; all of the batch when its length is unknown."""
    if seconds is None:
        return batch
    return max(1, min(batch, math.ceil(seconds / WINDOW_SECONDS)))


def prior(kind: Kind, aligner: int = ALIGNER) -> Cost:
    """What a job takes of the host's memory before this box has run one of the kind. An operator's own model is taken
    for a medium one. aligner: bytes of the weights that find word times."""
    size = _size(kind.model)
    if kind.compute_type == "float16" or kind.compute_type.startswith(_GPU):
        # The weights pass through: the same benchmark has 3,244 MB of the host for large-v2.
        loading = round(_LOADING * _aligner(kind, aligner))
        return Cost(BASE, CUDA_HOST + size.load + _aligner(kind, aligner), max(HOST_JOB, loading))
    load = round(size.load * _WEIGHTS.get(kind.compute_type, _WEIGHTS["float32"]))
    recognition = size.first + (kind.windows - 1) * size.more
    stages = (VOICE_DETECTION, recognition, _alignment(kind, aligner), round(_LOADING * _aligner(kind, aligner)))
    # One stage after the other: the largest counts, and the decoder has left before the first begins.
    return Cost(BASE, load + _aligner(kind, aligner), max(DECODER, VOICE_DETECTOR + max(stages)))


def gpu_prior(kind: Kind, aligner: int = ALIGNER) -> Cost:
    """What a job takes of the GPU's own memory. Its stages add up: torch and CTranslate2 have a pool each, and neither
    gives back what it had.

    Weights of two bytes a parameter are, within 7 % or 20 MiB, as large as int8 ones are on a CPU. Further windows
    hold float16 where a CPU holds float32: half as much (faster-whisper's benchmark: 4,525 MB for large-v2, 6,090 MB
    with batch 8, so 224 a window; half of ours is 266 MiB).
    """
    size = _size(kind.model)
    weights = _GPU_WEIGHTS.get(kind.compute_type.removeprefix(_GPU), 2.0)
    further = size.more if weights > 1 else size.more // 2
    recognition = size.first + (kind.windows - 1) * further
    stages = VOICE_DETECTOR + VOICE_DETECTION + recognition + _alignment(kind, aligner)
    return Cost(CUDA, round(weights * size.load) + _aligner(kind, aligner), stages)


def gpu_estimate(kind: Kind, records: Iterable[Record], aligner: int = ALIGNER) -> Cost:
    """What the records of this box say of the GPU's memory, the prior for what they don't: the most of the last ones,
    since what does not fit there is an error and not slowness."""
    first = gpu_prior(kind, aligner)
    known = [record for record in records if record.gpu_load and _same_engine(record.kind, kind)]
    own = [record.gpu_job for record in known if record.kind == kind][:RECENT]
    loads = [record.gpu_load for record in known][:RECENT]
    if not loads:
        return first
    return Cost(0, max(loads), max(own) if own else first.job, len(own))


def _alignment(kind: Kind, aligner: int) -> int:
    """The aligner's peak over a window, by the size of its weights."""
    if not kind.aligned:
        return 0
    if kind.model == "demo":
        return 60 * MIB
    steep = (_LARGE_ALIGNMENT - ALIGNMENT) / (_LARGE_ALIGNER - ALIGNER)
    return ALIGNMENT + round(steep * max(0, aligner - ALIGNER))


def _aligner(kind: Kind, aligner: int) -> int:
    return 0 if not kind.aligned else 2 * MIB if kind.model == "demo" else aligner


def estimate(kind: Kind, records: Iterable[Record], aligner: int = ALIGNER) -> Cost:
    """What the records of this box say, newest first; the prior for what they don't.

    A kind with no record of its own takes its neighbours' (same model, other windows), scaled by their priors.
    """
    known = list(records)
    first = prior(kind, aligner)
    base = [record.base for record in known][:RECENT]
    load = [r.load for r in known if _same_engine(r.kind, kind)][:RECENT]
    own = [r.job for r in known if r.kind == kind][:RECENT]
    neighbours = [r.job * first.job / prior(r.kind, aligner).job for r in known if _same_engine(r.kind, kind)][:RECENT]
    job = statistics.median(own or neighbours or [first.job])
    return Cost(
        round(statistics.median(base)) if base else first.base,
        max(load) if load else first.load,  # with the largest aligner that was in it
        round(job),
        len(own),
        0 if own else len(neighbours),
    )


def _same_engine(one: Kind, other: Kind) -> bool:
    return (one.model, one.compute_type, one.aligned) == (other.model, other.compute_type, other.aligned)


def size(name: str) -> int:
    """Bytes of a model's weights as int8, by its name: how large it is beside another."""
    return _size(name).load


def _size(name: str) -> _Model:
    for prefix in sorted(_MODELS, key=len, reverse=True):
        if name == prefix or name.startswith((prefix + ".", prefix + "-")):
            return _MODELS[prefix]
    return _MEDIUM
