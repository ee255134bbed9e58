"""What leaves the machine: models, links, nothing else. The README says so; this watches."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from watched_box import NAME_SERVER

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_a_box_at_work_sends_nothing_to_anybody_and_asks_no_name_server(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "mount", "getent"))):
        pytest.skip("needs root, unshare, ip and mount")
    if subprocess.run(["unshare", "-n", "-m", "ip", "route", "show"], capture_output=True).returncode:
        pytest.skip("network namespaces can't be made here")
    done = subprocess.run(
        ["unshare", "-n", "-m", sys.executable, str(Path(__file__).parent / "watched_box.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=550, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["states"] == {"transcription": "completed", "extraction": "completed"}
    assert told["during"] == []
    assert "tcp 198.51.100.7 443" in told["on purpose"]  # or it would have seen nothing of the rest either
    assert f"udp {NAME_SERVER} 53" in told["on purpose"]


def test_the_readme_says_so_in_three_lines() -> None:
    said = README.partition("## What leaves the machine\n")[2].partition("\n## ")[0]
    lines = [line for line in said.splitlines() if line.startswith("- ")]
    assert len(lines) == 3
    assert [
        bool(re.search(word, line)) for word, line in zip(("[Mm]odel", "[Ll]ink", "[Nn]othing"), lines, strict=True)
    ]
