"""What the machine is taken to offer."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tasks import devices
from tasks.config import Config


class Linux:
    """A process that may use three CPUs."""

    def cpu_affinity(self) -> list[int]:
        return [0, 5, 7]


class Unbound:
    """A process whose system tells no affinity."""

    def cpu_affinity(self) -> list[int]:
        return []


class MacOS:
    """There, psutil has no affinity."""


@pytest.mark.parametrize(
    ("named", "process", "count", "cpus"),
    [
        (4, Linux, 64, 4),
        (0, Linux, 64, 3),
        (0, Unbound, 64, 64),
        (0, MacOS, 8, 8),
        (0, MacOS, None, 1),
    ],
)
def test_cpus_are_the_operators_word_else_the_affinity_else_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: int, process: type, count: int | None, cpus: int
) -> None:
    monkeypatch.setattr(psutil, "Process", process)
    monkeypatch.setattr(psutil, "cpu_count", lambda: count)
    assert devices.cpus(Config(data=tmp_path, cpus=named)) == cpus


def test_this_machine_has_a_cpu(tmp_path: Path) -> None:
    assert devices.cpus(Config(data=tmp_path)) >= 1


@pytest.mark.parametrize(
    ("named", "driver", "device"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", False, "cuda")],
)
def test_the_device_is_the_operators_word_else_what_the_driver_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, driver: bool, device: str
) -> None:
    asked = []

    def exists(path: Path) -> bool:
        asked.append(str(path))
        return driver

    monkeypatch.setattr(Path, "exists", exists)
    assert devices.device(Config(data=tmp_path, device=named)) == device  # type: ignore[arg-type]
    assert asked == (["/dev/nvidiactl"] if named == "auto" else [])


@pytest.mark.parametrize(("device", "compute_type"), [("cpu", "int8"), ("cuda", "float16")])
def test_weights_are_as_small_as_the_device_allows(device: str, compute_type: str) -> None:
    assert devices.compute_type(device) == compute_type
