"""Ways to submit: recordings, links, uploads and other jobs' media, in our words and in the concurrency guide's."""

from __future__ import annotations

from tasks.jobs import JobKind
from webapp import shapes
from webapp.guide import aliases_of, fields_of
from webapp.openapi import parameters
from webapp.openapi.parts import BINARY, Answer, Operation, Operations, Schema
from webapp.openapi.refusals import LOOK, SUBMISSION
from webapp.openapi.schemas import form, submission, wishes

TAG, GUIDE = "Submit", "The concurrency guide"
RAW = ("audio/*", "video/*", "application/octet-stream")
ACCEPTED = Answer(
    202, "Accepted: the job, and where to ask for it", shapes.Job, headers=parameters.LOCATION | parameters.REPLAYED
)
_FORM = "-F file=@talk.mp3"


def _bodies(kind: JobKind) -> dict[str, Schema]:
    json, multipart = submission(kind), form(wishes(kind))
    return {"multipart/form-data": multipart, "application/json": json, **dict.fromkeys(RAW, BINARY)}


def _submit(id: str, kind: JobKind, summary: str, text: str, example: dict[str, str], curl: str) -> Operation:
    return Operation(
        id,
        TAG,
        summary,
        (ACCEPTED,),
        text,
        SUBMISSION,
        parameters.of_recording(kind, ". Only beside a raw body"),
        parameters.KEY,
        _bodies(kind),
        example,
        curl,
    )


def _put(id: str, summary: str, text: str) -> Operation:
    kind, curl = JobKind.TRANSCRIPTION, "-T talk.mp3"
    bodies = {"*/*": BINARY}
    return Operation(
        id,
        TAG,
        summary,
        (ACCEPTED,),
        text,
        SUBMISSION,
        parameters.of_recording(kind, ""),
        parameters.KEY,
        bodies,
        None,
        curl,
    )


def _guide(id: str, kind: JobKind, summary: str, curl: str) -> Operation:
    bodies = {
        "multipart/form-data": form(fields_of(kind)),
        "application/json": submission(kind, aliases_of(kind), ["provider"]),
    }
    answer = Answer(202, "Accepted: the job", shapes.GuideJob, headers=parameters.LOCATION)
    example = {"url": "https://example.org/talk.mp3"}
    return Operation(id, GUIDE, summary, (answer,), "", SUBMISSION, {}, parameters.KEY, bodies, example, curl)


OPERATIONS: Operations = {
    ("POST", "/api/v1/transcriptions"): _submit(
        "createTranscription",
        JobKind.TRANSCRIPTION,
        "Transcribe a recording",
        "The recording comes as a form with `file`, as the whole body (then what is asked for is in the query), or is "
        "named in JSON: by a link, a resumable upload, or another job. A full box refuses before the body is sent.",
        {"url": "https://example.org/talk.mp3", "model": "small"},
        f"{_FORM} -F model=small",
    ),
    ("PUT", "/api/v1/transcriptions"): _put(
        "putTranscription", "Transcribe the body", "The whole body is the recording; what is asked for is in the query."
    ),
    ("PUT", "/api/v1/transcriptions/{name}"): _put(
        "putNamedTranscription",
        "Transcribe the body, named in the address",
        "As `curl -T` sends it. The whole body is the recording; what is asked for is in the query.",
    ),
    ("POST", "/api/v1/audio-extractions"): _submit(
        "createExtraction",
        JobKind.EXTRACTION,
        "Extract the sound of a recording",
        "As for transcriptions; the result is at `links.media` of the job, and can be another job's `source_job`.",
        {"url": "https://example.org/film.mp4", "format": "opus"},
        "-F file=@film.mp4 -F format=opus",
    ),
    ("POST", "/api/v1/downloads"): _submit(
        "createDownload",
        JobKind.DOWNLOAD,
        "Fetch a link's media and keep it as it is",
        "Its result is at `links.media` of the job, and can be another job's `source_job`.",
        {"url": "https://example.org/talk.mp3"},
        "",
    ),
    ("POST", "/api/v1/links"): Operation(
        "lookIntoLink",
        TAG,
        "See what a link holds",
        (Answer(200, "What is there", shapes.Preview),),
        "It takes seconds, and submits nothing.",
        LOOK,
        bodies={
            "application/json": {
                "type": "object",
                "properties": {"url": {"type": "string", "description": "A link to a recording or a list of them"}},
                "required": ["url"],
                "additionalProperties": False,
            }
        },
        example={"url": "https://example.org/podcast"},
    ),
    ("POST", "/transcribe"): _guide(
        "guideTranscribe", JobKind.TRANSCRIPTION, "Transcribe a recording", f"{_FORM} -F model_size=small"
    ),
    ("POST", "/download"): _guide("guideDownload", JobKind.DOWNLOAD, "Fetch a link's media", ""),
    ("POST", "/extract-audio"): _guide(
        "guideExtractAudio", JobKind.EXTRACTION, "Extract the sound of a recording", f"{_FORM} -F output_format=mp3"
    ),
    ("GET", "/transcribe/{job_id}/status"): Operation(
        "guideStatus",
        GUIDE,
        "See how far a job is",
        (Answer(200, "The job, with its transcript once there is one", shapes.GuideJob),),
        refusals=("not_found", "transcript_damaged"),
    ),
}
