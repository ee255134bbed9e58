"""The box itself: what it can hold, its settings, whether it works, and this document."""

from __future__ import annotations

from webapp import shapes
from webapp.openapi import parameters
from webapp.openapi.parts import Answer, Operation, Operations
from webapp.openapi.refusals import JSON_BODY
from webapp.openapi.schemas import PLACE

TAG, OPERATION = "The box", "For the operator"


def _intake(id: str, summary: str, text: str = "") -> Operation:
    return Operation(id, OPERATION, summary, (Answer(200, "The settings then", shapes.SettingsInForce),), text)


OPERATIONS: Operations = {
    ("GET", "/api/v1/capacity"): Operation(
        "showCapacity",
        TAG,
        "See what fits, why, and when the next place is free",
        (Answer(200, "What the box can hold", shapes.Capacity),),
        "Answers in any state of the box.",
    ),
    ("GET", "/healthz"): Operation(
        "showHealth",
        TAG,
        "See whether the web process lives",
        (Answer(200, "It does, also when the box is full", shapes.Health),),
    ),
    ("GET", "/readyz"): Operation(
        "showReadiness",
        TAG,
        "See whether work should be sent here",
        (Answer(200, "It should", shapes.Readiness), Answer(503, "It should not, and why", shapes.Readiness)),
    ),
    ("GET", "/openapi.json"): Operation(
        "showDocument",
        TAG,
        "Get this document",
        (
            Answer(
                200, "An OpenAPI 3.1 document", media={"application/json": {"type": "object"}}, headers=parameters.ETAG
            ),
            Answer(304, "You have it", headers=parameters.ETAG),
        ),
        "To read it, see [/docs](/docs).",
        headers=parameters.IF_NONE_MATCH,
    ),
    ("GET", "/api/v1/settings"): Operation(
        "showSettings",
        OPERATION,
        "See the settings",
        (Answer(200, "The settings", shapes.SettingsInForce),),
    ),
    ("PATCH", "/api/v1/settings"): Operation(
        "changeSettings",
        OPERATION,
        "Change settings",
        (Answer(200, "The settings then", shapes.SettingsInForce),),
        "All or none; in force at once.",
        (*JSON_BODY, "unknown_model"),
        bodies={"application/json": {"$ref": f"{PLACE}SettingChanges"}},
        example={"slots": 2, "queue_limit": 50},
    ),
    ("GET", "/api/v1/settings/changes"): Operation(
        "listSettingChanges",
        OPERATION,
        "See who changed what, newest first",
        (Answer(200, "The changes", shapes.Changes),),
        "",
        ("invalid_value",),
        parameters.OF_CHANGES,
    ),
    ("POST", "/api/v1/pause"): _intake("pause", "Start nothing and take nothing", "What runs goes on."),
    ("POST", "/api/v1/resume"): _intake("resume", "Open the box again"),
    ("POST", "/api/v1/drain"): _intake("drain", "Finish what is here and take nothing new"),
    ("POST", "/api/v1/unload"): Operation(
        "unload",
        OPERATION,
        "Take the model out of memory",
        (Answer(202, "It leaves now, unless a job uses it", shapes.Said),),
        "The next job loads it again.",
    ),
}
