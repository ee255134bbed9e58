"""What answers of all kinds are made of."""

# No `from __future__ import annotations` here: Python 3.11 would not see which keys are NotRequired.

from typing import Annotated, TypedDict

from msgspec import Meta

Id = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", examples=["0f6a1c9e5b7d4a3e8c2b1d0f9e8a7b6c"])]
Time = Annotated[str, Meta(description="RFC 3339, in UTC", extra_json_schema={"format": "date-time"})]
Address = Annotated[str, Meta(pattern="^/", description="A path on this box")]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class Refusal(TypedDict):
    """Why not."""

    code: Annotated[str, Meta(description="For programs; it never changes its meaning")]
    message: Annotated[str, Meta(description="For people: what happened, why, what to do")]
    type: Annotated[str, Meta(description="The code's family, in the words that OpenAI's clients know")]
    param: Annotated[str | None, Meta(description="The field, parameter or header at fault, if one is")]


class Error(TypedDict):
    """The one shape of every refusal and failure."""

    error: Refusal
