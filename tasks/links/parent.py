"""The parent's side: start the child, follow it, end it in time, turn its answers into values."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import children
from tasks.capacity import SPARE_BYTES
from tasks.errors import StenoboxError
from tasks.links.faults import ADVICE

logger = logging.getLogger(__name__)

FETCH_SECONDS = 4 * 3600.0
"""The longest a download may take, and how long one may be without any progress."""
STILL_SECONDS = 180.0
LEAST_RATE = 1000
"""Bytes a second, over STILL_SECONDS: what drips slower holds a slot for nothing. Uploads have the same."""
LOOK_SECONDS = 60.0
MOST_ITEMS = 100
"""Recordings that are listed of one link."""

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "STENOBOX_DATA", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator allows. allow: STENOBOX_EGRESS_ALLOW; hosts: sites that links may name, empty for all;
    generic: whether pages of sites yt-dlp doesn't know are searched for a recording."""

    max_bytes: int
    max_seconds: float
    allow: str = ""
    hosts: tuple[str, ...] = ()
    generic: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """bytes: so far; total: as far as known; bytes_per_second: of the last moments."""

    bytes: int
    total: int | None
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """path: the file, for the caller to take; about: what the site says (see `about`)."""

    path: Path
    bytes: int
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One recording at a link. url: its own link; seconds: None if the site doesn't tell."""

    url: str
    title: str
    seconds: float | None
    live: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """What a link holds. several: whether it is a list; more: whether there are more than were listed."""

    title: str
    several: bool
    items: tuple[Item, ...]
    more: bool


def fetch(
    url: str,
    folder: Path,
    terms: Terms,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_start: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
) -> Fetched:
    """Fetch the best sound of the one recording at this link into folder, which must be empty.

    on_start gets the child, to end it with `children.kill`; this then raises ChildDied.
    Raises StenoboxError with a code of links.ADVICE, too_large, too_long, timed_out, disk_full or
    storage_failing.
    """
    task, about, kills = _task("fetch", url, terms, most=2), None, children.KillWatch()
    with _child(task, folder, FETCH_SECONDS, STILL_SECONDS) as (process, answers):
        on_start(process)
        for answer in answers:
            if "progress" in answer:
                on_progress(Progress(**answer["progress"]))
            elif "fetched" in answer:
                about = answer["fetched"]
            kills.look()
    if about is not None:
        path = folder / "media"
        return Fetched(path, path.stat().st_size, about)
    raise children.ChildDied("downloader", children.ending(process.returncode), kills.cause(process.returncode))


def look(url: str, terms: Terms) -> Preview:
    """What is at this link, without fetching it. Takes seconds. Raises as `fetch`."""
    task, kills = _task("look", url, terms, most=MOST_ITEMS + 1), children.KillWatch()
    folder = Path(tempfile.mkdtemp(prefix="stenobox-link-"))
    try:
        with _child(task, folder, LOOK_SECONDS, LOOK_SECONDS) as (process, answers):
            found = next((answer["found"] for answer in list(answers) if "found" in answer), None)
        if found is not None:
            return Preview(items=tuple(Item(**item) for item in found.pop("items")), **found)
        raise children.ChildDied("downloader", children.ending(process.returncode), kills.cause(process.returncode))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _task(what: str, url: str, terms: Terms, most: int) -> dict[str, Any]:
    minutes = terms.max_seconds / 60
    return {
        "do": what,
        "url": url,
        "most": most,
        "max_bytes": terms.max_bytes,
        "max_seconds": terms.max_seconds,
        "spare_bytes": SPARE_BYTES,
        "allow": terms.allow,
        "hosts": terms.hosts,
        "generic": terms.generic,
        "too_long": f"The recording is longer than {minutes:,.0f} minutes, the most this box takes. Send a part of it, "
        "or ask the operator to raise the limit on the Limits page.",
        "too_large": f"The recording is larger than {terms.max_bytes:,} bytes, the most this box takes. Send a shorter "
        "or more compressed one, or ask the operator to raise the limit on the Limits page.",
    }


@contextmanager
def _child(
    task: dict[str, Any], folder: Path, deadline: float, still: float
) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[dict[str, Any]]]]:
    """A child and what it says, line by line. It is gone after the block; raises its fault, or timed_out."""
    process = children.spawn(
        "tasks.links", env=_environment(folder), cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    late = threading.Event()
    timers: list[threading.Timer] = []

    def give_up() -> None:
        late.set()
        children.kill(process)

    def give(seconds: float, place: int) -> None:
        for timer in timers[place:]:
            timer.cancel()
        del timers[place:]
        timers.append(threading.Timer(seconds, give_up))
        timers[-1].daemon = True
        timers[-1].start()

    def answers() -> Iterator[dict[str, Any]]:
        assert process.stdout is not None
        fault, moved, least = None, 0, still * LEAST_RATE
        for line in process.stdout:
            if not line.endswith(b"\n"):  # torn: it was killed while it spoke
                break
            answer: dict[str, Any] = json.loads(line)
            came = answer["progress"]["bytes"] if "progress" in answer else None
            if came is None or came >= moved + least or came < moved:  # the last: begun anew
                give(still, 1)
                moved = moved if came is None else came
            if "refused" in answer:
                logger.warning("a link led to %s, where none may", answer["refused"])
            elif "fault" in answer:
                code, sentence = answer["fault"]
                if "detail" in answer:
                    logger.info("a link can't be had (%s): %s", code, answer["detail"])
                fault = StenoboxError(code, sentence or task.get(code) or ADVICE[code], param="url")
            else:
                yield answer
        process.wait()  # it ends by itself once it has answered
        children.last_words(process, "downloader")
        if fault:
            raise fault
        if late.is_set():
            raise StenoboxError("timed_out", "Fetching this link took too long and was stopped. Try it later.")

    try:
        give(deadline, 0)
        give(still, 1)
        try:
            process.stdin.write(json.dumps(task).encode())
            process.stdin.close()
        except BrokenPipeError:  # it is gone already; how is told below
            pass
        yield process, answers()
    finally:
        for timer in timers:
            timer.cancel()
        process.stdout.close()
        children.stop(process)


def _environment(folder: Path) -> dict[str, str]:
    """Next to nothing, and a home of its own: no proxy, no keys, no configuration."""
    clean = children.environment()
    kept = {
        name: value for name, value in clean.items() if name in _PASSED_ON or name.startswith(("COVERAGE_", "MALLOC_"))
    }
    home = {name: str(folder) for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "DENO_DIR")}
    fixed = {"PYTHONUNBUFFERED": "1", "YTDLP_NO_PLUGINS": "1", "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    return kept | home | fixed
