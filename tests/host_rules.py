"""What hosts ask of the files that they read, as code: each rule says in a sentence what a host would refuse.

The sources are the hosts' documents and, where those say nothing, their own error messages in public threads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of a Dockerfile: FROM, RUN, …; the rest of its line, continuation lines joined; its flags (--mount=…)."""

    name: str
    text: str
    line: int

    @property
    def flags(self) -> list[str]:
        return list(takewhile(lambda word: word.startswith("--"), self.text.split()))


def read(text: str) -> list[Instruction]:
    """A Dockerfile's instructions, in order."""
    found: list[Instruction] = []
    name, rest, begun = "", "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not name:
            name, _, line = line.strip().partition(" ")
            begun = number
        rest += line.strip().removesuffix("\\").rstrip() + " "
        if not line.rstrip().endswith("\\"):
            found.append(Instruction(name.upper(), rest.strip(), begun))
            name, rest = "", ""
    return found


Rule = Callable[[str, list[Instruction]], Iterator[str]]


def no_volume(_: str, instructions: list[Instruction]) -> Iterator[str]:
    """Railway: "docker VOLUME at Line N is not supported, use Railway Volumes" (masumi-network/Citadel#263)."""
    for each in instructions:
        if each.name == "VOLUME":
            yield f"line {each.line}: VOLUME is refused"


def cache_mounts_are_named(_: str, instructions: list[Instruction]) -> Iterator[str]:
    """Railway: a cache mount "is missing an id argument" without id=s/<service id>-<name> (docs.railway.com/builds/
    dockerfiles), and a service's id is nothing that a repository could know."""
    for each in instructions:
        for flag in each.flags:
            if flag.startswith("--mount=") and "type=cache" in flag and not re.search(r"\bid=s/[0-9a-f-]{36}-", flag):
                yield f"line {each.line}: a cache mount without id=s/<service id>-…"


def plain_syntax(text: str, instructions: list[Instruction]) -> Iterator[str]:
    """Builders without BuildKit's newer parts (buildah, kaniko, DOCKER_BUILDKIT=0, NAS firmware)."""
    if re.match(r"#\s*syntax\s*=", text):
        yield "line 1: a frontend of its own has to be fetched"
    newer = {
        "RUN": ("--mount", "--network", "--security"),
        "ADD": ("--",),
        "COPY": ("--link", "--parents", "--exclude"),
    }
    for each in instructions:
        if "<<" in each.text:
            yield f"line {each.line}: a here-document"
        for flag in each.flags:
            if flag.startswith(newer.get(each.name, ("\0",))):
                yield f"line {each.line}: {each.name} {flag}"


def programs_are_lists(_: str, instructions: list[Instruction]) -> Iterator[str]:
    """As a line of shell, a program is not PID 1, and never sees the signal to stop."""
    for each in instructions:
        command = each.text.partition("CMD ")[2] if each.name == "HEALTHCHECK" else each.text
        if each.name in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
            try:
                assert all(isinstance(word, str) for word in json.loads(command))
            except (ValueError, AssertionError):
                yield f"line {each.line}: {each.name} is no list of words"


def stays_root(_: str, instructions: list[Instruction]) -> Iterator[str]:
    """Fly, Railway and compose mount a volume as root's; who is not root at first can't own it."""
    for each in instructions:
        if each.name == "USER":
            yield f"line {each.line}: USER, and the volume can't be written"


def exposes_its_port(_: str, instructions: list[Instruction]) -> Iterator[str]:
    """`fly launch` and reverse proxies that look for themselves (Traefik, nginx-proxy, Dokku) take it from EXPOSE."""
    if [each.text for each in instructions if each.name == "EXPOSE"] != ["8000"]:
        yield "EXPOSE is not the one port that it listens on"


