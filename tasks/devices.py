"""Where each stage of a job runs, and why. Never asks torch: web and worker must stay light."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from tasks import nvidia
from tasks.config import Config, ConfigError
from tasks.nvidia import Gpu


@dataclass(frozen=True, slots=True)
class Devices:
    """The device of each stage, by torch's names, and why in a sentence.

    recognition: cpu or cuda, which is all that CTranslate2 knows; voice_detection: the same, WhisperX moves it along;
    alignment: cpu, cuda or mps; gpu: where recognition is on cuda.
    """

    recognition: str
    voice_detection: str
    alignment: str
    why: str
    gpu: Gpu | None = None

    @property
    def compute_type(self) -> str:
        """Number format of Whisper's weights: the smallest that keeps its accuracy there."""
        return "float16" if self.recognition == "cuda" else "int8"


def find(config: Config) -> Devices:
    """What STENOBOX_DEVICE and this machine come to.

    Raises ConfigError where it names a device that isn't there; on auto it never does.
    """
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
            return _cuda(gpu, f"STENOBOX_DEVICE=cuda: recognition and word times run on the GPU, {gpu.name}.")
    if _has_mps():
        return _mps("Apple's GPU was found: word times run there")
    gpu = _nvidia()
    if isinstance(gpu, Gpu):
        return _cuda(gpu, f"An NVIDIA GPU was found, {gpu.name}: recognition and word times run there.")
    if not nvidia.DRIVER.exists():
        return _cpu("No GPU was found, so everything runs on the CPU.")
    return _cpu(f"{gpu[0].upper()}{gpu[1:]}, so everything runs on the CPU.")


def _cpu(why: str) -> Devices:
    return Devices("cpu", "cpu", "cpu", why)


def _cuda(gpu: Gpu, why: str) -> Devices:
    return Devices("cuda", "cuda", "cuda", why, gpu)


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
