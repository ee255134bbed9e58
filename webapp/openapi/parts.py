"""What an operation in the document is made of, as far as it isn't derived from its route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A parameter or a header. required: whether it has to be there; example: shown in the document."""

    schema: Schema
    text: str
    required: bool = False
    example: str | None = None

    def described(self) -> dict[str, Any]:
        """As the document has it, without name and place."""
        found = {"description": self.text, "required": self.required, "schema": self.schema}
        return found | ({} if self.example is None else {"example": self.example})


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that is no refusal. text: when it comes; shape: the type of its JSON, if it is JSON;
    media: the schema of its body by media type, for what is no JSON; headers: its own, by name."""

    status: int
    text: str
    shape: Any = None
    media: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address. id: its name in generated clients; tag: the group it is in; summary: a line;
    text: what else there is to know, in Markdown; answers: those that are no refusals; refusals: codes besides those
    that follow from the door and the method; query, headers: parameters by name; bodies: schema by media type;
    example: of a JSON body; curl: what stands between `curl` and the address, with what to send."""

    id: str
    tag: str
    summary: str
    answers: tuple[Answer, ...]
    text: str = ""
    refusals: tuple[str, ...] = ()
    query: Mapping[str, Value] = field(default_factory=dict)
    headers: Mapping[str, Value] = field(default_factory=dict)
    bodies: Mapping[str, Schema] = field(default_factory=dict)
    example: Mapping[str, Any] | None = None
    curl: str = ""


Operations = dict[tuple[str, str], Operation]
"""By method and path."""
BINARY: Schema = {"type": "string", "format": "binary"}
"""Bytes. OpenAPI 3.1 would leave the schema out; tools still look for this format to offer a file."""
