"""The log: one line an event, from every process, as JSON for machines or as text for a person at a terminal.

A JSON line has time, level, process, pid, job (where one is meant), event (a sentence) and whatever fields the caller
gave with `extra=`. A caller names the job by beginning with "job %s", or by working inside `about`.
Nothing secret is written: addresses lose their query and their password, headers and variables with keys their value.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import logging
import os
import re
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS, LogData
from pythonjsonlogger.msgspec import MsgspecFormatter

from tasks.jobs import is_id

VARIABLE = "STENOBOX_LOG"
SECRETS = ("STENOBOX_PASSWORD", "STENOBOX_KEY", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN")
"""Variables whose value is written nowhere."""

_job: contextvars.ContextVar[str | None] = contextvars.ContextVar("job", default=None)
_ADDRESS = re.compile(
    r"(\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#\"'<>\\@]*@)?([^\s?#\"'<>\\]*)([?#][^\s\"'<>\\]*)?",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"\b(authorization|cookie|set-cookie|x-api-key|idempotency-key|password|token|secret|api_key)"
    r"([\"']?\s*[:=,]\s*(?:b(?=[\"']))?[\"']?)((?:bearer |basic )?[^\s\"',;)}\]\\]+)",
    re.IGNORECASE,
)
_HIDDEN = "[hidden]"
_BREAKS = re.compile(r"[\n\t]")
_STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""What would steer a terminal. JSON has no such characters; of the rest, see `clean`."""
_INVISIBLE = re.compile(r"[\x80-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Other controls, line breaks that only some programs know, and what turns the direction of the text around it."""


def begin(process: str, style: str = "") -> None:
    """Set the log of this process up, on stderr. process: its name in each line; style: as `style_of` gives it, by
    default the operator's word."""
    _append()
    handler = _Stderr()
    if (style or style_of(process)) == "json":
        handler.setFormatter(_Json(process))
        sys.excepthook = _on_crash
        threading.excepthook = lambda crash: _on_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)
        logging.captureWarnings(True)
    else:
        handler.setFormatter(_Text(process))
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if not isinstance(other, _Stderr)), handler]
    root.setLevel(logging.INFO)


def _append() -> None:
    """Several processes write, each through an opening of its own: into a file, none may write over another's lines."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(2).st_mode):
            fcntl.fcntl(2, fcntl.F_SETFL, fcntl.fcntl(2, fcntl.F_GETFL) | os.O_APPEND)


def style_of(process: str) -> str:
    """ "json" or "text": what the operator said, else text for a person: at a terminal, and for commands that end."""
    said = os.environ.get(VARIABLE, "").strip()
    if said in ("json", "text"):
        return said
    services = ("serve", "web", "worker", "supervisor", "engine", "decode", "download")
    return "json" if process in services and not sys.stderr.isatty() else "text"


@contextmanager
def about(job_id: str) -> Iterator[None]:
    """Lines of this thread are about this job, unless they name another."""
    mark = _job.set(job_id if is_id(job_id) else None)
    try:
        yield
    finally:
        _job.reset(mark)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def clean(text: str) -> str:
    """Without what nobody should read in a log, and with nothing that reads as something else than it is."""
    for name in SECRETS:
        value = os.environ.get(name, "")
        if len(value) > 3:
            text = text.replace(value, _HIDDEN)
    text = _ADDRESS.sub(lambda found: found[1] + found[2] + (f"{found[3][0]}{_HIDDEN}" if found[3] else ""), text)
    return _INVISIBLE.sub(_escaped, _HEADER.sub(lambda found: found[1] + found[2] + _HIDDEN, text))


def job_of(record: logging.LogRecord) -> str | None:
    """The job that a line is about."""
    named = record.__dict__.get("job")
    if named is None and isinstance(record.msg, str) and record.msg.startswith("job %s") and record.args:
        named = record.args[0] if isinstance(record.args, tuple) else None
    return named or _job.get()


class _Stderr(logging.StreamHandler[Any]):
    """Ours: a second `begin` replaces it. Whatever stderr is when a line is written: tests lend and close one."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class _Text(logging.Formatter):
    """As people read it."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process}: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _BREAKS.sub(_escaped, record.message)  # one line an event, but for its traceback
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _STEERS.sub(_escaped, clean(super().format(record)))


class _Json(MsgspecFormatter):
    """One object a line."""

    def __init__(self, process: str) -> None:
        super().__init__([], reserved_attrs=[*RESERVED_ATTRS, "taskName", "job", "color_message"])
        self._process = process

    def add_fields(self, log_data: LogData, record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log_data |= {"time": at, "level": record.levelname.lower(), "process": self._process, "pid": record.process}
        if job := job_of(record):
            log_data["job"] = job
        log_data |= {"event": clean(record.message), "logger": record.name}
        fields: dict[str, Any] = {}
        super().add_fields(fields, record, {})
        log_data |= {name: clean(value) if isinstance(value, str) else value for name, value in fields.items()}
        if "exc_info" in message_dict:
            log_data["traceback"] = clean(message_dict["exc_info"])


def _on_crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """What nobody caught, as a line like any other."""
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger(__name__).critical("ended by %s", kind.__name__, exc_info=(kind, error, trace))
