"""Jobs: what became of a submission, what it made, and what can be done with it."""

from __future__ import annotations

from tasks.decode.forms import FORMS
from tasks.transcripts import FORMATS
from webapp import shapes
from webapp.media_api import TYPES
from webapp.openapi import parameters
from webapp.openapi.parameters import TEXT
from webapp.openapi.parts import BINARY, Answer, Operation, Operations, Value
from webapp.openapi.refusals import ADMISSION
from webapp.openapi.schemas import ref

TAG = "Jobs"
JOB = Answer(200, "The job", shapes.Job)
MEDIA = dict.fromkeys(
    sorted({*TYPES.values(), *(form.media_type for form in FORMS.values()), "audio/*", "video/*"}), BINARY
) | {"application/octet-stream": BINARY}
_TRANSCRIPTS = {
    form.media_type.partition(";")[0]: ref(shapes.Transcript) if name == "json" else {"type": "string"}
    for name, form in FORMATS.items()
}
_DATE = {"Last-Modified": Value(TEXT, "When it was written")}
_RANGES = {
    "Accept-Ranges": Value({"const": "bytes", "type": "string"}, "That parts can be had"),
    **parameters.ETAG,
    **_DATE,
}
_RANGE = {
    **parameters.IF_NONE_MATCH,
    "If-Modified-Since": Value(TEXT, "The Last-Modified of what you have; a tag counts before it"),
    "Range": Value(TEXT, "Which part, such as `bytes=0-999`; what can't be understood is ignored"),
    "If-Range": Value(TEXT, "The ETag that the part is to be of; of another version, all comes"),
}
_PARTS = {"multipart/byteranges": BINARY}
_PART = {"Content-Range": Value(TEXT, "Which part it is, of how many bytes")}


def _file(text: str, media: dict[str, dict[str, object]], headers: dict[str, Value]) -> tuple[Answer, ...]:
    """The answers with which Starlette serves a file."""
    return (
        Answer(200, text, media=media, headers=_RANGES | headers),
        Answer(206, "What was asked for of it", media=media | _PARTS, headers=_RANGES | _PART | headers),
        Answer(304, "You have it", headers=parameters.ETAG | _DATE),
    )


OPERATIONS: Operations = {
    ("GET", "/api/v1/jobs"): Operation(
        "listJobs",
        TAG,
        "List jobs, newest first",
        (Answer(200, "A page of jobs", shapes.JobPage),),
        "A key sees its own jobs.",
        ("not_found", "invalid_value"),
        parameters.OF_JOBS,
    ),
    ("GET", "/api/v1/jobs/{id}"): Operation("showJob", TAG, "See a job", (JOB,), refusals=("not_found",)),
    ("DELETE", "/api/v1/jobs/{id}"): Operation(
        "deleteJob",
        TAG,
        "Remove a job, its recording and its transcript",
        (Answer(204, "Removed"),),
        "Whatever it is doing.",
        ("not_found",),
    ),
    ("POST", "/api/v1/jobs/{id}/cancel"): Operation(
        "cancelJob",
        TAG,
        "Stop a job",
        (
            Answer(200, "It waited, and is canceled", shapes.Job),
            Answer(202, "It runs, and will be canceled within seconds", shapes.Job),
        ),
        refusals=("not_found", "wrong_state"),
    ),
    ("POST", "/api/v1/jobs/{id}/retry"): Operation(
        "retryJob",
        TAG,
        "Try a failed or canceled job again",
        (Answer(202, "It is in line again", shapes.Job),),
        "With the parameters it had.",
        ("not_found", "wrong_state", "media_missing", *ADMISSION),
    ),
    ("GET", "/api/v1/jobs/{id}/transcript"): Operation(
        "showTranscript",
        TAG,
        "Get a transcript",
        (Answer(200, "The words", media=_TRANSCRIPTS),),
        "",
        ("not_found", "not_finished", "transcript_damaged", "unknown_format"),
        {"format": parameters.transcript_format("json")},
    ),
    ("GET", "/api/v1/jobs/{id}/attempts"): Operation(
        "listAttempts",
        TAG,
        "List every try at a job",
        (Answer(200, "The tries, the first one first", shapes.Attempts),),
        refusals=("not_found",),
    ),
    ("GET", "/api/v1/jobs/{id}/media"): Operation(
        "showMedia",
        TAG,
        "Get what a job extracted, or was given",
        _file("The media", MEDIA, parameters.SAVED_AS),
        refusals=("not_found", "not_finished", "media_missing", "unsatisfiable_range"),
        headers=_RANGE,
        curl="-OJ",
    ),
    ("GET", "/api/v1/jobs/{id}/peaks"): Operation(
        "showPeaks",
        TAG,
        "Get the waveform of a recording",
        _file("The waveform", {"application/json": ref(shapes.Peaks)}, {}),
        refusals=("not_found", "not_finished", "unsatisfiable_range"),
        headers=_RANGE,
    ),
    ("GET", "/api/v1/jobs/{id}/cover"): Operation(
        "showCover",
        TAG,
        "Get the picture of a recording",
        _file("A JPEG of up to 320 × 320 pixels", {"image/jpeg": BINARY}, {}),
        refusals=("not_found", "not_finished", "unsatisfiable_range"),
        headers=_RANGE,
        curl="-o cover.jpg",
    ),
}
