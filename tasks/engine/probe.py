"""Whether a GPU can be used, asked of those that will use it: a child has torch and CTranslate2 compute a little there.

What NVML shows may be too old for the libraries, have an old driver, or be out of their reach (a CPU build of torch, a
missing libcublas): then each job would fail as its model is loaded.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from typing import Any

from tasks import children, devices, proofs
from tasks.config import Config
from tasks.models import DEMO_FOLDER
from tasks.proofs import Proof
from tasks.scratch import Scratch

logger = logging.getLogger(__name__)

PROBE_SECONDS = 300.0
"""Libraries of gigabytes are read from a cold disk."""
_turn = threading.Lock()


def ensure(config: Config) -> None:
    """Have the GPU tried, unless there is none, the operator wants none, or it was tried already. Takes seconds, once
    for each driver and version of the libraries. Raises OSError."""
    with _turn:
        gpu = devices.gpu_in_question(config)
        if gpu is None or proofs.read(config, gpu):
            return
        proof = _proof(proofs.key(gpu), ask(config, "cuda"))
        proofs.keep(config, proof)
    if proof.works:
        logger.info("the GPU %s works: %s", gpu.name, ", ".join(proof.compute_types))
    else:
        logger.error("the GPU %s can't be used: %s", gpu.name, proof.why)


def ask(config: Config, device: str) -> dict[str, Any]:
    """What the child says: compute_types, or error."""
    with Scratch(config, "probe") as folder:
        child = children.spawn(
            "tasks.engine.probe",
            device,
            env=children.environment(
                **children.tuning(), CUDA_DEVICE_ORDER="PCI_BUS_ID", OMP_NUM_THREADS="1", TMPDIR=str(folder)
            ),
            stdout=subprocess.PIPE,
        )
        try:
            told, _ = child.communicate(timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return {"error": f"it did not answer within {PROBE_SECONDS:.0f} s"}
        finally:
            children.kill(child)
            children.last_words(child, "probe")
    try:
        found: dict[str, Any] = json.loads(told)
        return found
    except ValueError:
        return {"error": f"the process that tried it {children.ending(child.returncode)}"}


def _proof(key: str, said: dict[str, Any]) -> Proof:
    if "error" in said:
        return Proof(key, works=False, why=said["error"])
    return Proof(key, works=True, compute_types=said["compute_types"])


# The child


def compute(device: str) -> list[str]:
    """A little of what a job does, on that device. Returns CTranslate2's number formats there; raises what it can't."""
    import ctranslate2
    import numpy as np
    import torch

    if device == "cuda" and not torch.version.cuda:
        raise RuntimeError("this build of torch is one for CPUs")
    numbers = torch.ones((1, 8, 64), device=device)
    kernel = torch.ones((8, 8, 3), device=device)
    if float(torch.nn.functional.conv1d(numbers, kernel).sum() + (numbers[0] @ numbers[0].T).sum()) <= 0:
        raise RuntimeError("torch computes nonsense there")
    types = sorted(ctranslate2.get_supported_compute_types(device))
    model = ctranslate2.models.Whisper(str(DEMO_FOLDER / "whisper"), device=device, compute_type="default")
    sound = ctranslate2.StorageView.from_array(np.zeros((1, model.n_mels, 3000), np.float32))
    model.encode(sound, to_cpu=True)
    return types


def main() -> None:
    children.die_with_parent()
    try:
        said: dict[str, Any] = {"compute_types": compute(sys.argv[1])}
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error) else ''}"}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
