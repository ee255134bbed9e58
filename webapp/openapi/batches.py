"""Batches: many jobs under one name."""

from __future__ import annotations

from tasks.batches import NAME_CHARACTERS
from webapp import shapes
from webapp.openapi import parameters
from webapp.openapi.parts import BINARY, Answer, Operation, Operations
from webapp.openapi.refusals import ADMISSION, JSON_BODY

TAG = "Batches"
_NAME = {
    "type": "object",
    "properties": {"name": {"type": "string", "description": f"Its name, up to {NAME_CHARACTERS} characters"}},
    "required": ["name"],
    "additionalProperties": False,
}

OPERATIONS: Operations = {
    ("GET", "/api/v1/batches"): Operation(
        "listBatches",
        TAG,
        "List batches, newest first",
        (Answer(200, "A page of batches", shapes.BatchPage),),
        "A key sees its own batches.",
        ("invalid_value",),
        parameters.OF_BATCHES,
    ),
    ("POST", "/api/v1/batches"): Operation(
        "beginBatch",
        TAG,
        "Begin a batch",
        (
            Answer(201, "The new batch", shapes.Batch, headers=parameters.LOCATION),
            Answer(200, "The batch of this name, which was there", shapes.Batch, headers=parameters.LOCATION),
        ),
        "A submission that names a `batch` which isn't there does it too.",
        JSON_BODY,
        bodies={"application/json": _NAME},
        example={"name": "Interviews"},
    ),
    ("GET", "/api/v1/batches/{id}"): Operation(
        "showBatch", TAG, "See a batch", (Answer(200, "The batch", shapes.Batch),), refusals=("not_found",)
    ),
    ("DELETE", "/api/v1/batches/{id}"): Operation(
        "deleteBatch",
        TAG,
        "Remove a batch with all its jobs",
        (Answer(204, "Removed"),),
        "Whatever they are doing.",
        ("not_found",),
    ),
    ("POST", "/api/v1/batches/{id}/cancel"): Operation(
        "cancelBatch",
        TAG,
        "Stop all jobs of a batch",
        (
            Answer(200, "None of it is active any more", shapes.Batch),
            Answer(202, "What runs will be canceled within seconds", shapes.Batch),
        ),
        refusals=("not_found",),
    ),
    ("POST", "/api/v1/batches/{id}/retry"): Operation(
        "retryBatch",
        TAG,
        "Try what failed of a batch again",
        (
            Answer(
                202,
                "The batch, and how many are in line again",
                shapes.RetriedBatch,
                headers={"Retry-After": parameters.RETRY_AFTER},
            ),
        ),
        "For as many as there is room; with Retry-After when some were left.",
        ("not_found", "invalid_value", *ADMISSION),
        parameters.OF_RETRY,
    ),
    ("GET", "/api/v1/batches/{id}/zip"): Operation(
        "showZip",
        TAG,
        "Get all transcripts of a batch",
        (Answer(200, "A zip file", media={"application/zip": BINARY}, headers=parameters.SAVED_AS),),
        "Made while it is sent; a text in it says what has no transcript and why.",
        ("not_found", "not_finished", "unknown_format"),
        {"format": parameters.transcript_format("txt")},
        curl="-OJ",
    ),
}
