"""Types are learnt before threads meet them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RACE = """
import dataclasses, sys, threading
import msgspec
from tasks.typed import Reader

sys.setswitchinterval(1e-6)
NAMES = [f"a{number}" for number in range(6)]
VALUE = {name: ["a"] for name in NAMES} | {"inner": dict.fromkeys(NAMES, 1)}


def fresh(kind):
    if kind == "struct":
        inner = msgspec.defstruct("Inner", [(name, int | None) for name in NAMES])
        return msgspec.defstruct("Outer", [(name, list[str] | None) for name in NAMES] + [("inner", inner)])
    inner = dataclasses.make_dataclass("Inner", [(name, "int | None") for name in NAMES])
    return dataclasses.make_dataclass("Outer", [(name, "list[str] | None") for name in NAMES] + [("inner", inner)])


for _ in range(100):
    reader, meet = Reader(fresh(sys.argv[1])), threading.Barrier(4)
    threads = [threading.Thread(target=lambda: (meet.wait(), reader.convert(VALUE))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.mark.parametrize("kind", ["dataclass", "struct"])
def test_threads_that_meet_a_type_together_do_not_crash(kind: str) -> None:
    """One in sixty fresh boxes lost its worker so: its first two samples were decoded at the same moment."""
    subprocess.run([sys.executable, "-c", RACE, kind], check=True, cwd=ROOT, timeout=300)


def test_nothing_else_has_msgspec_learn_a_type() -> None:
    learns = re.compile(r"msgspec\.convert\(|msgspec\.(json|msgpack)\.decode\([^\n]*type=")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("tasks", "webapp")
        for path in (ROOT / folder).rglob("*.py")
        if learns.search(path.read_text(encoding="utf-8"))
    }
    assert found == {
        "tasks/typed.py",
        "tasks/config.py",  # a variable's plain type, at the start
    }


def test_nobody_makes_one_in_a_function() -> None:
    for folder in ("tasks", "webapp"):
        for path in (ROOT / folder).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if re.search(r"\bReader\(|json\.Decoder\(", line) and path.name != "typed.py":
                    assert not line.startswith(" "), f"{path}: {line}"
