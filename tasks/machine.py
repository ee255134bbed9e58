"""The machine's true limits: what memory and CPUs this process may use, and who says so.

psutil sees the whole host, also from inside a container with a fortieth of it, so the control groups are read here:
version 2 and 1, from the process's own group up to the root, because any of them may be the tightest.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tasks.config import ConfigError

if TYPE_CHECKING:
    import psutil

_T = TypeVar("_T")

_NO_LIMIT = 2**60
"""Version 1 writes 2^63 rounded to a page where there is no limit; nothing that large is one."""

OPERATORS = ("STENOBOX_RAM_MB", "RAILWAY_RAM_MB", "FLY_VM_MEMORY_MB")
"""Variables that state the memory of this box in MiB: the operator's word, or the host's."""


def check_stated(environment: Mapping[str, str] = os.environ) -> None:
    """Raises ConfigError for an operator's number that is none: it would be left out, and the box take all there is."""
    for variable in ("STENOBOX_RAM_MB", "RAILWAY_RAM_MB"):
        text = environment.get(variable, "").strip()
        if text and not (text.isascii() and text.isdigit() and int(text)):
            raise ConfigError(
                f"{variable}={text!r} can't be used as memory of this box in MiB: it must be a whole number above 0. "
                f"For example: {variable}=2048"
            )


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit. name: who sets it, for people; value: bytes of memory, or CPUs; folder: the control group, if one."""

    name: str
    value: float
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """limit: the tightest of `bounds`; used: bytes in use of it, without cache that the kernel can take back."""

    bounds: tuple[Bound, ...]
    used: int

    @property
    def limit(self) -> Bound:
        return min(self.bounds, key=lambda bound: bound.value)


@dataclass(frozen=True, slots=True)
class Cpus:
    """count: whole CPUs this process can keep busy; bounds: who limits them; warning: a sentence, or None."""

    count: int
    bounds: tuple[Bound, ...]
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Pressure:
    """Signs of trouble. stalled: share of the last ten seconds in which work waited for memory, 0..1, None if the
    kernel doesn't tell; swapped: bytes of swap in use; oom_kills: processes the kernel has killed in our group."""

    stalled: float | None
    swapped: int
    oom_kills: int


