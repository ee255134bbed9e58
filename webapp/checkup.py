"""`stenobox doctor`: what `tasks.doctor` finds, as lines for a person or JSON for a program."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from tasks.config import Config
from tasks.doctor import checks, examine
from tasks.findings import FAIL, WARN, Finding

_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


def run(config: Config, *, as_json: bool, password: str = "") -> int:
    """Examine and print. password: what the environment gave as one. Returns the exit status: 0 when nothing failed,
    else 1."""
    found = examine(config, checks(password))
    failed = any(finding.level == FAIL for finding in found)
    if as_json:
        print(json.dumps({"ok": not failed, "checks": [asdict(finding) for finding in found]}, indent=2))
    else:
        print(text(found, colour=sys.stdout.isatty()), end="")
    return int(failed)


def text(found: list[Finding], *, colour: bool) -> str:
    """A line a finding, what to do below it, and a sum."""
    lines = []
    for finding in found:
        level = f"{finding.level:4}"
        if colour:
            level = f"\033[{_COLOURS[finding.level]}m{level}\033[0m"
        lines.append(f"{level}  {finding.check}: {finding.message}\n")
        if finding.advice:
            lines.append(f"      → {finding.advice}\n")
    fails, warns = (sum(finding.level == level for finding in found) for level in (FAIL, WARN))
    lines.append(f"\n{fails} failed, {warns} to look at, {len(found) - fails - warns} fine.\n")
    return "".join(lines)
