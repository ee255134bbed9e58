"""Where the stages run: what the operator says, what the machine has, and the sentence about it."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import pytest
from nvml_support import GIB, FakeNvml, forget, install

from tasks import devices, nvidia
from tasks.children import environment
from tasks.config import Config, ConfigError
from tasks.engine.process import _environment
from tasks.engine.spec import Spec
from tasks.nvidia import Gpu
from webapp.cli import main

H100 = Gpu("NVIDIA H100", 80 * GIB)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Linux machine without a GPU, whatever this one has."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(nvidia, "DRIVER", tmp_path / "nothing")
    forget(monkeypatch)


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")


def found(device: str = "auto") -> devices.Devices:
    return devices.find(Config(data=Path("/data"), device=device))  # type: ignore[arg-type]


def stages(found: devices.Devices) -> tuple[str, str, str]:
    return found.recognition, found.voice_detection, found.alignment


def test_without_a_gpu_everything_runs_on_the_cpu() -> None:
    assert stages(found()) == ("cpu", "cpu", "cpu")
    assert found().why == "No GPU was found, so everything runs on the CPU."
    assert (found().gpu, found().compute_type) == (None, "int8")


def test_an_nvidia_gpu_is_taken_for_all_that_models_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path)
    assert stages(found()) == ("cuda", "cuda", "cuda")
    assert found().why == "An NVIDIA GPU was found, NVIDIA H100: recognition and word times run there."
    assert (found().gpu, found().compute_type) == (H100, "float16")
    assert stages(found("cuda")) == ("cuda", "cuda", "cuda")
    assert found("cuda").why.startswith("STENOBOX_DEVICE=cuda: ")


def test_on_a_mac_recognition_stays_on_the_cpu(mac: None) -> None:
    sentence = "word times run there; CTranslate2 can't use it, so recognition runs on the CPU."
    assert stages(found()) == ("cpu", "cpu", "mps")
    assert found().why == f"Apple's GPU was found: {sentence}"
    assert (found().gpu, found().compute_type) == (None, "int8")
    assert stages(found("mps")) == ("cpu", "cpu", "mps")
    assert found("mps").why.startswith("STENOBOX_DEVICE=mps: word times run on Apple's GPU;")


def test_the_operators_cpu_wins_over_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mac: None) -> None:
    nvml = install(monkeypatch, tmp_path)
    assert stages(found("cpu")) == ("cpu", "cpu", "cpu")
    assert found("cpu").why == "STENOBOX_DEVICE=cpu: everything runs on the CPU."
    assert nvml.asked == 0


@pytest.mark.parametrize(
    ("device", "reason"), [("cuda", "no NVIDIA GPU was found"), ("mps", "this machine is no Mac with Apple silicon")]
)
def test_a_device_that_is_not_there_is_a_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], device: str, reason: str
) -> None:
    sentence = (
        f"STENOBOX_DEVICE='{device}' can't be used as where models run: {reason}. For example: STENOBOX_DEVICE=auto"
    )
    with pytest.raises(ConfigError) as refusal:
        found(device)
    assert str(refusal.value) == sentence
    monkeypatch.setenv("STENOBOX_DEVICE", device)
    assert main(["models"]) == 2
    assert sentence in capsys.readouterr().err


def test_an_intel_mac_has_no_mps(monkeypatch: pytest.MonkeyPatch, mac: None) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert stages(found()) == ("cpu", "cpu", "cpu")


# The driver


def test_without_a_driver_its_library_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import of it would fail
    assert nvidia.find(None) == "no NVIDIA GPU was found"


def test_a_driver_that_fails_leaves_the_cpu_on_auto_and_refuses_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, FakeNvml(broken="Driver/library version mismatch"))
    assert stages(found()) == ("cpu", "cpu", "cpu")
    assert found().why == (
        "The NVIDIA driver can't be asked (Driver/library version mismatch), so everything runs on the CPU."
    )
    with pytest.raises(ConfigError, match=r"the NVIDIA driver can't be asked \(Driver"):
        found("cuda")


def test_the_driver_is_asked_once_and_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml = install(monkeypatch, tmp_path)
    assert found().gpu == found("cuda").gpu == H100
    assert (nvml.asked, nvml.open) == (1, 0)


@pytest.mark.parametrize(
    ("visible", "gpu"),
    [
        (None, H100),
        ("0", H100),
        ("1,0", Gpu("NVIDIA L4", 24 * GIB)),
        (" 1 ", Gpu("NVIDIA L4", 24 * GIB)),
        ("GPU-bbbb-2222", Gpu("NVIDIA L4", 24 * GIB)),
        ("GPU-bb", Gpu("NVIDIA L4", 24 * GIB)),
        ("MIG-cccc", Gpu("NVIDIA H100 MIG 1g.10gb", 10 * GIB)),
        ("", "CUDA_VISIBLE_DEVICES hides every GPU"),
        ("-1", "CUDA_VISIBLE_DEVICES hides every GPU"),
        ("7", "the NVIDIA driver shows no GPU 7 that CUDA could use"),
        ("GPU-zz", "the NVIDIA driver shows no GPU GPU-zz that CUDA could use"),
        ("MIG-zz", "the NVIDIA driver can't be asked (Not Found)"),
    ],
)
def test_the_gpu_is_the_first_that_cuda_may_see(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, gpu: Gpu | str
) -> None:
    install(monkeypatch, tmp_path)
    assert nvidia.find(visible) == gpu


@pytest.mark.parametrize(("instances", "gpu"), [([None, 1], "NVIDIA H100 MIG 1g.10gb"), ([None, None], None)])
def test_of_a_divided_gpu_the_first_instance_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, instances: list[Any], gpu: str | None
) -> None:
    install(monkeypatch, tmp_path, FakeNvml(instances=instances))
    answer = nvidia.find(None)
    assert answer == (Gpu(gpu, 10 * GIB) if gpu else "the NVIDIA driver shows no GPU 0 that CUDA could use")


# What the engine is told


@pytest.mark.parametrize(
    ("device", "align_device", "told"),
    [
        ("cpu", "cpu", {}),
        ("cpu", "mps", {"PYTORCH_ENABLE_MPS_FALLBACK": "1"}),
        ("cuda", "cuda", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
    ],
)
def test_the_engines_environment_suits_its_devices(config: Config, device: str, align_device: str, told: Any) -> None:
    given = _environment(config, Spec("demo", "/nowhere", device, "int8", 1, 1, 1, align_device))
    names = ("PYTORCH_ENABLE_MPS_FALLBACK", "CUDA_DEVICE_ORDER")
    assert {name: given[name] for name in names if name in given} == told


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "CT2_CUDA_ALLOCATOR", "CT2_CUDA_CACHING_ALLOCATOR_CONFIG"])
def test_an_operator_may_tune_how_the_engine_takes_memory(
    config: Config, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "tuned")
    assert _environment(config, Spec("demo", "/nowhere", "cpu", "int8", 1, 1, 1))[name] == "tuned"
    assert name not in environment()  # of other children
