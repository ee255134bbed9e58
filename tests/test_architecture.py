"""The shape of the code that docs/architecture.md promises."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def order(package: str) -> list[str]:
    """The modules of a package in the order its docstring gives."""
    text = importlib.import_module(package).__doc__ or ""
    return [word for line in re.findall(r"^    (.+)$", text, re.MULTILINE) for word in line.split()]


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, function bodies included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py") if "migrations" not in p.parts)


@pytest.mark.parametrize("package", ["tasks", "webapp"])
def test_the_docstring_names_every_module(package: str) -> None:
    there = {p.relative_to(ROOT / package).parts[0].removesuffix(".py") for p in files(package)} - {"__init__"}
    assert set(order(package)) == there


@pytest.mark.parametrize("package", ["tasks", "webapp"])
def test_a_module_imports_only_modules_above_it(package: str) -> None:
    place = {name: number for number, name in enumerate(order(package))}
    wrong = []
    for path in files(package):
        own = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1 and parts[1] in place and place[parts[1]] > place.get(own, 0):
                wrong.append(f"{own} imports {parts[1]}")
    assert wrong == []


def test_the_runner_knows_nothing_of_its_faces() -> None:
    assert [p.name for p in files("tasks") if any(name.split(".")[0] == "webapp" for name in imports(p))] == []


def test_architecture_names_every_module_and_variable() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    from tasks.config import VARIABLES

    named = set(re.findall(r"`([A-Za-z_/]+)`", text))
    assert set(order("tasks") + order("webapp")) <= {name.rstrip("/") for name in named}
    assert [v for v in VARIABLES.values() if v not in text] == []


def test_no_python_file_is_over_350_lines() -> None:
    long = {p.name: n for p in [*files("tasks"), *files("webapp")] if (n := len(p.read_text().splitlines())) > 350}
    assert long == {}
