"""Every way Stenobox says no: one exception, one table of codes.

A code is part of the API: programs branch on it, so it never changes its meaning.
The sentence is for people: what happened, why, what to do.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means over HTTP.

    status: the HTTP status of a refusal with this code (a failed job keeps the code, not the status).
    type: the family, in the words OpenAI's clients know.
    retryable: whether the same request can succeed later without being changed.
    """

    status: int
    type: str
    retryable: bool = False


_REQUEST, _LIMIT, _SERVER, _JOB = "invalid_request_error", "rate_limit_error", "server_error", "job_error"

KINDS: dict[str, Kind] = {
    # A request that can't be right however often it is sent.
    "invalid_request": Kind(400, _REQUEST),
    "unknown_host": Kind(400, _REQUEST),
    "unauthorized": Kind(401, "authentication_error"),
    "cross_origin": Kind(403, _REQUEST),
    "forbidden": Kind(403, "permission_error"),
    "unnamed_proxy": Kind(403, "permission_error"),
    "not_found": Kind(404, _REQUEST),
    "method_not_allowed": Kind(405, _REQUEST),
    "stalled": Kind(408, _REQUEST),
    "not_finished": Kind(409, _REQUEST),
    "wrong_state": Kind(409, _REQUEST),
    "idempotency_in_progress": Kind(409, _REQUEST, retryable=True),
    "idempotency_mismatch": Kind(422, _REQUEST),
    "idempotency_gone": Kind(410, _REQUEST),
    "offset_mismatch": Kind(409, _REQUEST),
    "gone": Kind(410, _REQUEST),
    "unsupported_version": Kind(412, _REQUEST),
    "too_large": Kind(413, _REQUEST),
    "unsupported_media_type": Kind(415, _REQUEST),
    "unsatisfiable_range": Kind(416, _REQUEST),
    "locked": Kind(423, _SERVER, retryable=True),
    "checksum_mismatch": Kind(460, _REQUEST),
    "missing_file": Kind(422, _REQUEST),
    "empty_file": Kind(422, _REQUEST),
    "unknown_field": Kind(422, _REQUEST),
    "invalid_value": Kind(422, _REQUEST),
    "unknown_model": Kind(422, _REQUEST),
    "unknown_language": Kind(422, _REQUEST),
    "unknown_format": Kind(422, _REQUEST),
    "never_fits": Kind(422, _REQUEST),
    "links_closed": Kind(422, _REQUEST),
    # The box is full or busy: come back.
    "queue_full": Kind(429, _LIMIT, retryable=True),
    "memory_pressure": Kind(429, _LIMIT, retryable=True),
    "too_many_logins": Kind(429, _LIMIT, retryable=True),
    "key_limit": Kind(429, _LIMIT, retryable=True),
    "links_busy": Kind(429, _LIMIT, retryable=True),
    "paused": Kind(503, _SERVER, retryable=True),
    "draining": Kind(503, _SERVER, retryable=True),
    "database_busy": Kind(503, _SERVER, retryable=True),
    "storage_failing": Kind(503, _SERVER, retryable=True),
    "disk_full": Kind(507, _SERVER, retryable=True),
    "internal": Kind(500, _SERVER, retryable=True),
    # Why a job failed. The status is used only by synchronous faces, such as a look into a link: none of it is a fault
    # of the box's own code, which alone is 500.
    "undecodable": Kind(422, _JOB),
    "no_audio": Kind(422, _JOB),
    "unknown_track": Kind(422, _JOB),
    "too_long": Kind(422, _JOB),
    "model_missing": Kind(503, _JOB, retryable=True),
    "engine_crashed": Kind(502, _JOB, retryable=True),
    "device_failed": Kind(503, _JOB, retryable=True),
    "out_of_memory": Kind(503, _JOB, retryable=True),
    "killed": Kind(503, _JOB, retryable=True),
    "hung": Kind(504, _JOB, retryable=True),
    "timed_out": Kind(504, _JOB, retryable=True),
    "media_missing": Kind(410, _JOB),
    "transcript_damaged": Kind(410, _JOB),
    # Why a try at a job ended through no fault of its own: the job goes on, or a person stopped it.
    "canceled": Kind(409, _JOB, retryable=True),
    "interrupted": Kind(503, _JOB, retryable=True),
    "worker_lost": Kind(503, _JOB, retryable=True),
    "engine_ended": Kind(503, _JOB, retryable=True),
    # Why a link could not be fetched.
    "unreachable": Kind(422, _JOB, retryable=True),
    "site_error": Kind(422, _JOB, retryable=True),
    "link_not_found": Kind(422, _JOB),
    "login_required": Kind(422, _JOB),
    "geo_blocked": Kind(422, _JOB),
    "bot_check": Kind(422, _JOB, retryable=True),
    "live_stream": Kind(422, _JOB, retryable=True),
    "unsupported_link": Kind(422, _JOB),
    "several_recordings": Kind(422, _JOB),
    "host_not_allowed": Kind(422, _JOB),
}


class CommandError(Exception):
    """What a command was told can't be done; the sentence says why and what to do."""


class StenoboxError(Exception):
    """A refusal or a failure with a code from KINDS and a sentence for a person.

    param: the request field at fault, if one is.
    retry_after: whole seconds to wait before trying again, if known.
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.kind = KINDS[code]
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
