"""A client of the API: what `submit` and `bench --against` say to a box, here or elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tasks.names import clean_name
from tasks.repeats import HEADER

UPLOAD_SECONDS = 300.0
"""Longest silence while a recording is sent and its 202 is awaited; the box writes it to the disk before it answers."""
LONGEST_WAIT = 3600
"""A box that names a longer time to come back is asked again after this many seconds."""


class Refused(Exception):
    """The box answered, but not with what was asked for. wait: whole seconds it named, None if it named none."""

    def __init__(self, status: int, code: str, message: str, param: str | None, wait: int | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.wait = wait

    @property
    def passing(self) -> bool:
        """Whether the same request can succeed later."""
        return self.status in (408, 425, 429) or self.status >= 500 or self.code == "idempotency_in_progress"


class Unreachable(Exception):
    """No answer: the box is not there, or the connection broke. The sentence says which."""


class Client:
    """One connection pool to one box; a context manager. key: "" for none. Methods raise Refused or Unreachable."""

    def __init__(self, server: str, key: str = "") -> None:
        self.server = server.rstrip("/")
        headers = {"X-API-Key": key} if key else {}
        # No proxy of the environment: a box is usually on this machine or this network.
        timeout = httpx.Timeout(UPLOAD_SECONDS, connect=10)
        self._http = httpx.Client(base_url=self.server, headers=headers, timeout=timeout, trust_env=False)
        self._ahead = 0.0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def now(self) -> float:
        """The box's clock, in seconds since 1970, to a second; this machine's before the first answer."""
        return time.time() + self._ahead

    def submit(
        self, path: Path, model: str | None = None, language: str | None = None, batch: str = "", again: str = ""
    ) -> dict[str, Any]:
        """Send a recording, straight from the disk. again: the submission's Idempotency-Key, "" for none. Returns the
        job."""
        fields = _fields(model=model, language=language, batch=batch)
        with path.open("rb") as file:
            files = {"file": (name_of(path), file, "application/octet-stream")}
            asked = self._ask("POST", "/api/v1/transcriptions", data=fields, files=files, headers=_key(again))
        return self._json(asked)

    def submit_link(
        self, url: str, model: str | None = None, language: str | None = None, batch: str = "", again: str = ""
    ) -> dict[str, Any]:
        """Have the box fetch a link. again: as for `submit`. Returns the job."""
        fields = _fields(url=url, model=model, language=language, batch=batch)
        return self._json(self._ask("POST", "/api/v1/transcriptions", json=fields, headers=_key(again)))

    def job(self, job_id: str) -> dict[str, Any]:
        return self._json(self._ask("GET", f"/api/v1/jobs/{job_id}"))

    def transcript(self, job_id: str, form: str) -> bytes:
        return self._ask("GET", f"/api/v1/jobs/{job_id}/transcript", params={"format": form}).content

    def jobs_since(self, moment: float) -> Iterator[dict[str, Any]]:
        """Jobs made since a moment of the box's clock, newest first."""
        path: str | None = "/api/v1/jobs?limit=200"
        while path:
            page = self._json(self._ask("GET", path))
            for job in page["jobs"]:
                if made_at(job) < moment:
                    return
                yield job
            path = page["next"]

    def capacity(self) -> dict[str, Any] | None:
        """What /api/v1/capacity says, or None from a box that has no such address."""
        try:
            return self._json(self._ask("GET", "/api/v1/capacity"))
        except Refused as refused:
            if refused.passing:
                raise
            return None

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unreachable(f"{self.server} gave no answer ({str(error) or type(error).__name__}).") from None
        except (httpx.InvalidURL, ValueError) as error:
            raise Unreachable(f"{self.server} can't be asked: {error}.") from None
        with contextlib.suppress(KeyError, ValueError, TypeError):
            self._ahead = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
        if not answer.is_success:
            raise _refusal(answer)
        return answer

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found: dict[str, Any] = answer.json()
        except ValueError:
            found = {}
        if not isinstance(found, dict) or not found:
            raise Refused(502, "not_a_box", f"{self.server} does not answer as a Stenobox does.", None, None)
        return found


def _key(again: str) -> dict[str, str]:
    return {HEADER: again} if again else {}


def _fields(**values: str | None) -> dict[str, str]:
    """Those that say something."""
    return {name: value for name, value in values.items() if value}


def name_of(path: Path) -> str:
    """A file's name as the box will store it: quotes would be escaped on the way, and be part of it there."""
    return clean_name(path.name.replace('"', "'"))


def made_at(job: dict[str, Any]) -> float:
    """When a job was made, in seconds since 1970."""
    return datetime.fromisoformat(job["created_at"]).timestamp()


def _refusal(answer: httpx.Response) -> Refused:
    code, message, param = f"http_{answer.status_code}", f"The answer was {answer.status_code}.", None
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # a proxy's own page
        error = answer.json()["error"]
        code, message, param = str(error["code"]), str(error["message"]), error.get("param")
    return Refused(answer.status_code, code, message, param, _wait(answer.headers.get("retry-after", "")))


def _wait(text: str) -> int | None:
    """Retry-After in whole seconds; the other form, a date, is not one this box sends."""
    return min(LONGEST_WAIT, int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else None
