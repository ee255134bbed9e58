"""The Limits page: what this box allows, the arithmetic behind it, how it has fared, and who changed what."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tasks import __version__, capacity, guard, models, store
from tasks.actions import Box
from tasks.capacity import Limits
from tasks.errors import StenoboxError
from webapp import advice, plots
from webapp.api import box_of
from webapp.bodies import read_fields
from webapp.errors import headers
from webapp.pages import page_or_partial, see, tag
from webapp.submitters import name_of
from webapp.templating import templates
from webapp.threads import write

CHANGES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Field:
    """A number on the form. scale: how many of the setting's own units one of the form's is."""

    label: str
    unit: str = ""
    scale: int = 1
    whole: bool = True


FIELDS = {
    "slots": Field("The number of jobs at once"),
    "queue_limit": Field("The length of the queue"),
    "per_key": Field("The limit for one key"),
    "max_bytes": Field("The largest file", "MB", 10**6, whole=False),
    "max_seconds": Field("The longest file", "minutes", 60, whole=False),
    "download_slots": Field("The number of links fetched at once"),
    "keep_days": Field("The time to keep finished jobs", "days", whole=False),
    "keep_media_days": Field("The time to keep recordings", "days", whole=False),
}
SHOWN = ("slots", "queue_limit", "fail_fast", "model", "per_key", "max_bytes", "max_seconds", "download_slots",
         "link_hosts", "keep_days", "keep_media_days", "reuse")  # fmt: skip
"""Settings in the order of the form: who was refused finds the focus at the first that is wrong."""
FOR_ZERO = {"per_key": "no limit", "keep_days": "for good", "keep_media_days": "as long as the job"}
ABOVE_ZERO = ("max_bytes", "max_seconds")


def show(request: Request) -> Response:
    """GET /limits; for htmx just what is measured."""
    box = box_of(request)
    saved = request.query_params.get("saved")
    return page_or_partial(
        request,
        "limits/index.html",
        "limits/_now.html",
        _now(box),
        lambda: _form_context(box, {}, {}) | {"saved": saved == "1", "unloaded": "unloaded" in request.query_params},
    )


async def change(request: Request) -> Response:
    """POST /limits: the form. All of it is kept, or nothing and the page says why beside each field."""
    box, typed = box_of(request), await read_fields(request)
    return await write(_change, request, box, typed)


async def set_intake(request: Request) -> Response:
    """POST /limits/intake: open, pause or drain."""
    intake = (await read_fields(request)).get("intake", "")
    await write(box_of(request).change_settings, {"intake": intake}, name_of(request, "page"))
    return see("/limits")


def unload(request: Request) -> Response:
    """POST /limits/unload: the model out of memory, if nothing uses it."""
    box_of(request).queue.unload()
    return see("/limits?unloaded=1")


def _change(request: Request, box: Box, typed: dict[str, str]) -> Response:
    changes, faults = _read(box, typed)
    if not faults:
        try:
            box.change_settings(changes, name_of(request, "page"))
        except StenoboxError as refusal:
            if refusal.param not in Limits.__struct_fields__:
                raise
            faults[refusal.param] = refusal.message
    if not faults:
        return see("/limits?saved=1")
    error = StenoboxError("invalid_value", "Nothing was changed: some values can't be used. See below.")
    context = _now(box)
    context |= {"version": __version__, "ptag": tag(context), "saved": False} | _form_context(box, typed, faults)
    return templates.TemplateResponse(request, "limits/index.html", context, error.kind.status, headers(error))


def _read(box: Box, typed: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the form changes, and what is wrong with it, by setting. A field that wasn't sent is left as it is."""
    limits, changes, faults = box.limits(), {}, {}
    for name in FIELDS.keys() & typed.keys():
        if name == "slots" and typed.get("slots_by") != "hand":
            continue
        try:
            value = _number(name, typed[name])
        except ValueError as error:
            faults[name] = str(error)
            continue
        if value != getattr(limits, name) or name == "slots":
            changes[name] = value
    if typed.get("slots_by") == "arithmetic":
        changes["slots"] = 0
    if "mode" in typed:
        if typed["mode"] in ("queue", "fail_fast"):
            changes["fail_fast"] = typed["mode"] == "fail_fast"
        else:
            faults["fail_fast"] = "Choose one of the two."
    if "reuse" in typed:
        if typed["reuse"] in ("on", "off"):
            changes["reuse"] = typed["reuse"] == "on"
        else:
            faults["reuse"] = "Choose one of the two."
    if "link_hosts" in typed:
        try:
            changes["link_hosts"] = box.check_setting("link_hosts", typed["link_hosts"])
        except StenoboxError:
            faults["link_hosts"] = "Names of sites with commas between them, such as youtube.com, example.org."
        changes["generic_links"] = typed.get("generic_links") == "on"
    if "model" in typed:
        try:
            changes["model"] = box.check_setting("model", typed["model"])
        except StenoboxError as error:
            faults["model"] = error.message
    now = {name: getattr(limits, name) for name in changes} | _slots_choice(box)
    return {name: value for name, value in changes.items() if value != now[name]}, faults


