"""Every code of `tasks.errors` in a few words, and which of them can come at which address."""

from __future__ import annotations

from tasks.errors import KINDS
from tasks.links import ADVICE
from tasks.principals import Scope
from webapp import rules

MEANINGS = {
    "invalid_request": "The request can't be read, or was cut off.",
    "unknown_host": "The box does not answer to this Host.",
    "unauthorized": "A key is needed, or this one is not known here.",
    "cross_origin": "A browser sent it on behalf of another site, which the operator has not named, or without a key.",
    "forbidden": "The key's scope does not reach that far.",
    "unnamed_proxy": "It came through a proxy that the operator has not named, to a box without a password.",
    "not_found": "There is no such thing, or it is another key's.",
    "method_not_allowed": "This address does not know the method; `Allow` says which it knows.",
    "stalled": "Next to nothing came for too long.",
    "not_finished": "It is not there yet, or the job ended without it.",
    "wrong_state": "The job's state does not allow it.",
    "idempotency_in_progress": "The first request with this Idempotency-Key is still arriving.",
    "idempotency_mismatch": "This Idempotency-Key was used for another submission.",
    "idempotency_gone": "The job that this Idempotency-Key stood for was deleted.",
    "offset_mismatch": "The upload is somewhere else.",
    "gone": "The upload was given up, or its time was over.",
    "unsupported_version": "Tus-Resumable is missing, or names another version.",
    "too_large": "The body or the recording is larger than allowed.",
    "unsupported_media_type": "A body of this type is not taken here.",
    "unsatisfiable_range": "The file has no bytes where this part begins.",
    "locked": "Another request sends bytes for this upload.",
    "checksum_mismatch": "What came is not what was sent.",
    "missing_file": "The form has no file.",
    "empty_file": "The recording has no bytes.",
    "unknown_field": "There is no field or parameter of this name.",
    "invalid_value": "A field, parameter or header has a value that can't be used.",
    "unknown_model": "There is no such model.",
    "unknown_language": "There is no such language, or the model does not know it.",
    "unknown_format": "There is no such format.",
    "never_fits": "The model does not fit into this box's memory.",
    "links_closed": "This box takes no links.",
    "queue_full": "The box is full.",
    "memory_pressure": "The box is short of memory.",
    "too_many_logins": "Too many failed logins.",
    "key_limit": "The key has as many active jobs as it may have.",
    "links_busy": "Other links are being looked into.",
    "paused": "The operator has paused the box.",
    "draining": "The box finishes what it has, or is stopping.",
    "database_busy": "The database is busy; nothing was lost.",
    "storage_failing": "The data folder can't be read or written now.",
    "disk_full": "The disk is almost full.",
    "internal": "Something went wrong inside; the box's log has the details.",
    "undecodable": "It is not a recording, or is damaged.",
    "no_audio": "There is no sound in it.",
    "unknown_track": "It has no track of this number.",
    "too_long": "It is longer than the box allows.",
    "model_missing": "The model could not be fetched.",
    "engine_crashed": "A process that worked on it, such as the one that held the model, died.",
    "device_failed": "The GPU that models run on failed.",
    "out_of_memory": "Memory ran out.",
    "killed": "A process of the job was killed from outside.",
    "hung": "It stood still and was stopped.",
    "timed_out": "It took too long and was stopped.",
    "media_missing": "The recording is no longer on the box.",
    "transcript_damaged": "The transcript's file is damaged on the box's disk.",
    "canceled": "A person stopped it.",
    "interrupted": "The box stopped or restarted; the job goes on.",
    "worker_lost": "The worker died; the job goes on.",
    "engine_ended": "The engine was ended because of another job; the job goes on.",
    "site_error": "The link's site answers with an error of its own.",
    "unreachable": "The link's site can't be reached, or not from here.",
    "link_not_found": "There is nothing at the link.",
    "login_required": "The site wants a login.",
    "geo_blocked": "The site does not serve this part of the world.",
    "bot_check": "The site takes the box for a robot.",
    "live_stream": "It is being broadcast and has no end yet.",
    "unsupported_link": "No recording can be found there.",
    "several_recordings": "The link holds several; choose one.",
    "host_not_allowed": "The operator does not allow this site.",
}

JSON_BODY = ("invalid_request", "stalled", "too_large", "unsupported_media_type", "unknown_field", "invalid_value")
"""Of a small JSON body."""
ADMISSION = ("queue_full", "memory_pressure", "key_limit", "paused", "draining", "disk_full", "too_large")
WISHES = ("unknown_model", "unknown_language", "unknown_format", "never_fits", "invalid_value")
REPEATS = ("idempotency_in_progress", "idempotency_mismatch", "idempotency_gone")
RECORDING = ("invalid_request", "stalled", "missing_file", "empty_file", "unsupported_media_type", "unknown_field")
LINK = ("links_closed", "host_not_allowed", "invalid_value")
SUBMISSION = (*RECORDING, *ADMISSION, *WISHES, *REPEATS, *LINK, "not_found", "not_finished", "wrong_state", "gone",
              "media_missing")  # fmt: skip
"""Of a submission in any form: a recording, an upload, a link, another job's media."""
LOOK = (*JSON_BODY, *LINK, *ADVICE, "links_busy", "too_large", "too_long", "timed_out", "disk_full", "storage_failing",
        "engine_crashed", "killed", "out_of_memory")  # fmt: skip
"""Of looking into a link: also all that can be wrong with it."""


def of_door(method: str, path: str) -> tuple[str, ...]:
    """The codes that any request to this address can be refused with, by the rules for it."""
    found = ["unknown_host", "internal"]
    needed = rules.needed(method, path)
    if needed is not None:
        found += ["unauthorized", "unnamed_proxy", "database_busy", "storage_failing"]
        found += ["cross_origin"] + (["forbidden"] if needed != Scope.READ else [])
    if method not in ("GET", "HEAD", "OPTIONS"):
        found += ["cross_origin"] + (["disk_full"] if needed else [])
    return tuple(found)


def by_status(codes: set[str]) -> dict[int, list[str]]:
    """The codes in the order of the table, by the status they come with."""
    found: dict[int, list[str]] = {}
    for code, kind in KINDS.items():
        if code in codes:
            found.setdefault(kind.status, []).append(code)
    return dict(sorted(found.items()))
