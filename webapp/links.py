"""Links: what one holds, and jobs from it. By REST, and by plain forms that need no script."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks import __version__, batches, ingest, links
from tasks.errors import StenoboxError
from tasks.links.about import clean
from webapp.api import box_of
from webapp.bodies import read_json, read_pairs
from webapp.endpoints import check_names
from webapp.errors import headers
from webapp.pages import ask_model, keep_choice, refused, see
from webapp.submitters import asker_of, submitter_of
from webapp.templating import templates
from webapp.threads import write

if TYPE_CHECKING:
    from webapp import shapes

EXAMPLE = '{"url": "https://…"}'
FORM_BYTES = 512 * 1024
"""A form that names every recording of a long list with its address."""


async def look(request: Request) -> Response:
    """POST /api/v1/links: a JSON object with `url` → what is there: title, several, more, items[{url, title, seconds,
    live}]. It takes seconds; nothing is submitted."""
    box, body = box_of(request), await read_json(request, example=EXAMPLE)
    check_names(body, ("url",))
    url = body.get("url")
    if not isinstance(url, str):
        raise StenoboxError("invalid_value", f"Send {EXAMPLE}.", param="url")
    found = asdict(await run_in_threadpool(ingest.look, box, url))
    return JSONResponse(cast("shapes.Preview", found))


async def begin(request: Request) -> Response:
    """POST /links: the link field of the front page. One recording becomes a job; of several, a person chooses."""
    typed: dict[str, str] = {}
    try:
        form = await _form(request)
        typed.update((name, _text(form, name)) for name in ("url", "model", "language"))
        return await write(_begin, request, form)
    except StenoboxError as error:
        return await run_in_threadpool(refused, request, _of_a_field(error), typed)


async def take(request: Request) -> Response:
    """POST /links/jobs: those that were chosen. Each is admitted by itself; what has no room can be sent again."""
    try:
        form = await _form(request)
        return await write(_take, request, form)
    except StenoboxError as error:
        return await run_in_threadpool(refused, request, error)


def to_index(request: Request) -> Response:
    """GET /links: the address left in the bar when a form was refused."""
    return see("/")


def _of_a_field(error: StenoboxError) -> StenoboxError:
    """The refusal with the field that it is about: the link, unless only time can help."""
    if error.param is None and error.retry_after is None:
        error.param = "url"
    return error


def _begin(request: Request, form: FormData) -> Response:
    box, url = box_of(request), _text(form, "url")
    if not url:
        raise StenoboxError("invalid_value", "Paste a link first.", param="url")
    ask_model(box, _text(form, "model") if "model" in form else None)
    box.params(_text(form, "model"), _text(form, "language"))  # what is wrong is said before anything is fetched
    box.lookout.check(None, submitter_of(request), asker_of(request))
    found = ingest.look(box, url)
    if not found.several:
        only = found.items[0]
        job = _submit(request, form, url if len(found.items) == 1 else only.url, only.title)
        return see(f"/jobs/{job.id}")
    items = [asdict(item) | {"chosen": not item.live} for item in found.items]
    return _choose(request, form, {"title": found.title, "more": found.more, "items": items, "url": url})


def _take(request: Request, form: FormData) -> Response:
    items = _items(form)
    chosen = [item for item in items if item["chosen"]]
    title, url = clean(_text(form, "title")), _text(form, "url")
    page: dict[str, Any] = {"title": title, "more": False, "items": items, "url": url}
    page["batch"] = _text(form, "batch")
    if not chosen:
        error = StenoboxError("invalid_value", "Choose at least one recording.", param="take")
        return _choose(request, form, page, error)
    name = title or (links.link_name(url) if url else "")
    batch = _text(form, "batch") or (clean(name, batches.NAME_CHARACTERS) if len(chosen) > 1 else "")
    jobs = []
    for item in chosen:
        try:
            jobs.append(_submit(request, form, item["url"], item["title"], batch))
        except StenoboxError as error:
            if jobs:
                page["batch"] = jobs[0].batch  # what is sent later joins what was taken now
                error.message = f"{len(jobs)} of {len(chosen)} were taken. {error.message}"
            return _choose(request, form, page, error)
        item["chosen"], item["taken"] = False, True
    return see(f"/batches/{jobs[0].batch}" if jobs[0].batch else f"/jobs/{jobs[0].id}")


def _submit(request: Request, form: FormData, url: str, title: str, batch: str = "") -> Any:
    job = ingest.submit(
        box_of(request),
        url,
        _text(form, "model"),
        _text(form, "language"),
        submitter_of(request),
        asker_of(request),
        title,
        batch=batch,
    )
    keep_choice(request, job.params.model)
    return job


def _items(form: FormData) -> list[dict[str, Any]]:
    """The list as the page showed it: what a browser sends back is only data."""
    chosen = {str(number) for number in form.getlist("take")}
    urls, titles, lengths = form.getlist("item"), form.getlist("name"), form.getlist("seconds")
    items = []
    for number, (url, title, length) in enumerate(zip(urls, titles, lengths, strict=False)):
        text = str(length)
        seconds = float(text) if text.replace(".", "", 1).isdigit() and text.isascii() and len(text) < 12 else None
        items.append({"url": str(url), "title": clean(title), "seconds": seconds, "chosen": str(number) in chosen})
    return items[: links.MOST_ITEMS]


def _choose(request: Request, form: FormData, page: dict[str, Any], error: StenoboxError | None = None) -> Response:
    context = (
        {"batch": ""}
        | page
        | {
            "version": __version__,
            "model": _text(form, "model"),
            "language": _text(form, "language"),
            "refusal": error,
        }
    )
    status, more = (error.kind.status, headers(error)) if error else (200, {})
    return templates.TemplateResponse(
        request, "links/choose.html", context, status, more | {"Cache-Control": "no-store"}
    )


async def _form(request: Request) -> FormData:
    """A plain form, read as all small bodies are. Raises StenoboxError."""
    return FormData([*await read_pairs(request, FORM_BYTES, 5 * links.MOST_ITEMS)])


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value.strip() if isinstance(value, str) else ""