def _slots_choice(box: Box) -> dict[str, int]:
    return {"slots": box.limits().slots if box.planner.slots_are_fixed() else 0}


def _number(name: str, text: str) -> float:
    """What was typed, in the setting's own unit. Raises ValueError with a sentence for beside the field."""
    field = FIELDS[name]
    low, high = capacity.span(name)
    low = 1 if name == "slots" else low
    try:
        given = Decimal(text.replace(" ", "")) * field.scale
    except ArithmeticError:  # no number, or one beyond all bounds
        given = Decimal("nan")
    kind = "a whole number" if field.whole else "a number"
    unit = f" {field.unit}" if field.unit else ""
    if name in ABOVE_ZERO:
        sentence = f"{field.label} must be {kind} above 0, up to {high / field.scale:,.0f}{unit}."
        inside = given.is_finite() and 0 < given <= Decimal(high)
    else:
        sentence = f"{field.label} must be {kind} from {low:,.0f} to {high / field.scale:,.0f}{unit}."
        inside = given.is_finite() and Decimal(low) <= given <= Decimal(high)
    if not text.isascii() or not inside or (field.whole and given != int(given)):
        raise ValueError(sentence)
    if name in ("max_seconds", "keep_days", "keep_media_days"):
        return float(given)
    return max(1, int(given)) if name == "max_bytes" else int(given)


def _shown(name: str, limits: Limits) -> str:
    """A setting as the form has it."""
    value = (Decimal(str(getattr(limits, name))) / FIELDS[name].scale).normalize()
    return f"{value:f}"


def _form_context(box: Box, typed: dict[str, str], faults: dict[str, str]) -> dict[str, Any]:
    """typed: what a refused form held, shown again as it was."""
    limits, config = box.limits(), box.config
    form = {name: _shown(name, limits) for name in FIELDS}
    form |= {
        "slots_by": "hand" if box.planner.slots_are_fixed() else "arithmetic",
        "mode": "fail_fast" if limits.fail_fast else "queue",
        "reuse": "on" if limits.reuse else "off",
        "model": limits.model,
        "link_hosts": limits.link_hosts,
        "generic_links": "on" if limits.generic_links else "",
    }
    if form["slots_by"] == "arithmetic":
        form["slots"] = str(max(1, box.planner.plan(limits.model).recommended))
    form |= {name: text for name, text in typed.items() if name in form}
    if typed:
        form["generic_links"] = typed.get("generic_links", "")
    choices = [(model.name, model.title, models.ready(config, model)) for model in models.available(config)]
    changes = [
        (change, _words(change.name, change.old), _words(change.name, change.new))
        for change in store.list_changes(box.database, CHANGES_SHOWN)
    ]
    first = next((name for name in SHOWN if name in faults), "")
    return {"form": form, "faults": faults, "first_fault": first, "models": choices, "changes": changes}


def _words(name: str, value: Any) -> str:
    """A setting's value as a person reads it."""
    if name == "fail_fast":
        return "fail fast" if value else "queue"
    if name == "reuse":
        return "its transcript at once" if value else "transcribed anew"
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "link_hosts":
        return value or "any"
    if name in FIELDS and isinstance(value, int | float):
        if value == 0 and name in FOR_ZERO:
            return FOR_ZERO[name]
        number = (Decimal(str(value)) / FIELDS[name].scale).normalize()
        return f"{number:,f} {FIELDS[name].unit}".strip()
    return str(value)


def _now(box: Box) -> dict[str, Any]:
    """What is measured, and what follows from it."""
    survey, now = box.survey(), time.time()
    samples = store.list_samples(box.database, plots.start_of(now))
    return {
        "survey": survey,
        "limits": survey.limits,
        "reasons": survey.reasons,
        "load": survey.load,
        "warnings": [(sentence, ()) for sentence in survey.warnings]
        + [(found.sentence, advice.steps(found.advice, survey.limits)) for found in guard.warnings(samples)],
        "day": plots.draw(samples, now),
    }