def memory(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Memory:
    """Limits and use of memory. root: where proc and sys are, for tests."""
    total, available = host_memory()
    bounds = [Bound("physical memory", total)]
    for variable in OPERATORS:
        text = environment.get(variable, "").strip()
        if text.isdigit() and int(text):
            bounds.append(Bound(variable, int(text) * 2**20))
    bounds += _memory_groups(root)
    limit = min(bounds, key=lambda bound: bound.value)
    used = working_set(limit.folder) if limit.folder else None
    if used is None:
        # An operator's number is what this box may take of a larger machine, whatever else fills that.
        used = _resident() if limit.name in OPERATORS else total - available
    return Memory(tuple(bounds), used)


def cpus(environment: Mapping[str, str] = os.environ, root: Path = Path("/"), stated: int = 0) -> Cpus:
    """CPUs, rounded down, at least one. stated: the operator's own number, 0 for none."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None  # macOS has none
    bounds = [Bound("CPUs of the machine", os.cpu_count() or 1)]
    if affinity:
        bounds.append(Bound("CPU affinity", len(affinity)))
    if stated:
        bounds.append(Bound("STENOBOX_CPUS", stated))
    bounds += _cpu_groups(root)
    warning = None
    if environment.get("FLY_APP_NAME"):
        warning = (
            "This box runs on Fly. A shared CPU there sustains a sixteenth of a core, which can't be seen from inside: "
            "use performance CPUs, or expect a tenth of the speed."
        )
    return Cpus(max(1, int(min(bound.value for bound in bounds))), tuple(bounds), warning)


def pressure(root: Path = Path("/")) -> Pressure:
    """What the kernel says about memory now."""
    import psutil

    return Pressure(_stalled(root), psutil.swap_memory().used, oom_kills(root))


def host_memory(root: Path = Path("/")) -> tuple[int, int]:
    """Bytes that the machine has, and that are available on it. Read here where it takes two lines, since psutil makes
    the web process a megabyte larger."""
    found = _kilobytes(root / "proc/meminfo")
    if {"MemTotal", "MemAvailable"} <= found.keys():
        return found["MemTotal"] * 1024, min(found["MemAvailable"], found["MemTotal"]) * 1024
    import psutil  # macOS

    host = psutil.virtual_memory()
    return host.total, host.available


def oom_kills(root: Path = Path("/")) -> int:
    """Processes that the kernel has killed for lack of memory: of our control group, else of the machine. It counts
    one before it kills it."""
    for folder in _groups(root, "memory"):
        found = _numbers(folder / "memory.events") or _numbers(folder / "memory.oom_control")
        if "oom_kill" in found:
            return int(found["oom_kill"])  # the innermost group: what happened to us, not to a neighbour
    return int(_numbers(root / "proc/vmstat").get("oom_kill", 0))


def cpu_seconds() -> float:
    """CPU time that all processes of this box have used, those that have ended included."""
    import psutil

    return sum(
        times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        for times in _of_box(psutil.Process.cpu_times)
    )


def _resident() -> int:
    import psutil

    return sum(info.rss for info in _of_box(psutil.Process.memory_info))


def _of_box(ask: Callable[[psutil.Process], _T]) -> list[_T]:
    """The answers of this process and those below it; of the supervisor and all below it where there is one."""
    import psutil

    parent, top = os.getppid(), psutil.Process()
    if os.environ.get("STENOBOX_PARENT") == str(parent):
        top = psutil.Process(parent)
    answers = []
    for process in [top, *top.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it has just ended
            answers.append(ask(process))
    return answers


def _stalled(root: Path) -> float | None:
    for file in [*(folder / "memory.pressure" for folder in _groups(root, "memory")), root / "proc/pressure/memory"]:
        for line in _read(file).splitlines():
            if line.startswith("some "):
                return float(line.split("avg10=")[1].split()[0]) / 100
    return None


def _memory_groups(root: Path) -> Iterator[Bound]:
    for folder in _groups(root, "memory"):
        for file in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            text = _read(folder / file).strip()
            if text.isdigit() and int(text) < _NO_LIMIT:
                yield Bound(f"control group {folder / file}", int(text), folder)


def working_set(folder: Path) -> int | None:
    """Bytes in use without cache that the kernel can take back; None where the group doesn't tell.

    As Kubernetes counts, without inactive file pages; and without active ones that no process has mapped: a recording
    that was written and then read stays among those until memory is short, and the guard would hold for ever.
    """
    current = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
    if not current.strip().isdigit():
        return None
    stat = _numbers(folder / "memory.stat")

    def counted(name: str, other: str = "") -> int:
        return int(stat.get(f"total_{name}", stat.get(name, stat.get(other, 0))))

    unmapped = max(0, counted("active_file") - counted("mapped_file", "file_mapped"))
    return max(0, int(current) - counted("inactive_file") - unmapped)


def _cpu_groups(root: Path) -> Iterator[Bound]:
    for folder in _groups(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")  # version 2: "150000 100000" or "max 100000"
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.strip().isdigit() and period.strip().isdigit() and int(period):
            yield Bound(f"control group {folder}", int(quota) / int(period), folder)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of our control group and all above it, innermost first; several hierarchies where both versions are."""
    base = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            tops = [base / controllers, base / controller]
        elif number == "0" and not controllers:
            tops = [base / "unified", base]
        else:
            continue
        top = next((top for top in tops if top.is_dir()), None)
        if top is None:
            continue
        folder = top / path.strip("/")  # in a container this may be the host's path, which isn't there
        while folder != top:
            if folder.is_dir():
                yield folder
            folder = folder.parent
        yield top


def _kilobytes(path: Path) -> dict[str, int]:
    """Lines of "name: number kB"."""
    lines = (line.split() for line in _read(path).splitlines())
    return {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) == 3 and line[1].isdigit()}


def _numbers(path: Path) -> dict[str, float]:
    """Lines of "name number"."""
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
