"""The machine's true limits, read from trees of /proc and /sys as real hosts have them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import machine

GIB, MIB = 2**30, 2**20
V1_NO_LIMIT = "9223372036854771712"  # 2^63 rounded to a page
HOST = 64 * GIB

Tree = dict[str, str]


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of 64 GiB and 16 CPUs, a quarter of its memory in use."""
    monkeypatch.setattr(machine, "host_memory", lambda: (HOST, HOST * 3 // 4))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


def plant(root: Path, tree: Tree) -> Path:
    for name, text in tree.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"
ME = "proc/self/cgroup"

MEMORY: list[tuple[str, Tree, int, str]] = [
    # what, the tree, the limit, a part of its name
    ("nothing at all", {}, HOST, "physical memory"),
    ("a process in no group", {ME: ""}, HOST, "physical memory"),
    ("v2, own group", {ME: "0::/box", f"{V2}/box/memory.max": str(GIB)}, GIB, "box/memory.max"),
    ("v2, no limit", {ME: "0::/box", f"{V2}/box/memory.max": "max"}, HOST, "physical memory"),
    (
        "v2, the one above is tighter",
        {ME: "0::/a/b", f"{V2}/a/b/memory.max": str(4 * GIB), f"{V2}/a/memory.max": str(2 * GIB)},
        2 * GIB,
        "a/memory.max",
    ),
    (
        "v2, the middle one of three is tightest",
        {
            ME: "0::/a/b/c",
            f"{V2}/a/memory.max": str(8 * GIB),
            f"{V2}/a/b/memory.max": str(GIB),
            f"{V2}/a/b/c/memory.max": str(4 * GIB),
        },
        GIB,
        "a/b/memory.max",
    ),
    (
        "v2, memory.high throttles before memory.max kills",
        {ME: "0::/box", f"{V2}/box/memory.max": str(2 * GIB), f"{V2}/box/memory.high": str(GIB)},
        GIB,
        "memory.high",
    ),
    (
        "v2, namespaced: the container's own group is the root",
        {ME: "0::/", f"{V2}/memory.max": str(600 * MIB)},
        600 * MIB,
        "cgroup/memory.max",
    ),
    (
        "v2, a container that sees the host's path, which isn't there",
        {ME: "0::/system.slice/docker-0a1b.scope", f"{V2}/memory.max": str(600 * MIB)},
        600 * MIB,
        "cgroup/memory.max",
    ),
    (
        "v1, own group",
        {ME: "7:cpu,cpuacct:/box\n4:memory:/box", f"{V1}/box/memory.limit_in_bytes": str(GIB)},
        GIB,
        "memory.limit_in_bytes",
    ),
    (
        "v1, no limit",
        {ME: "4:memory:/box", f"{V1}/box/memory.limit_in_bytes": V1_NO_LIMIT},
        HOST,
        "physical memory",
    ),
    (
        "v1, the one above is tighter",
        {
            ME: "4:memory:/a/b",
            f"{V1}/memory.limit_in_bytes": V1_NO_LIMIT,
            f"{V1}/a/memory.limit_in_bytes": str(GIB),
            f"{V1}/a/b/memory.limit_in_bytes": V1_NO_LIMIT,
        },
        GIB,
        "a/memory.limit_in_bytes",
    ),
    (
        "v1, in a container that sees the host's path",
        {ME: "4:memory:/docker/0a1b", f"{V1}/memory.limit_in_bytes": str(GIB)},
        GIB,
        "memory/memory.limit_in_bytes",
    ),
    (
        "hybrid: memory is of version 1",
        {
            ME: "4:memory:/box\n1:name=systemd:/box\n0::/box",
            f"{V1}/box/memory.limit_in_bytes": str(GIB),
            "sys/fs/cgroup/unified/box/cgroup.procs": "",
        },
        GIB,
        "memory.limit_in_bytes",
    ),
    (
        "hybrid: memory is of version 2, beside",
        {
            ME: "7:cpu:/box\n0::/box",
            "sys/fs/cgroup/cpu/box/cpu.shares": "1024",
            "sys/fs/cgroup/unified/box/memory.max": str(GIB),
        },
        GIB,
        "unified/box/memory.max",
    ),
    ("a limit above the machine", {ME: "0::/box", f"{V2}/box/memory.max": str(2 * HOST)}, HOST, "physical memory"),
    ("nonsense in the file", {ME: "0::/box\nnonsense", f"{V2}/box/memory.max": "lots"}, HOST, "physical memory"),
]


@pytest.mark.parametrize(("tree", "limit", "name"), [c[1:] for c in MEMORY], ids=[c[0] for c in MEMORY])
def test_the_tightest_memory_limit_wins_and_says_its_name(tmp_path: Path, tree: Tree, limit: int, name: str) -> None:
    found = machine.memory({}, plant(tmp_path, tree))
    assert found.limit.value == limit
    assert name in found.limit.name
    assert found.bounds[0] == machine.Bound("physical memory", HOST)


@pytest.mark.parametrize(
    ("environment", "limit", "name"),
    [
        ({"FLY_VM_MEMORY_MB": "512"}, 512 * MIB, "FLY_VM_MEMORY_MB"),
        ({"STENOBOX_RAM_MB": "2000"}, 2000 * MIB, "STENOBOX_RAM_MB"),
        ({"RAILWAY_RAM_MB": "8192"}, 8192 * MIB, "RAILWAY_RAM_MB"),
        ({"STENOBOX_RAM_MB": "900", "FLY_VM_MEMORY_MB": "512"}, 512 * MIB, "FLY_VM_MEMORY_MB"),
        ({"STENOBOX_RAM_MB": "999999"}, HOST, "physical memory"),
        ({"STENOBOX_RAM_MB": "0"}, HOST, "physical memory"),
        ({"STENOBOX_RAM_MB": "4 GB"}, HOST, "physical memory"),
        ({"STENOBOX_RAM_MB": ""}, HOST, "physical memory"),
        ({"RAILWAY_ENVIRONMENT": "production"}, HOST, "physical memory"),
    ],
)
def test_what_the_operator_or_the_host_says(tmp_path: Path, environment: dict[str, str], limit: int, name: str) -> None:
    found = machine.memory(environment, tmp_path)
    assert (found.limit.value, found.limit.name) == (limit, name)


def test_a_group_tighter_than_what_the_operator_says_wins(tmp_path: Path) -> None:
    tree = {ME: "0::/", f"{V2}/memory.max": str(GIB)}
    assert machine.memory({"STENOBOX_RAM_MB": "2048"}, plant(tmp_path, tree)).limit.value == GIB


V2_STAT = "anon 100\nfile 900\ninactive_file 500\nactive_file 300\nfile_mapped 120\nkernel 50"
V1_STAT = (
    "cache 1\ninactive_file 1\nactive_file 1\nmapped_file 1\n"
    "total_inactive_file 500\ntotal_active_file 300\ntotal_mapped_file 120"
)


@pytest.mark.parametrize(
    ("files", "used"),
    [
        ({"memory.current": "1050", "memory.stat": V2_STAT}, 1050 - 500 - 180),
        ({"memory.current": "1050", "memory.stat": "inactive_file 500"}, 550),
        ({"memory.current": "1050", "memory.stat": "inactive_file 500\nactive_file 100\nfile_mapped 120"}, 550),
        ({"memory.current": "1050"}, 1050),
        ({"memory.current": "100", "memory.stat": "inactive_file 500"}, 0),
        ({"memory.usage_in_bytes": "1050", "memory.stat": V1_STAT}, 1050 - 500 - 180),
        ({}, HOST // 4),  # a group that doesn't tell: what the machine says
    ],
)
def test_use_is_counted_without_what_the_kernel_can_take_back(tmp_path: Path, files: Tree, used: int) -> None:
    tree = {ME: "0::/box", f"{V2}/box/memory.max": str(GIB)} | {f"{V2}/box/{k}": v for k, v in files.items()}
    assert machine.memory({}, plant(tmp_path, tree)).used == used


def test_use_is_counted_where_the_limit_is(tmp_path: Path) -> None:
    """The group above has the limit, and neighbours in it fill it too."""
    tree = {
        ME: "0::/a/b",
        f"{V2}/a/memory.max": str(GIB),
        f"{V2}/a/memory.current": "900",
        f"{V2}/a/b/memory.current": "100",
    }
    assert machine.memory({}, plant(tmp_path, tree)).used == 900


def test_use_of_the_whole_machine(tmp_path: Path) -> None:
    assert machine.memory({}, tmp_path).used == HOST // 4


def test_use_of_what_the_operator_gave_is_this_boxs_own(tmp_path: Path) -> None:
    """Other programs fill 16 GiB of the machine; that says nothing about the two that are ours."""
    used = machine.memory({"STENOBOX_RAM_MB": "2048"}, tmp_path).used
    own = psutil.Process().memory_info().rss
    assert own * 0.8 < used < own + 4 * GIB


CPUS: list[tuple[str, Tree, int]] = [
    ("no limit", {}, 16),
    ("half a CPU", {ME: "0::/", f"{V2}/cpu.max": "50000 100000"}, 1),
    ("one and a half", {ME: "0::/", f"{V2}/cpu.max": "150000 100000"}, 1),
    ("two", {ME: "0::/", f"{V2}/cpu.max": "200000 100000"}, 2),
    ("2.99, in another period", {ME: "0::/", f"{V2}/cpu.max": "299000 100000"}, 2),
    ("v2 without a limit", {ME: "0::/", f"{V2}/cpu.max": "max 100000"}, 16),
    ("v2, above", {ME: "0::/a/b", f"{V2}/a/cpu.max": "300000 100000", f"{V2}/a/b/cpu.max": "max 100000"}, 3),
    (
        "v1",
        {
            ME: "7:cpu,cpuacct:/box\n4:memory:/box",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000",
        },
        4,
    ),
    (
        "v1 without a limit",
        {
            ME: "7:cpu,cpuacct:/box",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
        },
        16,
    ),
    ("a period of nought", {ME: "0::/", f"{V2}/cpu.max": "100000 0"}, 16),
]


@pytest.mark.parametrize(("tree", "count"), [c[1:] for c in CPUS], ids=[c[0] for c in CPUS])
def test_cpus_are_rounded_down_but_never_to_none(tmp_path: Path, tree: Tree, count: int) -> None:
    assert machine.cpus({}, plant(tmp_path, tree)).count == count


def test_affinity_and_the_operators_number_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.cpus({}, tmp_path, stated=3).count == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5}, raising=False)
    found = machine.cpus({}, tmp_path, stated=3)
    assert found.count == 2
    assert [bound.name for bound in found.bounds] == ["CPUs of the machine", "CPU affinity", "STENOBOX_CPUS"]


def test_a_system_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cpus({}, tmp_path).count == 1


def test_fly_is_warned_of(tmp_path: Path) -> None:
    assert machine.cpus({}, tmp_path).warning is None
    warning = machine.cpus({"FLY_APP_NAME": "box"}, tmp_path).warning
    assert warning is not None
    assert "shared CPU" in warning


PSI = "some avg10={} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"


@pytest.mark.parametrize(
    ("tree", "stalled", "kills"),
    [
        ({}, None, 0),
        ({"proc/pressure/memory": PSI.format("12.50")}, 0.125, 0),
        (
            {
                ME: "0::/a/b",
                f"{V2}/a/b/memory.pressure": PSI.format("40.00"),
                f"{V2}/a/memory.pressure": PSI.format("1.00"),
                "proc/pressure/memory": PSI.format("2.00"),
                f"{V2}/a/b/memory.events": "low 0\nhigh 0\nmax 5\noom 1\noom_kill 2",
                f"{V2}/a/memory.events": "oom 9\noom_kill 9",
            },
            0.4,
            2,
        ),
        (
            {
                ME: "4:memory:/box",
                "proc/pressure/memory": PSI.format("0.00"),
                f"{V1}/box/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3",
                f"{V1}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 8",
            },
            0.0,
            3,
        ),
        ({ME: "4:memory:/box", f"{V1}/box/memory.oom_control": "oom_kill_disable 0\nunder_oom 0"}, None, 0),
    ],
    ids=["nothing", "the machine's", "v2: the innermost group's", "v1", "a v1 kernel that doesn't count"],
)
def test_pressure(tmp_path: Path, tree: Tree, stalled: float | None, kills: int) -> None:
    found = machine.pressure(plant(tmp_path, tree))
    assert (found.stalled, found.oom_kills) == (stalled, kills)
    assert found.swapped >= 0


def test_cpu_seconds_count_children_also_after_they_have_ended() -> None:
    before = machine.cpu_seconds()
    burn = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert 0.35 < machine.cpu_seconds() - before < 10


def test_the_supervisor_and_its_children_are_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    own = machine.cpu_seconds()
    monkeypatch.setenv("STENOBOX_PARENT", str(os.getppid()))
    parent: Any = psutil.Process(os.getppid()).cpu_times()
    assert machine.cpu_seconds() >= own + parent.user - 0.1


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**50), min_size=1, max_size=4))
def test_deeper_groups_never_loosen_a_limit(limits: list[int]) -> None:
    import tempfile

    path = "/".join(f"g{n}" for n in range(len(limits)))
    with tempfile.TemporaryDirectory() as root:
        tree = {ME: f"0::/{path}"}
        for depth, limit in enumerate(limits, 1):
            tree[f"{V2}/{'/'.join(path.split('/')[:depth])}/memory.max"] = str(limit)
        assert machine.memory({}, plant(Path(root), tree)).limit.value == min(HOST, *limits)


def test_this_machine_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    memory, cpus = machine.memory(), machine.cpus()
    assert 0 < memory.used < memory.limit.value
    assert 1 <= cpus.count <= (os.cpu_count() or 1)
    began = time.process_time()
    for _ in range(20):
        machine.memory()
        machine.pressure()
    assert time.process_time() - began < 10  # it is asked every second
