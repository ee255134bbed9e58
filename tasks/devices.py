"""Where each stage of a job runs, in which numbers, and why. Never asks torch: web and worker must stay light."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace

from tasks import nvidia, proofs
from tasks.config import Config, ConfigError
from tasks.nvidia import Gpu
from tasks.proofs import Proof

_ON_CPU = ("int8", "float32", "bfloat16")
_ON_GPU = ("float16", "int8_float16", "int8", "float32")
"""What CTranslate2 computes in; on a GPU the best first."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The device of each stage, by torch's names, and why in a sentence or two.

    recognition: cpu or cuda, which is all that CTranslate2 knows; voice_detection: the same, WhisperX moves it along;
    alignment: cpu, cuda or mps; gpu: where recognition is on cuda; compute_type: number format of Whisper's weights.
    """

    recognition: str
    voice_detection: str
    alignment: str
    why: str
    gpu: Gpu | None = None
    compute_type: str = "int8"


def find(config: Config) -> Devices:
    """What STENOBOX_DEVICE, STENOBOX_COMPUTE_TYPE and this machine come to.

    Raises ConfigError where they name a device that isn't there; on auto it never does. One that is there and can't be
    used is not taken.
    """
    return _in_numbers(config, _where(config))


def check(config: Config) -> None:
    """Raises ConfigError for a device or number format that can't be had here."""
    found = find(config)
    if config.device == "cuda" and found.recognition != "cuda":
        raise _missing(config, found.why.removesuffix("."))
    if config.compute_type not in ("auto", found.compute_type):
        there = "the CPU" if found.gpu is None else found.gpu.name
        raise ConfigError(
            f"STENOBOX_COMPUTE_TYPE={config.compute_type!r} can't be used as numbers that models compute in: {there} "
            "has none such. For example: STENOBOX_COMPUTE_TYPE=auto"
        )


def gpu_in_question(config: Config) -> Gpu | None:
    """The GPU that would be taken if it works."""
    if config.device not in ("auto", "cuda") or (config.device == "auto" and _has_mps()):
        return None
    found = _nvidia()
    return found if isinstance(found, Gpu) else None


def _where(config: Config) -> Devices:
    match config.device:
        case "cpu":
            return _cpu("STENOBOX_DEVICE=cpu: everything runs on the CPU.")
        case "mps":
            if not _has_mps():
                raise _missing(config, "this machine is no Mac with Apple silicon")
            return _mps("STENOBOX_DEVICE=mps: word times run on Apple's GPU")
        case "cuda":
            gpu = _nvidia()
            if isinstance(gpu, str):
                raise _missing(config, gpu)
            return _cuda(config, gpu, f"STENOBOX_DEVICE=cuda: recognition and word times run on the GPU, {gpu.name}.")
    if _has_mps():
        return _mps("Apple's GPU was found: word times run there")
    gpu = _nvidia()
    if isinstance(gpu, Gpu):
        return _cuda(config, gpu, f"An NVIDIA GPU was found, {gpu.name}: recognition and word times run there.")
    if gpu == nvidia.NONE:
        return _cpu("No GPU was found, so everything runs on the CPU.")
    return _cpu(f"{gpu[0].upper()}{gpu[1:]}, so everything runs on the CPU.")


def _cpu(why: str) -> Devices:
    return Devices("cpu", "cpu", "cpu", why)


def _cuda(config: Config, gpu: Gpu, why: str) -> Devices:
    proof = proofs.read(config, gpu)
    if proof and not proof.works:
        return _cpu(f"The GPU {gpu.name} can't be used ({proof.why}), so everything runs on the CPU.")
    if gpu.idle:
        others = "another GPU idles" if gpu.idle == 1 else f"{gpu.idle} other GPUs idle"
        why += f" One GPU is used; {others}: a second box with CUDA_VISIBLE_DEVICES=1 would use the next."
    return Devices("cuda", "cuda", "cuda", why, gpu, _best(gpu, proof))


def _best(gpu: Gpu, proof: Proof | None) -> str:
    """The number format that computes fastest there: by CTranslate2's own word, or before by what it documents."""
    known = proof.compute_types if proof else _documented(gpu.capability)
    return next((name for name in _ON_GPU if name in known), "float32")


def _documented(capability: tuple[int, int] | None) -> tuple[str, ...]:
    """https://opennmt.net/CTranslate2/quantization.html: half precision from 7.0 on, 8 bits there and on 6.1."""
    if capability is None or capability >= (7, 0):
        return _ON_GPU
    return ("int8", "float32") if capability == (6, 1) else ("float32",)


def _in_numbers(config: Config, found: Devices) -> Devices:
    wanted = config.compute_type
    if wanted in ("auto", found.compute_type):
        return found
    if found.gpu is None:
        known: tuple[str, ...] = _ON_CPU
    else:
        proof = proofs.read(config, found.gpu)
        known = tuple(proof.compute_types) if proof else (*_documented(found.gpu.capability), "bfloat16")
    return replace(found, compute_type=wanted) if wanted in known else found


def _mps(why: str) -> Devices:
    # The voice detector stays with recognition: it is small, and not known to run on mps.
    return Devices("cpu", "cpu", "mps", f"{why}; CTranslate2 can't use it, so recognition runs on the CPU.")


def _nvidia() -> Gpu | str:
    return nvidia.find(os.environ.get("CUDA_VISIBLE_DEVICES"))


def _has_mps() -> bool:
    return (platform.system(), platform.machine()) == ("Darwin", "arm64")


def _missing(config: Config, reason: str) -> ConfigError:
    return ConfigError(
        f"STENOBOX_DEVICE={config.device!r} can't be used as where models run: {reason}. "
        "For example: STENOBOX_DEVICE=auto"
    )
