"""Where the stages run: what the operator says, what the machine has, and the sentence about it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from nvml_support import GIB, FakeNvml, install

from tasks import children, devices, nvidia, proofs
from tasks.children import environment
from tasks.config import Config, ConfigError
from tasks.engine import probe
from tasks.engine.process import _environment
from tasks.engine.spec import Spec
from tasks.nvidia import Gpu
from tasks.proofs import Proof
from webapp.cli import main

READ = proofs.read
H100 = Gpu("NVIDIA H100", 80 * GIB)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Linux machine without a GPU, whatever this one has."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    install(monkeypatch, FakeNvml(missing=True))
    monkeypatch.setattr(proofs, "read", lambda config, gpu: None)


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
    install(monkeypatch)
    assert stages(found()) == ("cuda", "cuda", "cuda")
    assert found().why == (
        "An NVIDIA GPU was found, NVIDIA H100: recognition and word times run there. One GPU is used; another GPU "
        "idles: a second box with CUDA_VISIBLE_DEVICES=1 would use the next."
    )
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
    nvml = install(monkeypatch)
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


def test_the_driver_itself_is_asked_whatever_files_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under WSL2, and before anything has made them, there is no device file and CUDA works."""
    assert nvidia.find(None) == "no NVIDIA GPU was found"
    nvml = install(monkeypatch)
    assert nvidia.find(None) == H100
    assert nvml.asked == 1


def test_no_gpu_is_not_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(nvidia, "time", SimpleNamespace(monotonic=lambda: clock.now))
    nvml = install(monkeypatch, FakeNvml(broken="Driver/library version mismatch"))
    for later, asked in ((0, 1), (30, 1), (31, 2), (10, 2)):
        clock.now += later
        assert isinstance(nvidia.find(None), str)
        assert nvml.asked == asked
    nvml._broken = ""
    clock.now += 61
    assert [nvidia.find(None), nvidia.find(None), nvml.asked] == [H100, H100, 3]
    clock.now += 10_000
    assert (nvidia.find(None), nvml.asked) == (H100, 3)  # and one that is there stays


def test_what_others_hold_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nvidia.held(None, set()) is None
    nvml = install(monkeypatch, FakeNvml(taken=3 * GIB))
    assert nvidia.held(None, set()) == 3 * GIB
    ours = [SimpleNamespace(pid=7, usedGpuMemory=GIB), SimpleNamespace(pid=8, usedGpuMemory=None)]
    monkeypatch.setattr(nvml, "nvmlDeviceGetComputeRunningProcesses", lambda device: ours)
    assert nvidia.held(None, {7, 8}) == 2 * GIB
    assert nvml.open == 0


def test_what_we_hold_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nvidia.watch(None)() == 0
    nvml = install(monkeypatch, FakeNvml(taken=3 * GIB))
    look = nvidia.watch(None)
    assert look() == 0
    nvml.taken = 5 * GIB
    assert look() == 2 * GIB  # a container hides whose it is
    ours = [SimpleNamespace(pid=1, usedGpuMemory=GIB), SimpleNamespace(pid=os.getpid(), usedGpuMemory=GIB)]
    monkeypatch.setattr(nvml, "nvmlDeviceGetComputeRunningProcesses", lambda device: ours)
    assert look() == GIB


# Whether it works


