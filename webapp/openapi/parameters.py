"""Parameters and headers that several operations share."""

from __future__ import annotations

from tasks.jobs import JobKind, State
from tasks.transcripts import FORMATS
from webapp.api import MOST_JOBS
from webapp.batches_api import RETRIABLE
from webapp.openapi.parts import Schema, Value
from webapp.openapi.schemas import FIELD_TEXTS, ID, wishes
from webapp.settings_api import MOST_CHANGES

TEXT: Schema = {"type": "string"}
BYTES: Schema = {"type": "integer", "minimum": 0}
ADDRESS: Schema = {"type": "string", "pattern": "^/"}

IN_PATH = {
    "id": Value(ID, "The id", required=True),
    "job_id": Value(ID, "The job's id", required=True),
    "name": Value(TEXT, "The recording's name, also with slashes, or nothing", required=True, example="talk.mp3"),
}
"""By the name that they have in the routes."""
ANY = Value(TEXT, "Whatever it is: nobody looks whether it is there", required=True)


def limit(most: int) -> Value:
    """How many at once."""
    return Value({"type": "integer", "minimum": 1, "maximum": most, "default": 50}, "How many at most")


def transcript_format(default: str) -> Value:
    """One of the forms of a transcript."""
    return Value({"type": "string", "enum": list(FORMATS), "default": default}, "The form of the transcript")


OF_JOBS = {
    "state": Value({"type": "string", "enum": [state.value for state in State]}, "Only jobs in this state"),
    "batch": Value(ID, "Only jobs of this batch"),
    "limit": limit(MOST_JOBS),
    "after": Value(ID, "The page after this job, as `next` of a page says it"),
}
OF_BATCHES = {"limit": limit(MOST_JOBS), "after": Value(ID, "The page after this batch, as `next` of a page says it")}
OF_CHANGES = {"limit": limit(MOST_CHANGES)}
OF_RETRY = {
    "state": Value(
        {"type": "string", "enum": [state.value for state in RETRIABLE], "default": State.FAILED.value},
        "Which of its jobs to try again",
    )
}


def of_recording(kind: JobKind, more: str) -> dict[str, Value]:
    """What is said in the query of a recording that is the whole body. more: what to add to each text."""
    return {name: Value(TEXT, FIELD_TEXTS[name] + more) for name in (*wishes(kind), "name")}


KEY = {
    "Idempotency-Key": Value(
        {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"},
        "Your own name for this submission, such as a UUID: sent again, it leads to the same job, also while the box "
        "is full",
    )
}

LOCATION = {"Location": Value(ADDRESS, "Where it is", required=True)}
REPLAYED = {
    "Idempotency-Replayed": Value({"const": "true", "type": "string"}, "An earlier request with this key began the job")
}
ETAG = {"ETag": Value(TEXT, "Which version it is", required=True)}
IF_NONE_MATCH = {"If-None-Match": Value(TEXT, "The ETag of what you have, several of them, or *")}
SAVED_AS = {"Content-Disposition": Value(TEXT, "A name to save it under", required=True)}
RETRY_AFTER = Value({"type": "integer", "minimum": 1}, "Whole seconds to wait before it is worth trying again")
RETRY_AFTER_MS = Value({"type": "integer", "minimum": 1}, "The same in milliseconds")
SHOULD_RETRY = Value({"type": "string", "enum": ["true", "false"]}, "Whether the same request can succeed later")
CHALLENGE = Value(TEXT, "That a key is sent as a bearer token", required=True)
OF_BYTES = Value(TEXT, "How many bytes there are: `bytes */1000`", required=True)
ALLOW = Value(TEXT, "The methods that this address knows", required=True)
