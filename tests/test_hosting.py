"""Files that hosts read: what can be checked of them without the hosts."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import host_rules
import httpx
import psutil
import pytest
import yaml
from fake_hub import FakeHub, files_of, serving
from host_rules import seconds
from support import BUSY_SECONDS, SAMPLES, free_port, wait_until

from tasks import models
from tasks.config import PASSWORD, VARIABLES, from_env
from tasks.costs import Kind, estimate
from tasks.machine import OPERATORS, Bound
from tasks.slots import plan

ROOT = Path(__file__).parent.parent
KNOWN = {*VARIABLES.values(), *OPERATORS, PASSWORD, "PORT"}
SEEN_BY_LIBRARIES = {"HF_HOME", "TORCH_HOME", "NLTK_DATA", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_"}


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
        assert list(host_rules.of_fly(file)) == []
        assert file["metrics"]["port"] == int(env["STENOBOX_METRICS"].rpartition(":")[2])
        assert file["mounts"]["destination"] == env["STENOBOX_DATA"]
        assert seconds(env["STENOBOX_GRACE"]) + 5 < file["kill_timeout"]
        assert file["http_service"]["auto_stop_machines"] == "off"

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


def test_what_the_readme_asks_for_is_enough() -> None:
    told = (ROOT / "README.md").read_text(encoding="utf-8").partition("- **Memory**")[2].partition("\n- ")[0]
    asked = {
        model.strip(): int(gb)
        for names, gb in re.findall(r"([\w.,\s-]+?) (\d+) GB", told.partition(":")[2])
        for model in names.split(",")
    }
    assert set(asked) == {"demo", *SIZES}
    for model, gb in asked.items():
        found = plan(
            model, "cpu", Bound("", gb * 2**30), 2,
            lambda batch, model=model: estimate(Kind(model, "int8", batch), []),  # type: ignore[misc]
        )  # fmt: skip
        assert found.maximum >= 1, model


class TestRailway:
    TEXT = (ROOT / ".railway" / "railway.ts").read_text(encoding="utf-8")

    def test_the_parts_fit_together(self) -> None:
        env = dict(re.findall(r'^      ([A-Z_]+): (?:"([^"]*)"|preserve\(\))', self.TEXT, re.MULTILINE))
        assert set(env) <= KNOWN | {"RAILWAY_RUN_UID"}
        assert list(host_rules.of_railway(self.TEXT)) == []
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


class TestCompose:
    FILE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    BOX = FILE["services"]["stenobox"]
    # The image's own, and what has to fit the time that compose gives.
    FIXED = ("STENOBOX_DATA", "STENOBOX_HOST", "STENOBOX_PORT", "STENOBOX_GRACE")

    def test_it_stops_later_than_stenobox_and_has_the_rights_it_needs(self) -> None:
        assert list(host_rules.of_compose(self.BOX)) == []
        assert seconds(self.BOX["environment"]["STENOBOX_GRACE"]) + 5 < seconds(self.BOX["stop_grace_period"])
        assert self.BOX["read_only"] is True
        assert set(self.FILE["volumes"]) == {"data", "inbox"}

    def test_every_setting_can_be_given_in_its_env_file(self) -> None:
        given = set(self.BOX["environment"])
        assert given <= KNOWN
        assert {*VARIABLES.values(), "STENOBOX_RAM_MB", PASSWORD} - {*self.FIXED} <= given
        (port,) = self.BOX["ports"]
        assert "STENOBOX_HOST" in port
        assert "STENOBOX_PORT" in port

    def test_what_stands_before_it_is_believed_and_nobody_of_the_network_besides(self) -> None:
        told = interpolated(self.BOX["environment"], {})
        (network,) = self.FILE["networks"]["default"]["ipam"]["config"]
        assert told["STENOBOX_PROXIES"] == interpolated(network, {})["subnet"]
        config = from_env({name: value for name, value in told.items() if value} | {"STENOBOX_HOST": "0.0.0.0"})
        (trusted,) = config.trusted_proxies
        assert trusted.is_private
        assert trusted.prefixlen >= 28
        other = interpolated(self.BOX["environment"], {"STENOBOX_SUBNET": "10.9.8.0/28"})
        assert other["STENOBOX_PROXIES"] == "10.9.8.0/28"
        named = interpolated(self.BOX["environment"], {"STENOBOX_PROXIES": "10.0.0.7"})
        assert named["STENOBOX_PROXIES"] == "10.0.0.7"

    def test_a_folder_of_this_machine_is_watched_where_it_is_named(self) -> None:
        for env, inbox in (({}, ""), ({"STENOBOX_INBOX": "/srv/recordings"}, "/inbox")):
            assert interpolated(self.BOX["environment"], env)["STENOBOX_INBOX"] == inbox


def interpolated(values: dict[str, str | None], env: dict[str, str]) -> dict[str, str]:
    """What compose makes of ${NAME:-else}, ${NAME:+then}, ${NAME:?else it stops} and of a name without a value."""

    def put(match: re.Match[str]) -> str:
        name, sign, word = match["name"], match["sign"], match["word"]
        if sign == ":+":
            return word if env.get(name) else ""
        return env.get(name) or (word if sign == ":-" else "")

    inner = re.compile(r"\$\{(?P<name>\w+)(?P<sign>:[-+?])(?P<word>[^${}]*)\}")
    found = {}
    for name, text in values.items():
        text = env.get(name, "") if text is None else str(text)
        while (new := inner.sub(put, text)) != text:
            text = new
        found[name] = text
    return found


def test_the_unit_stops_later_than_stenobox_and_starts_what_there_is() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "stenobox.service")
    text = (ROOT / "deploy" / "stenobox.service").read_text(encoding="utf-8")
    assert set(re.findall(r"^Environment=(\w+)", text, re.MULTILINE)) <= KNOWN
    (grace,) = re.findall(r"STENOBOX_GRACE=(\d+)", text)
    assert seconds(grace) + 5 < seconds(unit["Service"]["TimeoutStopSec"])
    assert unit["Service"]["ExecStart"].split()[1:] == ["serve"]
    assert int(unit["Service"]["LimitNOFILE"]) >= 2**16  # systemd's 1024 are as many clients that only wait


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

    @pytest.mark.parametrize("host", host_rules.DOCKERFILE)
    def test_every_host_takes_it(self, host: str) -> None:
        assert host_rules.faults(self.TEXT, host_rules.DOCKERFILE[host]) == []

    @pytest.mark.parametrize(
        ("host", "line", "said"),
        [
            ("railway", "VOLUME /data", "VOLUME is refused"),
            ("railway", "RUN --mount=type=cache,target=/var/cache/uv true", "a cache mount without"),
            ("railway", "RUN --mount=type=cache,id=uv,target=/var/cache/uv \\\n  true", "a cache mount without"),
            ("railway", "USER stenobox", "the volume can't be written"),
            ("fly", "CMD stenobox serve", "CMD is no list of words"),
            ("fly", "EXPOSE 8080", "EXPOSE is not the one port"),
            ("any builder", "RUN --mount=type=bind,target=/src true", "RUN --mount"),
            ("any builder", "COPY --link docker /docker", "COPY --link"),
            ("any builder", "RUN <<EOF", "a here-document"),
            ("any builder", "HEALTHCHECK --interval=3s CMD healthcheck", "HEALTHCHECK is no list of words"),
            ("any builder", "FROM scratch\nRUN echo $MODEL", "$MODEL is nothing in this stage"),
        ],
    )
    def test_what_a_host_would_refuse_is_found(self, host: str, line: str, said: str) -> None:
        (fault, *_) = host_rules.faults(f"{self.TEXT}\n{line}\n", host_rules.DOCKERFILE[host])
        assert said in fault

    def test_variables_and_program_are_there(self) -> None:
        assert set(re.findall(r"\b(STENOBOX_[A-Z]+)=", self.TEXT)) <= KNOWN
        assert os.access(ROOT / "docker" / "entrypoint", os.X_OK)
        assert os.access(ROOT / "docker" / "healthcheck", os.X_OK)


IN_IMAGE = r"""
set -eu
# A machine as in the image: the interpreter reachable for every user, the code read-only, a user of the box's own.
code=$1 place=$2 capabilities=$3 home=$(getent passwd root | cut -d: -f6)
case $(readlink -f "$code/.venv/bin/python") in "$home"/*)
    keep=$(mktemp -d); mount --bind "$home/.pyenv" "$keep" 2> /dev/null || mount --bind "$home" "$keep"
    mount -t tmpfs -o mode=755 none "$home"
    target=$home; [ ! -d "$keep/versions" ] || target=$home/.pyenv
    mkdir -p "$target"; mount --bind "$keep" "$target"
esac
mount --bind "$code" "$code"; mount -o remount,bind,ro "$code"
for file in passwd group; do cp "/etc/$file" "$place/$file"; mount --bind "$place/$file" "/etc/$file"; done
echo "stenobox:x:10001:10001::/data:/usr/sbin/nologin" >> /etc/passwd
echo "stenobox:x:10001:" >> /etc/group
exec setpriv --bounding-set "-all$capabilities" --inh-caps=-all --no-new-privs -- "$code/docker/entrypoint" serve
"""


def reachable(path: Path) -> bool:
    """Whether another user can walk there."""
    return all(folder.stat().st_mode & 0o001 for folder in [path, *path.parents])


@dataclass
class Container:
    """What a host makes of the image: the entry point as PID 1 of its own namespace, with compose's capabilities."""

    place: Path
    log: Path
    outer: subprocess.Popen[bytes]
    environment: dict[str, str]

    @property
    def data(self) -> Path:
        return self.place / "data"

    def first(self) -> psutil.Process:
        """PID 1, as it is seen from here. It is the one that the host signals."""
        (first,) = psutil.Process(self.outer.pid).children()
        return first

    def inside(self, *command: str) -> str:
        """What a command says that is run in it, as `docker exec` does."""
        enter = ["nsenter", "-t", str(self.first().pid), "-m", "-p", "--", str(ROOT / "docker" / "entrypoint")]
        done = subprocess.run([*enter, *command], env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can walk into, for what an image and its volume hold."""
    for program in ("unshare", "setpriv", "tini", "nsenter"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if subprocess.run(["unshare", "-m", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode:
        pytest.skip("namespaces can't be made here")
    if not reachable(ROOT):
        pytest.skip(f"other users can't reach {ROOT}")
    place = Path("/tmp") / f"stenobox-image-{os.getpid()}"
    for folder in (place, place / "data", place / "bin"):  # an empty volume of root's, and programs of a test's
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask
    yield place
    shutil.rmtree(place)


def start(place: Path, **variables: str) -> Container:
    """The caller kills it."""
    environment = {"PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "STENOBOX_DATA": str(place / "data")} | variables
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    rights = "".join(f",+{name.lower()}" for name in TestCompose.BOX["cap_add"])
    command = ["unshare", "-m", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", IN_IMAGE, "sh"]
    with (place / "log").open("wb") as log:
        outer = subprocess.Popen([*command, str(ROOT), str(place), rights], env=environment, stdout=log, stderr=log)
    return Container(place, place / "log", outer, environment)


def test_the_signal_to_stop_reaches_the_box_though_root_has_no_right_to_kill(place: Path) -> None:
    program = place / "bin" / "stenobox"
    program.write_text(
        "#!/bin/sh\ntrap 'echo stopping; exit 0' TERM\necho up as $(id -u)\nwhile :; do sleep 0.1; done\n"
    )
    program.chmod(0o755)
    container = start(place, PATH=f"{place / 'bin'}:{os.environ['PATH']}")
    try:
        wait_until(lambda: "up as" in container.log.read_text() or container.outer.poll() is not None)
        assert container.log.read_text() == "up as 10001\n"
        first = container.first()
        assert (first.name(), first.uids().real) == ("tini", 10001)
        first.send_signal(signal.SIGTERM)
        assert container.outer.wait(30) == 0
    finally:
        container.outer.kill()
        container.outer.wait()
    assert container.log.read_text().endswith("stopping\n")  # after sh's own word on what -g ended besides


def bake(place: Path, model: str, languages: str) -> Path:
    """A model into the image, by the Dockerfile's own line. Returns what is /opt/models there."""
    (line,) = [each.text for each in host_rules.read(TestDockerfile.TEXT) if "/opt/models &&" in each.text]
    opt = place / "opt"
    line = line.replace("/opt/models", str(opt)).replace("/tmp/data", str(place / "build"))
    base, aligner = files_of(models.DEMO_FOLDER / "whisper"), files_of(models.DEMO_FOLDER / "aligner")
    hub = FakeHub({str(models.CATALOGUE[model].repo): base, str(models.ALIGNERS["en"].repo): aligner})
    with serving(hub):
        environment = os.environ | {
            "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "VIRTUAL_ENV": f"{ROOT}/.venv", "MODEL": model,
            "LANGUAGES": languages, "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        built = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, timeout=240)
    assert built.returncode == 0, built.stderr
    return opt


def test_the_image_starts_as_root_works_as_its_own_user_and_stops_in_time(place: Path) -> None:
    port = free_port()
    container = start(
        place, FLY_APP_NAME="steno", PORT=str(port), STENOBOX_GRACE="30", STENOBOX_PASSWORD="something long",
        STENOBOX_IMAGE_MODELS=str(bake(place, "tiny", "en")), STENOBOX_MODEL="tiny",
        HF_ENDPOINT="http://127.0.0.1:9",  # a box without a network
    )  # fmt: skip
    try:
        check_image(container, port)
    finally:
        container.outer.kill()
        container.outer.wait()


def check_image(container: Container, port: int) -> None:
    check = [sys.executable, str(ROOT / "docker" / "healthcheck")]
    environment = {**os.environ, "PORT": str(port)}
    environment.pop("STENOBOX_PORT", None)

    def healthy() -> bool:
        assert container.outer.poll() is None, container.log.read_text()
        return subprocess.run(check, env=environment, capture_output=True).returncode == 0

    wait_until(healthy, 120, every=0.5)
    box = f"http://127.0.0.1:{port}"
    # As Fly's prober asks, and as people do.
    prober = {"Host": "172.19.17.130:8080"}
    assert [httpx.get(box + path, headers=prober).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    assert [httpx.get(box + path, headers=prober).status_code for path in ("/", "/login", "/docs")] == [400] * 3
    assert httpx.get(f"{box}/login", headers={"Host": "steno.fly.dev"}).status_code == 200

    key = container.inside("keys", "create", "laptop").split()[0]
    client = httpx.Client(base_url=box, headers={"X-API-Key": key}, timeout=BUSY_SECONDS)
    with client, (SAMPLES / "en-u002.flac").open("rb") as file:
        job = client.post("/api/v1/transcriptions", files={"file": file}, data={"language": "en"}).json()
        wait_until(lambda: client.get(f"/api/v1/jobs/{job['id']}").json()["state"] in ("completed", "failed"))
        told = client.get(f"/api/v1/jobs/{job['id']}").json()
        assert (told["state"], told["params"]["model"]) == ("completed", "tiny"), told["error"]
        words = client.get(f"/api/v1/jobs/{job['id']}/transcript").json()["segments"][0]["words"]
        assert words[0]["start"] is not None  # the aligner came with it
        file.seek(0)
        running = client.post("/api/v1/transcriptions", files={"file": file}).json()["id"]
    first = container.first()
    assert (first.name(), first.uids().real) == ("tini", 10001)
    assert container.data.stat().st_mode & 0o777 == 0o700
    assert {path.lstat().st_uid for path in [container.data, *container.data.rglob("*")]} == {10001}
    first.send_signal(signal.SIGTERM)
    assert container.outer.wait(60) == 0, container.log.read_text()
    assert "FATAL" not in container.log.read_text()
    with closing(sqlite3.connect(container.data / "jobs.db")) as database:
        assert database.execute("SELECT state FROM jobs WHERE id = ?", (running,)).fetchone()[0] != "running"
    assert subprocess.run(check, env=environment, capture_output=True).returncode == 1