@pytest.mark.parametrize(
    ("capability", "types", "best"),
    [
        ((6, 0), None, "float32"),
        ((6, 1), None, "int8"),
        ((7, 0), None, "float16"),
        ((9, 0), ["bfloat16", "float16", "float32", "int8"], "float16"),
        ((7, 5), ["float32", "int8", "int8_float16"], "int8_float16"),
        ((6, 1), ["float32", "int8", "int8_float32"], "int8"),
        ((6, 1), ["float32"], "float32"),
    ],
)
def test_numbers_are_those_that_it_has(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], types: list[str] | None, best: str
) -> None:
    install(monkeypatch, FakeNvml(capability=capability))
    if types:
        monkeypatch.setattr(proofs, "read", lambda config, gpu: Proof("", works=True, compute_types=types))
    assert (found().recognition, found().compute_type) == ("cuda", best)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_that_can_not_be_used_is_not_taken_and_why_is_said(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    install(monkeypatch)
    proof = Proof("", works=False, why="RuntimeError: CUDA driver version is insufficient for CUDA runtime version")
    monkeypatch.setattr(proofs, "read", lambda config, gpu: proof)
    assert stages(found(device)) == ("cpu", "cpu", "cpu")
    assert found(device).why == (
        "The GPU NVIDIA H100 can't be used (RuntimeError: CUDA driver version is insufficient for CUDA runtime "
        "version), so everything runs on the CPU."
    )
    assert (found(device).gpu, found(device).compute_type) == (None, "int8")


def test_others_that_idle_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert "One GPU is used; another GPU idles" in found().why
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "idles" not in found().why


@pytest.mark.parametrize(
    ("gpu", "wanted", "given"),
    [
        (False, "int8", "int8"),
        (False, "float32", "float32"),
        (False, "bfloat16", "bfloat16"),
        (False, "float16", "int8"),
        (True, "int8", "int8"),
        (True, "bfloat16", "bfloat16"),
        (True, "float32", "float32"),
    ],
)
def test_an_operator_may_choose_them(monkeypatch: pytest.MonkeyPatch, gpu: bool, wanted: Any, given: str) -> None:
    if gpu:
        install(monkeypatch)
    config = Config(data=Path("/data"), compute_type=wanted)
    assert devices.find(config).compute_type == given
    if wanted == given:
        devices.check(config)
    else:
        with pytest.raises(ConfigError, match=r"the CPU has none such\. For example: STENOBOX_COMPUTE_TYPE=auto"):
            devices.check(config)


class TestTheProbe:
    """Its child really computes, on the CPU; a GPU is one that is made up."""

    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch: pytest.MonkeyPatch, bare: None) -> FakeNvml:
        monkeypatch.setattr(proofs, "read", READ)
        return install(monkeypatch)

    def test_what_works_is_asked_once_and_kept(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def ask(config: Config, device: str) -> dict[str, Any]:
            asked.append(device)
            return {"compute_types": ["float16", "float32"]}

        monkeypatch.setattr(probe, "ask", ask)
        probe.ensure(config)
        probe.ensure(config)
        assert asked == ["cuda"]
        assert devices.find(config).compute_type == "float16"
        proofs.doubt(config)
        probe.ensure(config)
        assert asked == ["cuda", "cuda"]

    @pytest.mark.parametrize("change", ["driver", "library"])
    def test_another_driver_or_library_is_tried_anew(
        self, config: Config, monkeypatch: pytest.MonkeyPatch, change: str, gpu: FakeNvml
    ) -> None:
        monkeypatch.setattr(probe, "ask", lambda config, device: {"error": "an old driver"})
        probe.ensure(config)
        assert devices.find(config).recognition == "cpu"
        if change == "driver":
            monkeypatch.setattr(gpu, "nvmlSystemGetDriverVersion", lambda: "580.2")
            monkeypatch.setattr(nvidia, "_answers", {})
        else:
            monkeypatch.setattr(proofs, "_version", lambda name: f"{name} 99")
        monkeypatch.setattr(probe, "ask", lambda config, device: {"compute_types": ["int8"]})
        probe.ensure(config)
        assert (devices.find(config).recognition, devices.find(config).compute_type) == ("cuda", "int8")

    @pytest.mark.parametrize("device", ["cpu", "mps"])
    def test_what_nobody_wants_is_not_tried(self, config: Config, monkeypatch: pytest.MonkeyPatch, device: Any) -> None:
        monkeypatch.setattr(probe, "ask", lambda *_: pytest.fail("asked"))
        probe.ensure(msgspec.structs.replace(config, device=device))

    @pytest.mark.long
    def test_a_gpu_that_is_not_there_fails_it_and_the_cpu_passes(self, config: Config) -> None:
        assert "int8" in probe.ask(config, "cpu")["compute_types"]
        error = probe.ask(config, "cuda")["error"]
        assert "cuda" in error.lower() or "nvidia" in error.lower()
        assert not (config.data / "tmp").exists()

    def test_a_child_that_crashes_has_said_enough(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        def spawn(module: str, *arguments: str, env: dict[str, str], **options: Any) -> Any:
            return subprocess.Popen(
                [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], start_new_session=True, **options
            )

        monkeypatch.setattr(children, "spawn", spawn)
        assert probe.ask(config, "cuda") == {"error": "the process that tried it crashed (SIGSEGV)"}


def test_a_driver_that_fails_leaves_the_cpu_on_auto_and_refuses_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, FakeNvml(broken="Driver/library version mismatch"))
    assert stages(found()) == ("cpu", "cpu", "cpu")
    assert found().why == (
        "The NVIDIA driver can't be asked (Driver/library version mismatch), so everything runs on the CPU."
    )
    with pytest.raises(ConfigError, match=r"the NVIDIA driver can't be asked \(Driver"):
        found("cuda")


def test_the_driver_is_asked_once_and_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml = install(monkeypatch)
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
    install(monkeypatch)
    assert nvidia.find(visible) == gpu


@pytest.mark.parametrize(("instances", "gpu"), [([None, 1], "NVIDIA H100 MIG 1g.10gb"), ([None, None], None)])
def test_of_a_divided_gpu_the_first_instance_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, instances: list[Any], gpu: str | None
) -> None:
    install(monkeypatch, FakeNvml(instances=instances))
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
