"""Resumable uploads, by the tus protocol."""

from __future__ import annotations

from dataclasses import replace

from tasks import resumable
from webapp import shapes
from webapp.openapi import parameters
from webapp.openapi.parameters import ADDRESS, BYTES, TEXT
from webapp.openapi.parts import BINARY, Answer, Operation, Operations, Value
from webapp.openapi.refusals import ADMISSION, WISHES
from webapp.tus import BYTES as BYTES_TYPE
from webapp.tus import EXTENSIONS, VERSION

TAG = "Resumable uploads"
ABOUT = (
    "Uploads that may break off and go on, by the [tus protocol](https://tus.io/protocols/resumable-upload) 1.0.0: "
    "take a client library for it. `Upload-Metadata` may say `filename`, `model`, `language`, `track` and `batch`; "
    "with `submit` in it the recording is transcribed as soon as it is complete, else name it in "
    '`POST /api/v1/transcriptions {"upload": ID}`. '
    "An upload is kept for an hour without a byte."
)
_VERSION = {"Tus-Resumable": Value({"const": VERSION, "type": "string"}, "The version of the protocol", required=True)}
KNOWN = {"Tus-Version": Value({"const": VERSION, "type": "string"}, "The versions that are known", required=True)}
ON_REFUSALS = {"Tus-Resumable": replace(_VERSION["Tus-Resumable"], required=False)}
"""What was refused at the door says nothing of the protocol."""
_OFFSET = Value(BYTES, "Bytes that have come and count")
_LENGTH = Value(BYTES, "Bytes there will be")
_DEFERRED = Value({"const": "1", "type": "string"}, "That the length is told later")
_METADATA = Value(TEXT, "Names and base64 values: `filename dGFsay5tcDM=,model c21hbGw=`")
_CHECKSUM = {
    "Upload-Checksum": Value(TEXT, f"What these bytes hash to: one of {', '.join(resumable.HASHES)}, a space, base64")
}
_STATE = {
    "Upload-Expires": Value(TEXT, "When it is given up"),
    "Stenobox-Job": Value(ADDRESS, "The job that it has become"),
}
_BYTES = {BYTES_TYPE: BINARY}
_TAKING = ("invalid_request", "offset_mismatch", "locked", "checksum_mismatch", "stalled", "too_large", "disk_full",
           "gone", "not_found", "empty_file", "wrong_state")  # fmt: skip


def _abilities(id: str) -> Operation:
    headers = _VERSION | {
        **KNOWN,
        "Tus-Extension": Value({"const": EXTENSIONS, "type": "string"}, "What more is possible", required=True),
        "Tus-Max-Size": Value(BYTES, "The largest upload", required=True),
        "Tus-Checksum-Algorithm": Value(TEXT, "The checksums that are known", required=True),
        "Allow": parameters.ALLOW,
    }
    return Operation(id, TAG, "See what uploads can do", (Answer(204, "The headers say it", headers=headers),))


OPERATIONS: Operations = {
    ("OPTIONS", "/api/v1/uploads"): _abilities("uploadAbilities"),
    ("OPTIONS", "/api/v1/uploads/{id}"): _abilities("oneUploadAbilities"),
    ("POST", "/api/v1/uploads"): Operation(
        "beginUpload",
        TAG,
        "Begin an upload",
        (
            Answer(
                201,
                "Its place is taken",
                headers=_VERSION | parameters.LOCATION | _STATE | {"Upload-Offset": _OFFSET},
            ),
        ),
        "With `Upload-Length` or `Upload-Defer-Length`. Bytes may come along, as in PATCH.",
        ("unsupported_version", *_TAKING, *ADMISSION, *WISHES),
        headers=_VERSION
        | {"Upload-Length": _LENGTH, "Upload-Defer-Length": _DEFERRED, "Upload-Metadata": _METADATA, **_CHECKSUM},
        bodies=_BYTES,
        curl="-X POST -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 1000'",
    ),
    ("GET", "/api/v1/uploads/{id}"): Operation(
        "showUpload",
        TAG,
        "See an upload",
        (Answer(200, "The upload", shapes.Upload, headers=_VERSION),),
        refusals=("not_found", "gone"),
    ),
    ("HEAD", "/api/v1/uploads/{id}"): Operation(
        "askUpload",
        TAG,
        "Ask how far an upload is",
        (
            Answer(
                200,
                "The headers say it",
                headers=_VERSION
                | {
                    "Upload-Offset": Value(BYTES, _OFFSET.text, required=True),
                    "Upload-Length": _LENGTH,
                    "Upload-Defer-Length": _DEFERRED,
                    "Upload-Metadata": _METADATA,
                }
                | _STATE,
            ),
        ),
        refusals=("unsupported_version", "not_found", "gone", "empty_file", "disk_full"),
        headers=_VERSION,
        curl="-I -H 'Tus-Resumable: 1.0.0'",
    ),
    ("PATCH", "/api/v1/uploads/{id}"): Operation(
        "continueUpload",
        TAG,
        "Send the next bytes of an upload",
        (
            Answer(
                204,
                "They are on disk",
                headers=_VERSION | {"Upload-Offset": Value(BYTES, _OFFSET.text, required=True)} | _STATE,
            ),
        ),
        "",
        ("unsupported_version", "unsupported_media_type", *_TAKING),
        headers=_VERSION
        | {
            "Upload-Offset": Value(BYTES, "Where these bytes belong", required=True),
            "Upload-Length": Value(BYTES, "Bytes there will be, if it wasn't told before"),
            **_CHECKSUM,
        },
        bodies=_BYTES,
        curl="-X PATCH -H 'Tus-Resumable: 1.0.0' -H 'Upload-Offset: 0' -H 'Content-Type: "
        f"{BYTES_TYPE}' --data-binary @talk.mp3",
    ),
    ("DELETE", "/api/v1/uploads/{id}"): Operation(
        "giveUpUpload",
        TAG,
        "Give an upload up",
        (Answer(204, "What came of it is removed", headers=_VERSION),),
        refusals=("unsupported_version", "not_found", "gone", "wrong_state"),
        headers=_VERSION,
        curl="-X DELETE -H 'Tus-Resumable: 1.0.0'",
    ),
    ("POST", "/api/v1/uploads/{id}"): Operation(
        "overrideUpload",
        TAG,
        "PATCH, DELETE or HEAD for clients that can only POST",
        (
            Answer(200, "As for HEAD", headers=_VERSION | {"Upload-Offset": _OFFSET} | _STATE),
            Answer(204, "As for PATCH and DELETE", headers=_VERSION | {"Upload-Offset": _OFFSET} | _STATE),
        ),
        "",
        ("method_not_allowed", "unsupported_version", "unsupported_media_type", *_TAKING),
        headers=_VERSION
        | {
            "X-HTTP-Method-Override": Value(
                {"type": "string", "enum": ["PATCH", "DELETE", "HEAD"]}, "The method that is meant", required=True
            ),
            "Upload-Offset": Value(BYTES, "Of PATCH: where these bytes belong"),
            "Upload-Length": Value(BYTES, "Of PATCH: bytes there will be, if it wasn't told before"),
            **_CHECKSUM,
        },
        bodies=_BYTES,
        curl="-X POST -H 'Tus-Resumable: 1.0.0' -H 'X-HTTP-Method-Override: HEAD'",
    ),
}
