"""The wheel holds all that a running box needs, and README and package promise only what is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tasks.config import KEY, PASSWORD, VARIABLES
from webapp.cli import main
from webapp.routes import routes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_has_every_template_static_file_migration_and_model(wheel: Path) -> None:
    for source, target in (("templates", "webapp/templates"), ("static", "webapp/static"), ("tasks", "tasks")):
        ours = {p.relative_to(ROOT / source) for p in (ROOT / source).rglob("*") if p.is_file()}
        theirs = {p.relative_to(wheel / target) for p in (wheel / target).rglob("*") if p.is_file()}
        assert {p for p in ours if "__pycache__" not in p.parts} == theirs


def test_an_installed_wheel_finds_its_own_templates_and_static_files(wheel: Path) -> None:
    code = "import webapp.paths as p; print(p.TEMPLATES); print(p.STATIC)"
    environment = os.environ | {"PYTHONPATH": str(wheel)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == [str(wheel / "webapp" / "templates"), str(wheel / "webapp" / "static")]


def test_the_readme_lists_the_api_that_is_served() -> None:
    paths = [route.path for route in routes if getattr(route, "methods", None)]  # type: ignore[attr-defined]
    served = {path.replace(":path", "").rstrip("/") for path in paths if path.startswith("/api")}
    told = set(re.findall(r"(/api/v1/[a-z/{}-]+)", README.replace("`, `…/retry`", "` `/api/v1/jobs/{id}/retry`")))
    assert {path.rstrip("/") for path in told} - {"/api/v1/jobs/ID"} >= served
    assert {path for path in told if "{" in path or path.count("/") == 3} <= served


def test_the_readme_names_only_variables_there_are() -> None:
    assert set(re.findall(r"STENOBOX_[A-Z_]+", README)) <= {*VARIABLES.values(), PASSWORD, KEY}


@pytest.mark.parametrize("command", sorted(set(re.findall(r"bin/stenobox ([a-z]+)", README))))
def test_the_readme_names_only_commands_there_are(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert command in capsys.readouterr().out


def test_files_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_no_address_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9._+!]+(; [a-z_]+ .*)?"
    assert [line for line in lines if not re.fullmatch(pinned, line)] == []


@pytest.mark.parametrize(
    ("platform", "drivers"),
    [
        ("x86_64-manylinux_2_31", {"pysqlite3"}),
        ("aarch64-manylinux_2_31", set()),  # Python's own SQLite, see `tasks.sqlite`
        ("aarch64-apple-darwin", {"pysqlite3"}),
    ],
)
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_every_platform_of_the_readme_can_install_it_without_a_compiler(
    platform: str, drivers: set[str], python: str
) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv resolves for other platforms")
    command = [
        uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--only-binary", ":all:", "-c", "constraints.txt",
        "--python", sys.executable, "--python-version", python, "--python-platform", platform, "pyproject.toml",
    ]  # fmt: skip
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    if "error sending request" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip(f"no package index: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    names = {line.partition("==")[0] for line in done.stdout.splitlines()}
    assert {"torch", "whisperx", "av"} <= names
    assert names & {"pysqlite3"} == drivers
