"""The page's words and markup: filters, every state of a job, hostile names, and nothing the CSP would refuse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from tasks.capacity import Limits
from tasks.choosing import Choice
from tasks.errors import StenoboxError
from tasks.jobs import Failure, Job, JobKind, Params, Source, Stage, State
from tasks.models.catalogue import CATALOGUE
from tasks.readiness import Reason
from webapp import paths, templating
from webapp.stories import Told

HOSTILE = "\u202egpj.<script>alert(1)</script>\" onmouseover='alert(1)' " + "x" * 300
NOW = 1_795_400_000.0
LIMITS = Limits(slots=2, queue_limit=20, max_bytes=2_000_000_000, max_seconds=4 * 3600)
CHOICES = [
    Choice(CATALOGUE["demo"], ready=True, fits=True, memory=10**9, factor=0.1, measured=False),
    Choice(CATALOGUE["small"], ready=False, fits=True, memory=2 * 10**9, factor=0.2, measured=False),
]
ASKED: dict[str, Any] = {"choices": CHOICES, "recommended": CHOICES[1], "languages": [("de", "German")]}
"""What forms need that ask for a model and a language."""
TRANSCRIPT: dict[str, Any] = {
    "language": "en",
    "seconds": 9.0,
    "text": "Hello. <b>Bye.</b>",
    "segments": [
        {"id": 0, "start": 0.9, "end": 2.0, "text": " Hello.", "speaker": "A", "confidence": 0.9, "words": []},
        {"id": 1, "start": 62.5, "end": 64.0, "text": " <b>Bye.</b>", "speaker": "A", "confidence": None, "words": []},
    ],
}


def make_job(state: State, **changes: Any) -> Job:
    running = {"started_at": NOW - 60, "attempts": 1}
    extra: dict[State, dict[str, Any]] = {
        State.QUEUED: {"queue_position": 3},
        State.RUNNING: {**running, "stage": Stage.TRANSCRIBE, "progress": 0.29},
        State.COMPLETED: {**running, "finished_at": NOW, "progress": 1.0, "result": "t.json", "work_seconds": 60.0},
        State.FAILED: {**running, "finished_at": NOW, "error": Failure("no_audio", "No audio in it.")},
        State.CANCELED: {"finished_at": NOW},
    }
    fields: dict[str, Any] = {
        "id": f"{list(State).index(state):032x}",
        "kind": JobKind.TRANSCRIPTION,
        "source": Source("upload", HOSTILE, bytes=48_000_000, seconds=600.0),
        "params": Params("small", "de"),
        "created_at": NOW - 120,
    }
    return Job(state=state, **(fields | extra.get(state, {}) | changes))


def render(template: str, **context: Any) -> str:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "server": ("box", 80)}
    response = templating.templates.TemplateResponse(
        Request(scope), template, {"version": "1.2.3", "ptag": "abc", **context}
    )
    return bytes(response.body).decode()


def render_index(*jobs: Job, **context: Any) -> str:
    groups: dict[str, Any] = {
        "receiving": [job for job in jobs if job.state == State.RECEIVING],
        "queued": [job for job in jobs if job.state == State.QUEUED],
        "running": [job for job in jobs if job.state == State.RUNNING],
        "finished": [job for job in jobs if job.finished],
        "finished_total": sum(job.finished for job in jobs),
        "batches": [],
        "batches_total": 0,
        "submitters": {},
    }
    page: dict[str, Any] = {
        "limits": LIMITS,
        "reasons": [],
        "undos": [],
        "same": False,
        "is_used": bool(jobs),
        "lines": SimpleNamespace(
            queued=sum(job.state == State.QUEUED for job in jobs),
            receiving=sum(job.state == State.RECEIVING for job in jobs),
            in_batches=0,
        ),
        "times": {},
        "room": True,
        "has_batches": False,
        "default_model": "demo",
        "asks_model": False,
        "may_set": True,
        "takes_links": True,
        "refusal": None,
        "typed": {},
        "has_sample": True,
    }
    return render("jobs/index.html", **(groups | ASKED | page | context))


def render_job(job: Job, transcript: dict[str, Any] | None = None, tries: Sequence[Told] = ()) -> str:
    region: dict[str, Any] = {
        "batch": None,
        "submitter": None,
        "lost": None,
        "undos": [],
        "reasons": [],
        "in_short": "",
        "times": {},
        "refusal": None,
        "typed": {},
        "here": job.finished,
    }
    return render("jobs/show.html", job=job, transcript=transcript, tries=tries, **(region | ASKED))


class Markup(HTMLParser):
    """Checks that tags are balanced and ids unique; keeps tags and attributes, and the text that a reader sees."""

    VOID = frozenset({"meta", "link", "input", "path", "rect", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        ids = [attrs["id"] for _, attrs in self.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, tag: str, attribute: str) -> list[str | None]:
        return [attrs[attribute] for name, attrs in self.tags if name == tag and attribute in attrs]


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (templating.clock, 0, "0:00"),
        (templating.clock, 125.4, "2:05"),
        (templating.clock, 59.6, "1:00"),
        (templating.clock, 3725, "1:02:05"),
        (templating.stamp, 59.9, "0:59"),
        (templating.stamp, 3725.9, "1:02:05"),
        (templating.duration, 0.0, "0.0 s"),
        (templating.duration, 0.42, "0.4 s"),
        (templating.duration, 45, "45 s"),
        (templating.duration, 120, "2 min"),
        (templating.duration, 125, "2 min 5 s"),
        (templating.duration, 3725, "1 h 2 min"),
        (templating.duration, 3605, "1 h"),
        (templating.duration, 14_400.0, "4 h"),
        (templating.filesize, 999, "999 B"),
        (templating.filesize, 1_000, "1 kB"),
        (templating.filesize, 1_440_000, "1.4 MB"),
        (templating.filesize, 999_600, "1 MB"),
        (templating.filesize, 2 * 1024**3, "2.1 GB"),
        (templating.filesize, 48_000_000, "48 MB"),
        (templating.percent, 0.29, "29%"),
        (templating.percent, 0.999, "99%"),
        (templating.percent, 1.7, "100%"),
        (templating.percent, -1, "0%"),
        (templating.speed, 0.055, "18× real time"),
        (templating.speed, 0.8, "1.2× real time"),
        (templating.iso, 0.9, "1970-01-01T00:00:00Z"),
        (templating.when, 1_795_400_000, "23 Nov 2026, 02:13 UTC"),
        (templating.language_name, "de", "German"),
        (templating.language_name, "tlh", "tlh"),
    ],
)
def test_filter(function: Any, value: Any, text: str) -> None:
    assert function(value) == text


def test_static_address_changes_with_the_content(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "STATIC", tmp_path)
    file = tmp_path / "a.css"
    file.write_text("one")
    first = templating.static("a.css")
    assert re.fullmatch(r"/static/a\.css\?v=[0-9a-f]{12}", first)
    assert templating.static("a.css") == first
    file.write_text("two, and later")
    assert templating.static("a.css") != first


@pytest.mark.parametrize("state", State)
def test_a_hostile_name_is_only_text(state: State) -> None:
    job = make_job(state)
    for html in (render_index(job), render_job(job, TRANSCRIPT if state == State.COMPLETED else None)):
        page = Markup(html)
        assert "<script>alert" not in html
        assert not any(name.startswith("on") or name == "style" for _, attrs in page.tags for name in attrs)
        assert HOSTILE in "".join(page.words)
        assert [tag for tag, _ in page.tags].count("bdi") >= 1


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (make_job(State.RECEIVING), ["Receiving"]),
        (make_job(State.QUEUED), ["Number 3 in the queue", "Cancel"]),
        (make_job(State.QUEUED, queue_position=1), ["Next to start"]),
        (make_job(State.QUEUED, queue_position=None), ["Waiting for a slot"]),
        (make_job(State.RUNNING), ["Transcribing", "29%", "Cancel"]),
        (make_job(State.RUNNING, stage=None), ["Starting"]),
        (make_job(State.RUNNING, cancel_requested=True), ["Stopping"]),
        (make_job(State.COMPLETED), ["Completed", "10× real time", "10:00", "Really delete"]),
        (make_job(State.COMPLETED, note="No speech found."), ["No speech found."]),
        (make_job(State.FAILED), ["No audio in it.", "Try again"]),
        (make_job(State.CANCELED), ["Canceled", "Try again"]),
    ],
)
def test_row_and_page_tell_the_state(job: Job, words: list[str]) -> None:
    for html in (render_index(job), render_job(job)):
        text = Markup(html).text
        assert [word for word in words if word not in text] == []


def test_a_row_tells_of_a_second_attempt() -> None:
    assert "attempt 2" in Markup(render_index(make_job(State.RUNNING, attempts=2))).text


def test_a_job_being_canceled_can_not_be_canceled_again() -> None:
    html = render_index(make_job(State.RUNNING, cancel_requested=True))
    assert "/cancel" not in html


@pytest.mark.parametrize("state", State)
def test_a_page_polls_until_its_job_is_finished(state: State) -> None:
    html = render_job(make_job(state))
    assert ('hx-trigger="every' in html) is (state not in (State.COMPLETED, State.FAILED, State.CANCELED))


def test_the_page_shows_the_transcript_with_its_downloads() -> None:
    job = make_job(State.COMPLETED, crashes=1, attempts=2)
    tries = [
        Told("First try", NOW, 185.0, Stage.ALIGN, 5 * 2**30, "The engine crashed <b>."),
        Told("Second try", NOW, None, None, None, ""),
    ]
    html = render_job(job, TRANSCRIPT, tries)
    page = Markup(html)
    told = (
        "First try 23 Nov 2026, 02:13 UTC, 3 min 5 s, timing each word, 5.0 GiB of memory The engine crashed <b>.",
        "Second try 23 Nov 2026, 02:13 UTC",
    )
    for words in ("0:00 Hello.", "1:02 <b>Bye.</b>", "English", *told):
        assert words in page.text
    assert page.text.count("Hello.") == 1
    assert [a["href"] for t, a in page.tags if t == "a" and "download" in a] == [
        f"/jobs/{job.id}/transcript.{ending}" for ending in ("txt", "srt", "vtt", "csv", "json")
    ]


def test_a_transcript_without_speech_says_so() -> None:
    silent: dict[str, Any] = {"language": None, "seconds": 3.0, "text": "", "segments": []}
    page = Markup(render_job(make_job(State.COMPLETED, note="No speech found."), silent))
    assert "No speech found." in page.text


def test_groups_come_in_order_and_the_load_in_words() -> None:
    page = Markup(render_index(*(make_job(state) for state in State)))
    assert page.text.index("Running 1") < page.text.index("Queued 2") < page.text.index("Finished 3")
    assert "1 of 2 slots busy, 2 of 20 places in the queue taken." in page.text


def test_a_full_box_says_so() -> None:
    limits = Limits(slots=1, queue_limit=0, max_bytes=1, max_seconds=1)
    assert "The box is full." in Markup(render_index(make_job(State.RUNNING), limits=limits)).text


def test_a_box_that_takes_nothing_says_every_reason_why() -> None:
    reasons = [Reason("disk_full", "Only 5 MB are free in <data>."), Reason("paused", "Nothing starts.")]
    text = Markup(render_index(reasons=reasons)).text
    assert "The disk is almost full. Only 5 MB are free in <data>." in text
    assert text.index("5 MB") < text.index("Paused. Nothing starts.")
    assert "starts at once" not in text
    assert "starts at once" in Markup(render_index()).text


def test_there_is_no_queue_when_failing_fast() -> None:
    limits = Limits(1, 20, 1, 1.0, fail_fast=True)
    assert "There is no queue" in Markup(render_index(limits=limits)).text


def test_an_empty_box_offers_the_sample() -> None:
    assert "Try the sample recording" in render_index()
    assert "Try the sample recording" not in render_index(has_sample=False)


def test_the_form_sends_the_fields_before_the_file() -> None:
    page = Markup(render_index())
    names = [a["name"] for t, a in page.tags if t in ("select", "input")]
    assert names == ["url", "language", "batch", "model", "file"]
    labels = set(page.values("label", "for"))
    assert {a["id"] for t, a in page.tags if t in ("select", "input")} <= labels
    assert [a["value"] for t, a in page.tags if t == "option" and a["value"] in ("demo", "small")] == ["demo", "small"]


def test_a_refusal_is_shown_with_the_time_to_come_back() -> None:
    page = Markup(render_index(refusal=StenoboxError("queue_full", "The queue is full.", retry_after=90)))
    assert "The queue is full. Try again in about 1 min 30 s." in page.text


def test_error_page() -> None:
    page = Markup(render("errors/error.html", status=404, error=StenoboxError("not_found", "No such <job>.")))
    assert "404 Nothing here No such <job>." in page.text


def test_templates_hold_nothing_that_the_csp_refuses() -> None:
    for path in sorted(paths.TEMPLATES.rglob("*.html")):
        source = path.read_text()
        assert not re.search(r"\sstyle\s*=|<style|\son[a-z]+\s*=|hx-on|js:|javascript:", source), path
        for script in re.findall(r"<script\b[^>]*>.*?</script>", source, re.S):
            waits = "" if "vendor/htmx-" in script else ' (defer|type="module")'  # see base.html
            assert re.fullmatch(rf'<script src="[^"]*"{waits}></script>', script), path


MISSING = (
    "The model small isn't on this box and couldn't be downloaded. The reason: https://huggingface.co answered 503. "
    "To add it by hand, put it into /srv/box/models/small. Then try again."
)


def test_paths_and_addresses_are_for_who_runs_the_box() -> None:
    first = "The model small isn't on this box and couldn't be downloaded."
    assert templating.first_sentence(MISSING) == first
    assert templating.for_everybody(MISSING) == f"{first} Then try again."
    assert templating.first_sentence("Only 3 MB are free in /data/box. Delete some jobs.") == "Delete some jobs."
    assert templating.first_sentence("A model/aligner and 3/4 of it, 1.5 GB. More.") == (
        "A model/aligner and 3/4 of it, 1.5 GB."
    )
    assert templating.first_sentence("/only/a/path") == ""


def test_trying_again_is_what_the_eye_meets_only_where_it_may_help() -> None:
    for code, quiet in (("no_audio", True), ("model_missing", False)):
        job = make_job(State.FAILED, error=Failure(code, MISSING, not quiet))
        page = Markup(render_index(job))
        [button] = [attrs for tag, attrs in page.tags if attrs.get("id") == f"retry-{job.id}"]
        assert ("button-quiet" in (button["class"] or "")) == quiet
        assert "couldn't be downloaded." in page.text
        assert "/srv" not in page.text
        assert "/srv" not in Markup(render_job(job)).text  # nobody is known to run the box here
