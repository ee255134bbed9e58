"""`stenobox submit`: a batch of recordings, overnight: each one sent once, when the box has room for it.

Every step is written to the ledger before and after it is taken, so that the command can be stopped anywhere and run
again. Each recording has an Idempotency-Key there: one whose answer was lost is sent again, and the box knows it by
that. A large one is looked up on the box before, by name, size and time: that spares its upload.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tasks.config import KEY
from tasks.errors import StenoboxError
from tasks.media import write_durably
from tasks.transcripts import find_format
from webapp.client import LONGEST_WAIT, Client, Refused, Unreachable, made_at, name_of
from webapp.ledger import Entry, Ledger, open_ledger
from webapp.progress import Progress, summary

WAIT_SECONDS = 5.0
"""Before asking again where the box named no time; doubled up to a minute while it gives no answer at all."""
PATIENCE_SECONDS = 3600.0
"""A box that was there and has given no answer for so long is given up; the next run goes on."""
LOOK_SECONDS = 1.0
LOOKED_AT = 20
"""How often the jobs under way are looked at, and how many of them: a box runs at most 16, in the order they came."""
FAULTS = 3
"""Times that the box may fail (500) over one recording before the next one is tried."""
SETTLE_SECONDS = 15.0
"""How long an upload that broke off may still be settled by the box."""
CLOCK_SECONDS = 2.0
"""Clocks in HTTP count whole seconds."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is asked for. files: recordings here, and links as text; out: folder for the transcripts, None to leave them
    on the box; name: of the box's batch that they enter, "" for none."""

    files: tuple[Path | str, ...]
    server: str
    model: str | None = None
    language: str | None = None
    out: Path | None = None
    form: str = "txt"
    state: Path | None = None
    key: str = field(default="", repr=False)
    name: str = ""

    @property
    def ledger(self) -> Path:
        return self.state or (self.out or Path()) / ".stenobox-submit.json"

    @property
    def scope(self) -> str:
        """The same file with another model, language or box is another submission."""
        return " ".join((self.server.rstrip("/"), self.model or "-", self.language or "-"))


_KNOWN = {
    "idempotency_gone": "The job was deleted on the box.",
    "idempotency_mismatch": "The box has it from an earlier run, when it was set to another model.",
}
"""What the box says of a recording that came before, to who knows of no keys."""


def submit(batch: Batch, progress: TextIO | None = None) -> int:
    """Send them all and wait for the ends. Prints a summary. Returns 0 when all are done, 1 when some failed.

    Raises StenoboxError when nothing can be done, KeyboardInterrupt when stopped (what was sent goes on on the box).
    """
    find_format(batch.form)
    if batch.out:
        batch.out.mkdir(parents=True, exist_ok=True)
    with open_ledger(batch.ledger, batch.scope) as ledger, Client(batch.server, batch.key) as client:
        sender = Sender(batch, ledger, client, Progress(len(batch.files), progress or sys.stderr))
        try:
            sender.run()
        except KeyboardInterrupt:
            sender.progress.clear()
            sent = sum(entry.state == "sent" for entry in sender.entries)
            print(f"Stopped. {sent} go on on the box; run the same command again to go on from here.", file=sys.stderr)
            raise
        print(summary(sender.entries), end="")
        if sender.note and not batch.model:
            print(f"stenobox: {sender.note}", file=sys.stderr)
        return 0 if all(entry.state == "done" for entry in sender.entries) else 1


def _same(entry: Entry, source: dict[str, Any]) -> bool:
    if entry.link:
        return bool(source.get("url") == entry.path)
    return (source["name"], source["bytes"]) == (name_of(Path(entry.path)), entry.bytes)


