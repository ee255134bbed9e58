"""JSON Schema from our types: of answers, of submissions, of settings."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import get_args, is_typeddict

import msgspec
from msgspec.json import schema_components

from tasks.capacity import Limits
from tasks.decode.facts import MOST_TRACKS
from tasks.decode.forms import FORMS
from tasks.jobs import JobKind, Stage, State
from tasks.wishes import FIELDS
from webapp import shapes
from webapp.openapi.parts import BINARY, Schema
from webapp.submissions import SOURCES, Submission, fields_of

PLACE = "#/components/schemas/"
ANSWERS = tuple(found for found in vars(shapes).values() if is_typeddict(found))
ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}


def ref(shape: type) -> Schema:
    """Where the schema of a type is."""
    return {"$ref": PLACE + shape.__name__}


def components() -> dict[str, Schema]:
    """Schemas of all answers and of settings, by name; fields and choices in the order they are written in."""
    _, found = schema_components([*ANSWERS, Limits], ref_template=PLACE + "{name}")
    for shape in (*ANSWERS, Limits):
        order = list(Limits.__struct_fields__ if shape is Limits else shape.__annotations__)
        schema = found[shape.__name__]
        schema["properties"] = {name: _plain(schema["properties"][name]) for name in order}
        schema["required"] = [name for name in order if name in schema.get("required", ())]
        schema.pop("title", None)
    for choice in (State, Stage, JobKind):
        found[choice.__name__] = _choices(choice)
    limits = found["Limits"]
    limits |= {"description": "The limits in force.", "required": list(limits["properties"])}
    found["Settings"] = settings()
    found["SettingChanges"] = setting_changes()
    return {name: found[name] for name in sorted(found)}


def _choices(choice: type[Enum]) -> Schema:
    return {"type": "string", "enum": [member.value for member in choice]}


def _plain(schema: Schema) -> Schema:
    """`anyOf` a type and null as one list of types, and choices with their type: shorter, and the same."""
    schema = {name: _plain(value) if name == "items" else value for name, value in schema.items()}
    first, *rest = schema.get("anyOf") or [{}]
    if rest == [{"type": "null"}] and "$ref" not in first:
        del schema["anyOf"]
        schema = first | schema | {"type": [first.get("type", "string"), "null"]}
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    if "enum" in schema and "type" not in schema:
        schema["type"] = "string"
    if "$ref" in schema:
        schema.pop("type", None)
    return schema


def settings() -> Schema:
    """Limits as they can be sent back: with slots that the box chooses itself."""
    properties = {name: _plain(dict(schema)) for name, schema in _limits()["properties"].items()}
    number = {name: value for name, value in properties["slots"].items() if name != "description"}
    properties["slots"] = {
        "description": "jobs at once; auto, or 0: as many as the arithmetic recommends",
        "anyOf": [number, {"const": "auto"}],
    }
    return {"description": "All settings.", "type": "object", "properties": properties, "required": list(properties)}


def setting_changes() -> Schema:
    """Settings to change, each of which may be left out, or be null to take a change back."""
    found = settings()
    properties = {}
    for name, schema in found["properties"].items():
        own = {key: value for key, value in schema.items() if key not in ("description", "default", "anyOf")}
        choices = [*schema.get("anyOf", [own]), {"type": "null"}]
        properties[name] = {"description": schema["description"], "anyOf": choices}
    return {
        "description": "Settings to change; null takes a change back.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _limits() -> Schema:
    schema: Schema = schema_components([Limits], ref_template=PLACE + "{name}")[1]["Limits"]
    order = Limits.__struct_fields__
    schema["properties"] = {name: schema["properties"][name] for name in order}
    return schema


FIELD_TEXTS = {
    "upload": "The id, or the address, of a complete resumable upload",
    "url": "A link to a recording on the web, which is fetched first",
    "source_job": "The id, or the address, of a finished job: its media becomes this one's source",
    "model": "The speech model; left out: the box's default",
    "language": "A code such as `en`, or a name such as `German`; left out, or `auto`: detected",
    "track": f"The number of the audio track, 1 to {MOST_TRACKS}; left out, or `auto`: the likeliest",
    "format": f"What to extract the sound as: {', '.join(FORMS)}; left out: mp3",
    "bitrate": "Bits a second, for mp3 and opus; left out: as usual for the form",
    "batch": "The batch that it enters, by id or by name; a name that is new begins one",
    "file": "The recording",
    "name": "The recording's name",
    "model_size": "The speech model, in the guide's word",
    "output_format": "What to extract the sound as, in the guide's word",
    "provider": "`local`, or left out: this box transcribes on its own machine",
}
"""What the fields of submissions mean."""


def submission(kind: JobKind, aliases: dict[str, str] | None = None, more: Iterable[str] = ()) -> Schema:
    """The JSON body that asks for a job of this kind. aliases: other names for fields; more: fields besides."""
    hints = {name: _hint(name) for name in fields_of(kind)}
    for alias, name in (aliases or {}).items():
        if name in hints:
            hints[alias] = _hint(name) | {"description": FIELD_TEXTS[alias]}
    for name in more:
        hints[name] = {"description": FIELD_TEXTS[name], "type": ["string", "null"]}
    return {
        "type": "object",
        "properties": hints,
        "additionalProperties": False,
        "description": f"Where the recording is: exactly one of {', '.join(SOURCES)}. null is the same as left out.",
        "oneOf": [_only(name) for name in SOURCES],
    }


def _only(source: str) -> Schema:
    others = {name: {"type": "null"} for name in SOURCES if name != source}
    return {"title": f"By {source}", "required": [source], "properties": {source: {"type": "string"}, **others}}


def _hint(name: str) -> Schema:
    kinds = {str: "string", int: "integer", type(None): "null"}
    (field,) = (field for field in msgspec.structs.fields(Submission) if field.name == name)
    return {"description": FIELD_TEXTS[name], "type": [kinds[kind] for kind in get_args(field.type)]}


def form(names: Iterable[str]) -> Schema:
    """A form with the recording and these fields."""
    fields = {name: {"description": FIELD_TEXTS[name], "type": "string"} for name in names}
    file = BINARY | {"description": FIELD_TEXTS["file"]}
    return {
        "type": "object",
        "properties": {"file": file, **fields},
        "required": ["file"],
        "additionalProperties": False,
    }


def wishes(kind: JobKind) -> tuple[str, ...]:
    """What may be asked of this kind in a form, or in the query of a recording that is the whole body."""
    return (*FIELDS[kind], "batch")
