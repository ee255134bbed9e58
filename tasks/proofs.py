"""What came of trying a GPU: whether torch and CTranslate2 can really compute on it, kept for as long as GPU, driver
and libraries are the same. Tried by `engine.probe`, in a child; read by whoever wants to know where models run."""

from __future__ import annotations

import contextlib
import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import msgspec

from tasks.config import Config
from tasks.nvidia import Gpu
from tasks.typed import Reader

LIBRARIES = ("torch", "ctranslate2")


class Proof(msgspec.Struct, frozen=True):
    """key: what it was tried with; works: whether it can be used; why: if not, the end of a sentence; compute_types:
    number formats that CTranslate2 has for it."""

    key: str
    works: bool
    why: str = ""
    compute_types: list[str] = []


_proof = Reader(Proof)


def key(gpu: Gpu) -> str:
    """What a proof is good for."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return " ".join((gpu.uuid or gpu.name, f"driver {gpu.driver}", *map(_version, LIBRARIES), f"of {visible}"))


def read(config: Config, gpu: Gpu) -> Proof | None:
    """What is known of this GPU; None before it was tried."""
    try:
        found = _proof.decode((config.run / "gpu.json").read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found.key == key(gpu) else None


def keep(config: Config, proof: Proof) -> None:
    """Raises OSError."""
    config.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = config.run / "gpu.json.partial"
    path.write_bytes(msgspec.json.encode(proof))
    path.replace(config.run / "gpu.json")


def doubt(config: Config) -> None:
    """It failed since, or may work by now: it is to be tried again."""
    with contextlib.suppress(OSError):
        (config.run / "gpu.json").unlink()


def note_others(config: Config, held: int) -> None:
    """What other programs hold of the GPU's memory now that nothing of ours is there."""
    with contextlib.suppress(OSError):
        config.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        (config.run / "gpu-others").write_text(str(held))


def others(config: Config) -> int:
    """What they held when the last engine began; 0 where nobody looked."""
    try:
        return int((config.run / "gpu-others").read_text())
    except (OSError, ValueError):
        return 0


@cache
def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"