class Sender:
    """One run over a batch."""

    def __init__(self, batch: Batch, ledger: Ledger, client: Client, progress: Progress) -> None:
        self._batch = batch
        self._ledger = ledger
        self._client = client
        self.progress = progress
        self.entries = [ledger.entry(path) for path in batch.files]
        self._not_before = 0.0
        self._silent_since: float | None = None
        self._met = False
        self.note: str | None = None

    def run(self) -> None:
        for entry in self.entries:
            if entry.state == "failed":  # by an earlier run: looked at again, perhaps somebody has helped
                entry.state, entry.asked = "sent" if entry.job else "sending" if entry.attempt else "new", 0
        waiting = deque(entry for entry in self.entries if entry.state in ("new", "sending"))
        active = [entry for entry in self.entries if self._unfinished(entry)]
        while waiting or active:
            looked = time.monotonic()
            if active:
                with self._patiently():
                    for entry in active[:LOOKED_AT]:
                        self._look(entry)
            active = [entry for entry in active if self._unfinished(entry)]
            while waiting and time.monotonic() >= self._not_before:
                with self._patiently():
                    self._send(waiting[0])
                if waiting[0].state in ("new", "sending"):
                    break
                entry = waiting.popleft()
                active += [entry] if entry.state == "sent" else []
                self._show(len(active))
                if time.monotonic() - looked > LOOK_SECONDS:
                    break
            self._show(len(active))
            self._rest(bool(waiting), bool(active))
        self.progress.clear()

    def _unfinished(self, entry: Entry) -> bool:
        """On the box, or done there with a transcript that is not here."""
        return entry.state == "sent" or (entry.state == "done" and not self._here(entry))

    def _here(self, entry: Entry) -> bool:
        out, name = self._batch.out, entry.saved
        return out is None or bool(name and name.endswith(f".{self._batch.form}") and (out / name).exists())

    def _show(self, active: int) -> None:
        left = self._not_before - time.monotonic()
        done = sum(entry.state in ("done", "failed") for entry in self.entries)
        self.progress.show(done, active, f"next try in {left:.0f} s" if left > 0.5 else "")

    def _rest(self, waiting: bool, active: bool) -> None:
        seconds = self._not_before - time.monotonic() if waiting else LOOK_SECONDS
        if (waiting or active) and seconds > 0:
            time.sleep(min(seconds, LOOK_SECONDS))

    @contextlib.contextmanager
    def _patiently(self) -> Iterator[None]:
        """A box that gives no answer is asked again, unless it never gave one: then the address is wrong."""
        try:
            yield
            self._met, self._silent_since = True, None
        except Unreachable as silence:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            silent = now - self._silent_since
            if not self._met or silent > PATIENCE_SECONDS:
                raise StenoboxError("internal", f"{silence} Is the box running? Name another with --server.") from None
            self._not_before = now + min(60.0, max(WAIT_SECONDS, silent))

    def _send(self, entry: Entry) -> None:
        """Send one recording, unless it turns out to be on the box. Its state tells what came of it."""
        try:
            if entry.state == "sending" and entry.dear and self._find(entry):
                return
            if not self._room() and entry.state == "new":  # what the box has already needs none
                return
            if not entry.link and self._changed(entry):
                self._fail(entry, "The file was changed after this command began. Run it again.")
                return
            entry.state, entry.attempt = "sending", self._client.now() - CLOCK_SECONDS
            entry.key = entry.key or uuid.uuid4().hex
            self._ledger.save()
            send: Any = self._client.submit_link if entry.link else self._client.submit
            source, batch = entry.path if entry.link else Path(entry.path), self._batch
            job = send(source, batch.model, batch.language, batch.name, entry.key)
        except Refused as refused:
            self._met = True
            self._refused(entry, refused)
        except OSError as error:
            self._fail(entry, f"The file can't be read: {error.strerror}.")
        else:
            self._sent(entry, job)

    def _changed(self, entry: Entry) -> bool:
        status = Path(entry.path).stat()
        return (status.st_size, status.st_mtime_ns) != (entry.bytes, entry.changed)

    def _room(self) -> bool:
        """Whether the box says that it has room; or doesn't tell: then its answer to the upload will."""
        capacity = self._client.capacity()
        self._met = True
        wait = capacity and capacity.get("next_free_seconds")
        if not isinstance(wait, int | float) or wait <= 0:
            return True
        self._not_before = time.monotonic() + min(wait, LONGEST_WAIT)
        return False

    def _refused(self, entry: Entry, refused: Refused) -> None:
        if refused.param in ("model", "language", "batch"):
            entry.state = "new"
            self._ledger.save()
            raise StenoboxError("invalid_value", refused.message)  # the others would hear the same
        if refused.status < 400 or refused.status in (401, 403, 404, 405) or refused.code == "unknown_host":
            entry.state = "new"
            self._ledger.save()
            hint = (
                f" Make one there by `stenobox keys create NAME`, and set {KEY} to it." if refused.status == 401 else ""
            )
            raise StenoboxError("invalid_value", f"{self._client.server} takes no recordings: {refused.message}{hint}")
        if refused.code == "idempotency_mismatch" and self._find(entry):  # taken when the box had other defaults
            return
        if not refused.passing:
            self._fail(entry, _KNOWN.get(refused.code, refused.message))
            return
        if refused.wait is None and refused.status in (500, 502, 504):  # perhaps taken all the same: look it up first
            entry.asked += 1
            if entry.asked >= FAULTS:
                self._fail(entry, refused.message)
        elif refused.code != "idempotency_in_progress":
            entry.state = "new"
        self._not_before = time.monotonic() + (refused.wait or WAIT_SECONDS)
        self._ledger.save()

    def _find(self, entry: Entry) -> bool:
        """Look on the box for a recording whose answer was lost."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            known, arriving = self._ledger.jobs(), False
            for job in self._client.jobs_since(entry.attempt):
                source = job["source"]
                if job["state"] == "receiving":
                    arriving = True  # it may be ours, before the box has noticed that we left
                elif job["id"] not in known and _same(entry, source):
                    self._sent(entry, job)
                    return True
            if not arriving or time.monotonic() > deadline:
                return False
            time.sleep(LOOK_SECONDS)

    def _sent(self, entry: Entry, job: dict[str, Any]) -> None:
        entry.state, entry.job, entry.error, entry.attempt = "sent", job["id"], None, made_at(job)
        self.note = job.get("note") or self.note
        self._ledger.save()

    def _look(self, entry: Entry) -> None:
        """Ask how its job is; fetch the transcript when it is done."""
        try:
            job = self._client.job(str(entry.job))
            if job["state"] == "completed":
                self._keep(entry)
                entry.state, entry.error = "done", None
            elif job["state"] == "failed":
                entry.state, entry.error = "failed", job["error"]["message"]
            elif job["state"] == "canceled":
                entry.state, entry.error = "failed", "It was canceled on the box."
            else:
                return
            self._ledger.save()
        except Refused as refused:
            if not refused.passing:
                entry.state, entry.error = "failed", "The job was deleted on the box."
                self._ledger.save()

    def _keep(self, entry: Entry) -> None:
        if not self._batch.out:
            return
        words = self._client.transcript(str(entry.job), self._batch.form)
        if entry.saved is None or not entry.saved.endswith(f".{self._batch.form}"):
            entry.saved = self._free_name(self._stem(entry))
            self._ledger.save()  # before the file, so that a second run writes the same one
        write_durably(self._batch.out / entry.saved, words)

    def _stem(self, entry: Entry) -> str:
        """What to call its transcript: like the file, or as the box calls the link by then."""
        if not entry.link:
            return Path(entry.path).stem
        return re.sub(r'[/\\:*?"<>|\x00-\x1f]+', " ", self._client.job(str(entry.job))["source"]["name"]).strip(" .")

    def _free_name(self, stem: str) -> str:
        """A name in the folder that no other recording has and no file that was there before."""
        assert self._batch.out
        stem = stem.encode("utf-8", "replace")[:200].decode("utf-8", "ignore")
        taken, number = self._ledger.names(), 1
        while True:
            name = f"{stem}.{self._batch.form}" if number == 1 else f"{stem}-{number}.{self._batch.form}"
            if name not in taken and not (self._batch.out / name).exists():
                return name
            number += 1

    def _fail(self, entry: Entry, sentence: str) -> None:
        entry.state, entry.error = "failed", sentence
        self._ledger.save()