def arguments_are_declared(_: str, instructions: list[Instruction]) -> Iterator[str]:
    """An ARG before FROM counts for FROM alone: used in a stage without its own ARG, it is empty."""
    known: set[str] = set()
    for each in instructions:
        if each.name == "FROM":
            known = set()
        elif each.name == "ARG":
            known.add(each.text.partition("=")[0])
        elif each.name == "ENV":
            known |= set(re.findall(r"(\w+)=", each.text))
        for name in re.findall(r"\$\{?([A-Z_]+)", each.text) if each.name not in ("FROM",) else []:
            if name not in known | {"PATH"}:
                yield f"line {each.line}: ${name} is nothing in this stage"


DOCKERFILE: dict[str, tuple[Rule, ...]] = {
    "railway": (no_volume, cache_mounts_are_named, stays_root, programs_are_lists),
    "fly": (stays_root, programs_are_lists, exposes_its_port),
    "any builder": (plain_syntax, programs_are_lists, arguments_are_declared, exposes_its_port),
}


def faults(text: str, rules: tuple[Rule, ...]) -> list[str]:
    """What is wrong with a Dockerfile by these rules."""
    instructions = read(text)
    return [sentence for rule in rules for sentence in rule(text, instructions)]


def of_fly(file: dict[str, Any]) -> Iterator[str]:
    """fly.toml: https://fly.io/docs/reference/configuration/."""
    service = file["http_service"]
    if int(file["env"]["PORT"]) != service["internal_port"]:
        yield "the proxy asks another port than the box listens on"
    if "mounts" in file and file.get("deploy", {}).get("strategy") in ("canary", "bluegreen"):
        yield "a volume belongs to one Machine: that strategy needs two"
    if "release_command" in file.get("deploy", {}):
        yield "a release command has no volume"
    if "processes" in file:
        yield "each group is a Machine of its own, without the volume"
    if not 0 < file["kill_timeout"] <= 300:
        yield "kill_timeout is at most 300"
    if "hard_limit" in service["concurrency"]:
        yield "above a hard limit Fly's proxy answers itself"
    sizes = ("auto_extend_size_increment", "auto_extend_size_limit")
    if "auto_extend_size_threshold" in file["mounts"] and not all(name in file["mounts"] for name in sizes):
        yield "nothing is extended without increment and limit"
    for check in service["checks"]:
        if "Host" not in check.get("headers", {}) and check["path"] not in ("/healthz", "/readyz"):
            yield "the prober asks by the Machine's own address, which only health checks are answered by"
        if seconds(check["timeout"]) >= seconds(check["interval"]):
            yield "a check has to end before the next"


def of_railway(text: str) -> Iterator[str]:
    """.railway/railway.ts: https://docs.railway.com/infrastructure-as-code."""
    variables = dict(re.findall(r'^      ([A-Z_]+): "([^"]*)"', text, re.MULTILINE))
    values = dict(re.findall(r"^\s+(\w+): ([\w\"./]+),", text, re.MULTILINE))
    if variables.get("RAILWAY_RUN_UID") != "0":
        yield "the volume is root's"
    if "PORT" in variables or "STENOBOX_PORT" in variables:
        yield "Railway chooses the port"
    if values["replicas"] != "1" or values["overlapSeconds"] != "0":
        yield "a volume belongs to one replica"
    if int(values["drainingSeconds"]) < seconds(variables["STENOBOX_GRACE"]) + 5:
        yield "it is killed before it has put its jobs back"
    if values["healthcheckPath"] not in ('"/healthz"', '"/readyz"'):
        yield "only health checks are answered without a key"


def of_compose(box: dict[str, Any]) -> Iterator[str]:
    """compose.yaml's service."""
    allowed = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    if box["cap_drop"] != ["ALL"] or not set(box["cap_add"]) <= allowed:
        yield "more rights than are needed to own the volume and to leave root"
    if not {"CHOWN", "FOWNER", "SETUID", "SETGID"} <= set(box["cap_add"]):
        yield "the entry point can't own the volume, or can't leave root"
    if "init" in box:
        yield "an init of Docker's is root, and without KILL it can't stop what is another user's"
    if "STENOBOX_PROXIES" not in box["environment"]:
        yield "a proxy before it can't be named"


def seconds(text: str | int) -> float:
    unit = {"s": 1, "m": 60}.get(str(text)[-1], 1)
    return float(str(text).rstrip("sm")) * unit
