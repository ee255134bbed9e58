"""Files that hosts read: what can be checked of them without the hosts."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support import SAMPLES, free_port, wait_until

from tasks.config import PASSWORD, VARIABLES, from_env
from tasks.costs import Kind, estimate
from tasks.machine import OPERATORS, Bound
from tasks.slots import plan

ROOT = Path(__file__).parent.parent
KNOWN = {*VARIABLES.values(), *OPERATORS, PASSWORD, "PORT"}
SEEN_BY_LIBRARIES = {"HF_HOME", "TORCH_HOME", "NLTK_DATA", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_"}


def seconds(text: str | int) -> float:
    return float(str(text).removesuffix("s"))


class TestFly:
    FILE = tomllib.loads((ROOT / "fly.toml").read_text(encoding="utf-8"))
    # https://fly.io/docs/reference/configuration/ as of August 2026: `fly config validate --strict` refuses others.
    FIELDS: dict[str, Any] = {
        "app": str, "primary_region": str, "kill_signal": str, "kill_timeout": int, "swap_size_mb": int,
        "build": {"dockerfile"}, "deploy": {"strategy", "wait_timeout"}, "env": None,
        "mounts": {"source", "destination", "initial_size", "auto_extend_size_threshold", "auto_extend_size_increment",
                   "auto_extend_size_limit", "snapshot_retention"},
        "http_service": {"internal_port", "force_https", "auto_stop_machines", "auto_start_machines", "concurrency",
                         "http_options", "checks"},
        "vm": {"cpu_kind", "cpus", "memory"}, "restart": {"policy", "retries"}, "metrics": {"port", "path"},
    }  # fmt: skip

    def test_every_field_is_a_documented_one(self) -> None:
        assert set(self.FILE) == set(self.FIELDS)
        for name, allowed in self.FIELDS.items():
            for table in self.FILE[name] if isinstance(self.FILE[name], list) else [self.FILE[name]]:
                if isinstance(allowed, set):
                    assert set(table) <= allowed, name
                elif allowed is not None:
                    assert isinstance(table, allowed), name
        assert set(self.FILE["http_service"]["checks"][0]) == {"method", "path", "interval", "timeout", "grace_period"}

    def test_the_parts_fit_together(self) -> None:
        file, env = self.FILE, self.FILE["env"]
        assert file["http_service"]["internal_port"] == int(env["PORT"])
        assert file["metrics"]["port"] == int(env["STENOBOX_METRICS"].rpartition(":")[2])
        assert file["mounts"]["destination"] == env["STENOBOX_DATA"]
        assert seconds(env["STENOBOX_GRACE"]) + 5 < file["kill_timeout"] <= 300
        assert "hard_limit" not in file["http_service"]["concurrency"]
        assert file["http_service"]["auto_stop_machines"] == "off"
        assert "processes" not in file

    def test_stenobox_takes_these_variables(self) -> None:
        env = self.FILE["env"]
        assert set(env) <= KNOWN | SEEN_BY_LIBRARIES
        config = from_env({**env, "STENOBOX_PASSWORD": "something long", "STENOBOX_HOSTS": "my.fly.dev"})
        assert config.port == 8080


MACHINES = [(1, 2), (2, 4), (2, 8), (2, 16), (4, 16), (8, 32)]
SIZES = ["tiny", "base", "small", "medium", "turbo", "large-v3"]


def machine_table() -> str:
    """The table of docs/deploy-fly.md, by the arithmetic that admission uses."""
    rows = ["| Machine | " + " | ".join(SIZES) + " |", "|---" * (len(SIZES) + 1) + "|"]
    for cpus, gb in MACHINES:
        cells = []
        for model in SIZES:
            found = plan(
                model,
                "cpu",
                Bound("Machine", gb * 2**30),
                cpus,
                lambda batch, model=model: estimate(Kind(model, "int8", batch), []),  # type: ignore[misc]
            )
            cells.append(f"{found.recommended} ({found.maximum})" if found.maximum else "0")
        rows.append(f"| performance-{cpus}x, {gb} GB | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def test_the_guide_shows_what_the_arithmetic_says() -> None:
    guide = (ROOT / "docs" / "deploy-fly.md").read_text(encoding="utf-8")
    assert machine_table() in guide, f"docs/deploy-fly.md should hold:\n{machine_table()}"


class TestRailway:
    TEXT = (ROOT / ".railway" / "railway.ts").read_text(encoding="utf-8")

    def test_the_parts_fit_together(self) -> None:
        env = dict(re.findall(r'^      ([A-Z_]+): (?:"([^"]*)"|preserve\(\))', self.TEXT, re.MULTILINE))
        assert set(env) <= KNOWN | {"RAILWAY_RUN_UID"}
        (draining,) = re.findall(r"drainingSeconds: (\d+)", self.TEXT)
        assert seconds(env["STENOBOX_GRACE"]) + 5 < int(draining)
        assert env["RAILWAY_RUN_UID"] == "0"
        assert f'"{env["STENOBOX_DATA"]}": data' in self.TEXT

    @pytest.mark.skipif(shutil.which("npm") is None, reason="npm brings the types of Railway's own package")
    def test_it_compiles_with_railways_types_and_describes_the_service(self, tmp_path: Path) -> None:
        shutil.copytree(ROOT / ".railway", tmp_path / ".railway")
        (tmp_path / "package.json").write_text('{"private": true}')
        installed = subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "railway@3.11.0",
             "typescript@5"],
            cwd=tmp_path, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        if installed.returncode:
            pytest.skip(f"npm could not install Railway's package: {installed.stderr[-200:]}")
        tsc = str(tmp_path / "node_modules" / ".bin" / "tsc")
        checked = subprocess.run(
            [tsc, "-p", ".railway/tsconfig.json"], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert checked.returncode == 0, checked.stdout
        subprocess.run(
            [tsc, "-p", ".railway/tsconfig.json", "--noEmit", "false", "--outDir", "out"],
            cwd=tmp_path, check=True, timeout=120,
        )  # fmt: skip
        show = (
            'import { createRequire } from "module"; const require = createRequire(process.cwd() + "/");'
            'const { createRailwayContext } = require("railway/iac"); const made = require("./out/railway.js").default;'
            "console.log(JSON.stringify(await made(createRailwayContext({}))))"
        )
        told = subprocess.run(
            ["node", "--input-type=module", "-e", show], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert told.returncode == 0, told.stderr
        (service,) = [r for r in json.loads(told.stdout)["resources"] if r["type"] == "service"]
        assert service["volumeAttachments"]["data"]["mountPath"] == "/data"
        assert service["deploy"]["healthcheckPath"] == "/healthz"
        assert service["variables"]["STENOBOX_PASSWORD"] == {"type": "preserve"}


def test_compose_stops_later_than_stenobox_and_names_variables_there_are() -> None:
    (box,) = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    assert set(box["environment"]) <= KNOWN
    assert seconds(box["environment"]["STENOBOX_GRACE"]) + 5 < seconds(box["stop_grace_period"])
    assert box["read_only"] is True
    assert box["volumes"] == ["data:/data"]


def test_the_unit_stops_later_than_stenobox_and_starts_what_there_is() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "stenobox.service")
    text = (ROOT / "deploy" / "stenobox.service").read_text(encoding="utf-8")
    assert set(re.findall(r"^Environment=(\w+)", text, re.MULTILINE)) <= KNOWN
    (grace,) = re.findall(r"STENOBOX_GRACE=(\d+)", text)
    assert seconds(grace) + 5 < seconds(unit["Service"]["TimeoutStopSec"])
    assert unit["Service"]["ExecStart"].split()[1:] == ["serve"]


class TestDockerfile:
    TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    def test_the_context_holds_what_is_copied_and_built(self) -> None:
        kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        copied = set(re.findall(r"^COPY (?!--from)([\w./ -]+) \S+$", self.TEXT, re.MULTILINE))
        sources = {name.split("/")[0] for names in copied for name in names.split()} - {"."}
        assert sources <= kept
        build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        targets = build["tool"]["hatch"]["build"]["targets"]["wheel"]
        assert {*targets["packages"], *targets["force-include"], "README.md", "LICENSE"} <= kept
        assert all((ROOT / name).exists() for name in kept)

    def test_variables_and_program_are_there(self) -> None:
        assert set(re.findall(r"\b(STENOBOX_[A-Z]+)=", self.TEXT)) <= KNOWN
        assert os.access(ROOT / "docker" / "entrypoint", os.X_OK)
        assert os.access(ROOT / "docker" / "healthcheck", os.X_OK)


IN_IMAGE = r"""
set -eu
# A machine as in the image: the interpreter reachable for every user, the code read-only, an empty volume of root's.
code=$1 data=$2 home=$(getent passwd root | cut -d: -f6)
case $(readlink -f "$code/.venv/bin/python") in "$home"/*)
    keep=$(mktemp -d); mount --bind "$home/.pyenv" "$keep" 2> /dev/null || mount --bind "$home" "$keep"
    mount -t tmpfs -o mode=755 none "$home"
    target=$home; [ ! -d "$keep/versions" ] || target=$home/.pyenv
    mkdir -p "$target"; mount --bind "$keep" "$target"
esac
mount --bind "$code" "$code"; mount -o remount,bind,ro "$code"
export PATH="$code/.venv/bin:$PATH" STENOBOX_DATA="$data"
exec "$code/docker/entrypoint" serve
"""


def reachable(path: Path) -> bool:
    """Whether another user can walk there."""
    return all(folder.stat().st_mode & 0o001 for folder in [path, *path.parents])


@pytest.fixture
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int, Path, Path]]:
    """The image's entry point as its host starts it, in a mount namespace: the process, its port, volume and log."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        pytest.skip("needs root, unshare and setpriv")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces can't be made here")
    if not reachable(ROOT):
        pytest.skip(f"other users can't reach {ROOT}")
    data = Path("/tmp") / f"stenobox-volume-{os.getpid()}"
    data.mkdir()
    port, told = free_port(), tmp_path_factory.mktemp("image") / "log"
    environment = {"PATH": os.environ["PATH"], "STENOBOX_USER": "nobody", "PORT": str(port), "STENOBOX_GRACE": "5"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    with told.open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", IN_IMAGE, "sh", str(ROOT), str(data)], env=environment, stdout=log, stderr=log
        )
    try:
        yield process, port, data, told
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(data)


def test_the_image_starts_as_root_and_works_as_its_own_user(
    replayed: tuple[subprocess.Popen[bytes], int, Path, Path],
) -> None:
    process, port, data, log = replayed
    check = [sys.executable, str(ROOT / "docker" / "healthcheck")]
    environment = {**os.environ, "PORT": str(port)}
    environment.pop("STENOBOX_PORT", None)

    def healthy() -> bool:
        assert process.poll() is None, log.read_text()
        return subprocess.run(check, env=environment, capture_output=True).returncode == 0

    wait_until(healthy, 120, every=0.5)
    address = f"http://127.0.0.1:{port}/api/v1"
    with (SAMPLES / "en-u002.flac").open("rb") as file:
        job = httpx.post(f"{address}/transcriptions", files={"file": file}, timeout=60).json()
    wait_until(lambda: httpx.get(f"{address}/jobs/{job['id']}", timeout=30).json()["state"] == "completed", 180)
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert f"Uid:\t{data.stat().st_uid}\t" in status
    assert data.stat().st_uid != 0
    assert data.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_uid for path in data.rglob("*")} == {data.stat().st_uid}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert subprocess.run(check, env=environment, capture_output=True).returncode == 1
