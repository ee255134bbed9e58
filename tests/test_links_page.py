"""Links by REST and by the forms that work without JavaScript: what is there, what is chosen, what has no room."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from contract import faults
from markupsafe import Markup
from starlette.testclient import TestClient
from web_support import put_job

from tasks import children, ingest, links, store
from tasks.actions import Box
from tasks.children import ChildDied, KillWatch
from tasks.errors import KINDS, StenoboxError
from tasks.jobs import State
from webapp.openapi.refusals import LOOK

URL = "https://example.org/talk"
MEAN = '<script>alert(1)</script>"&'
ONE = links.Preview("A talk", False, (links.Item(URL, "A talk", 65.0, False),), False)
THREE = links.Preview(
    MEAN,
    True,
    (
        links.Item("https://example.org/1?a=1&b=2", "First " + MEAN, 65.0, False),
        links.Item("https://example.org/2", "Second", None, False),
        links.Item("https://example.org/3", "Third", None, True),
    ),
    True,
)


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], list[str]]:
    """Say what every link holds, or how looking fails; the links that were looked into."""
    asked: list[str] = []

    def say(answer: object) -> list[str]:
        def look(url: str, terms: links.Terms) -> links.Preview:
            asked.append(url)
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, links.Preview)
            return answer

        monkeypatch.setattr(ingest.links, "look", look)
        return asked

    return say


def words(html: str) -> str:
    return " ".join(Markup(re.sub("<[^>]+>", " ", html)).unescape().split())


class Page(HTMLParser):
    """The elements of a page, each as its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self._found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self._found if name == tag]

    def element(self, tag: str = "", **wanted: str) -> dict[str, str | None]:
        """The one with these attributes."""
        [found] = [a for name, a in self._found if name.startswith(tag) and wanted.items() <= a.items()]
        return found


def boxes(html: str) -> dict[str, bool]:
    """Number of each recording on the page, and whether it is chosen."""
    found = re.findall(r'<input type="checkbox" name="take" value="(\d+)"( checked)?>', html)
    return {number: bool(checked) for number, checked in found}


def sent(html: str, *take: str) -> str:
    """The form of the page as a browser sends it."""
    from urllib.parse import urlencode

    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html)
    return urlencode([(name, Markup(value).unescape()) for name, value in hidden] + [("take", one) for one in take])


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_the_api_tells_what_a_link_holds(client: TestClient, holds: Callable[[object], list[str]]) -> None:
    asked = holds(THREE)
    answer = client.post("/api/v1/links", json={"url": URL})
    assert answer.status_code == 200
    assert answer.json()["items"][0] == {
        "url": "https://example.org/1?a=1&b=2", "title": "First " + MEAN, "seconds": 65.0, "live": False,
    }  # fmt: skip
    assert (answer.json()["several"], answer.json()["more"], asked) == (True, True, [URL])


@pytest.mark.parametrize("body", [{}, {"url": 5}, {"url": "-U"}, {"url": "file:///etc/passwd"}])
def test_the_api_refuses_what_is_no_link(client: TestClient, body: dict[str, object]) -> None:
    error = client.post("/api/v1/links", json=body).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "url")


ENDINGS: list[StenoboxError | ChildDied] = [
    *(StenoboxError(code, "No.") for code in LOOK),
    *(
        ChildDied("downloader", children.ending(status), KillWatch().cause(status))
        for status in (-signal.SIGKILL, -signal.SIGSEGV, 1)
    ),
    ChildDied("downloader", "was killed (SIGKILL)", "out_of_memory"),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda e: getattr(e, "code", None) or f"{e.cause}-{e.ending}")
def test_no_end_of_a_look_passes_for_a_fault_of_the_box_and_each_is_in_the_document(
    client: TestClient, holds: Callable[[object], list[str]], ending: StenoboxError | ChildDied
) -> None:
    holds(ending)
    answer = client.post("/api/v1/links", json={"url": URL})
    error = answer.json()["error"]
    assert error["code"] == (ending.code if isinstance(ending, StenoboxError) else ending.cause)
    assert answer.status_code == KINDS[error["code"]].status != 500
    assert list(faults("POST", "/api/v1/links", answer.status_code, answer.headers, answer.content)) == []
    assert error["code"] in LOOK


def test_the_front_page_takes_a_link_with_model_and_language(
    client: TestClient, behind: Box, holds: Callable[[object], list[str]]
) -> None:
    assert 'formaction="/links"' in client.get("/").text
    holds(ONE)
    answer = client.post("/links", data={"url": f" {URL} ", "model": "demo", "language": "de", "file": ""})
    [job] = store.list_active(behind.database)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")
    assert (job.source.url, job.source.name, job.params.language) == (URL, "A talk", "de")
    assert job.needs_download
    page = words(client.get(f"/jobs/{job.id}").text)
    assert "Waiting to be downloaded" in page
    assert "example.org" in page
    assert "Waiting to be downloaded" in words(client.get("/").text)


def test_of_several_recordings_a_person_chooses(
    client: TestClient, behind: Box, holds: Callable[[object], list[str]]
) -> None:
    holds(THREE)
    page = client.post("/links", data={"url": URL, "model": "demo", "language": ""})
    assert page.status_code == 200
    assert MEAN not in page.text
    assert "Third live, can’t be had yet" in words(page.text)
    assert "3 recordings and more" in words(page.text)
    assert boxes(page.text) == {"0": True, "1": True, "2": False}
    assert store.list_active(behind.database) == []
    answer = client.post("/links/jobs", content=sent(page.text, "0", "1"), headers=FORM)
    [batch] = store.list_batches(behind.database, 10)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/batches/{batch.id}")
    assert (batch.name, batch.total) == (THREE.title, 2)
    assert [(job.source.url, job.source.name) for job in store.list_active(behind.database)] == [
        ("https://example.org/1?a=1&b=2", "First " + MEAN), ("https://example.org/2", "Second"),
    ]  # fmt: skip
    only = client.post("/links/jobs", content=sent(page.text, "1"), headers=FORM)
    assert only.headers["location"].startswith("/jobs/")


def test_what_has_no_room_stays_on_the_page_chosen(
    client: TestClient, behind: Box, holds: Callable[[object], list[str]]
) -> None:
    holds(THREE)
    for number in range(2):
        put_job(behind, State.QUEUED, f"{number}.mp3")
    page = client.post("/links", data={"url": URL, "model": "demo", "language": ""})
    answer = client.post("/links/jobs", content=sent(page.text, "0", "1"), headers=FORM)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "1 of 2 were taken. The box is full" in words(answer.text)
    assert boxes(answer.text) == {"0": False, "1": True, "2": False}
    [batch] = store.list_batches(behind.database, 10)
    assert f'name="batch" value="{batch.id}"' in answer.text
    assert "taken" in words(answer.text)
    none = client.post("/links/jobs", content=sent(answer.text), headers=FORM)
    assert (none.status_code, "Choose at least one" in none.text) == (422, True)
    full = client.post("/links", data={"url": URL, "model": "demo", "language": ""})
    assert full.status_code == 429  # before anything is fetched


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"url": ""}, "Paste a link first."),
        ({"url": "ftp://example.org/a"}, "begins with http"),
        ({"url": URL, "model": "huge"}, "There is no such model"),
        ({"url": URL, "language": "klingon"}, "no language"),
    ],
)
def test_what_is_wrong_is_said_on_the_front_page_before_anything_is_fetched(
    client: TestClient, holds: Callable[[object], list[str]], data: dict[str, str], sentence: str
) -> None:
    asked = holds(ONE)
    answer = client.post("/links", data=data)
    assert answer.status_code == 422
    assert sentence in words(answer.text)
    assert asked == []


def test_a_link_that_cannot_be_had_is_told_with_the_reason(
    client: TestClient, behind: Box, holds: Callable[[object], list[str]]
) -> None:
    holds(StenoboxError("bot_check", links.ADVICE["bot_check"]))
    answer = client.post("/links", data={"url": URL})
    assert answer.status_code == 422
    assert "takes this box for a robot" in words(answer.text)
    assert store.list_active(behind.database) == []


def test_forms_are_small_and_plain(client: TestClient) -> None:
    assert client.post("/links", json={"url": URL}).status_code == 415
    assert client.post("/links/jobs", json={"url": URL}).status_code == 415
    big = client.post("/links", content=b"url=" + b"x" * (600 * 1024), headers=FORM)
    assert big.status_code == 413
    many = client.post("/links/jobs", content=b"&".join([b"item=1"] * 501), headers=FORM)
    assert many.status_code == 400
    assert client.get("/links").headers["location"] == "/"


def test_what_a_browser_sends_back_is_only_data(client: TestClient, behind: Box) -> None:
    body = "model=demo&item=http://127.0.0.1:22/&name=x&seconds=1e9&take=0&take=7&take=x"
    answer = client.post("/links/jobs", content=body, headers=FORM)
    assert answer.status_code == 422
    assert "names a port" in words(answer.text)
    assert store.list_active(behind.database) == []


def test_a_job_whose_link_holds_several_offers_to_choose(client: TestClient, behind: Box) -> None:
    job = ingest.submit(behind, URL + "?list=1")
    attempt = store.claim_download(behind.database, behind.planner.first(), "worker", 60)
    assert attempt is not None
    store.fail_if_owned(behind.database, attempt.token, "several_recordings", links.ADVICE["several_recordings"])
    page = client.get(f"/jobs/{job.id}").text
    assert 'action="/links"' in page
    assert 'name="url" value="https://example.org/talk?list=1"' in page


def test_a_download_is_shown_with_its_bytes_and_rate_and_takes_no_slot(client: TestClient, behind: Box) -> None:
    job = ingest.submit(behind, URL)
    attempt = store.claim_download(behind.database, behind.planner.first(), "worker", 60)
    assert attempt is not None
    about = {"download": {"total": None, "bytes_per_second": 1_200_000}}
    store.note_download_if_owned(behind.database, attempt.token, 5_000_000, about)
    front = words(client.get("/").text)
    assert "Downloading the recording, 5 MB at 1.2 MB/s" in front
    assert "0 of 1 slot busy, 1 of 2 places in the queue taken" in front
    seen = client.get(f"/api/v1/jobs/{job.id}").json()
    assert (seen["stage"], seen["source"]["url"], seen["source"]["bytes"]) == ("download", URL, 5_000_000)


def test_a_box_that_takes_no_links_shows_no_field(client: TestClient, behind: Box) -> None:
    behind.change_settings({"download_slots": 0}, "test")
    assert 'formaction="/links"' not in client.get("/").text
    answer = client.post("/links", data={"url": URL})
    assert answer.status_code == 422


def test_the_limits_page_changes_what_is_allowed_of_links(client: TestClient, behind: Box) -> None:
    typed = {"download_slots": "3", "link_hosts": "example.org, youtube.com"}
    assert client.post("/limits", data=typed).status_code == 303
    limits = behind.limits()
    assert (limits.download_slots, limits.link_hosts, limits.generic_links) == (3, typed["link_hosts"], False)
    page = words(client.get("/limits").text)
    assert "example.org, youtube.com" in client.get("/limits").text
    assert "generic_links" in page or "off" in page
    client.post("/limits", data=typed | {"link_hosts": "", "generic_links": "on"})
    assert (behind.limits().link_hosts, behind.limits().generic_links) == ("", True)
    wrong = client.post("/limits", data=typed | {"link_hosts": "<b>"})
    assert wrong.status_code == 422
    assert "Names of sites with commas" in wrong.text


def test_what_was_typed_comes_back_with_the_refusal(client: TestClient) -> None:
    hostile = 'https://example.org/"><script>x</script>'
    fields = {"model": "small", "language": "de", "url": hostile, "batch": "Two talks"}
    page = client.post("/jobs", data=fields, files={"file": ("a.wav", b"sound")}).text
    assert 'value="https://example.org/&#34;&gt;&lt;script&gt;x&lt;/script&gt;"' in page
    assert '<option value="small" selected>' in page
    assert '<option value="de" selected>' in page
    assert page.count(" selected>") == 2
    page = client.post("/jobs", data=fields | {"url": ""}, files={"file": ("a.wav", b"")}).text
    assert "The file is empty" in page
    assert 'value="Two talks"' in page


def test_a_link_beside_files_is_not_left_out_without_a_word(client: TestClient, behind: Box) -> None:
    """Without JavaScript one form has both, and a button for each."""
    fields = {"model": "demo", "language": "", "url": f" {URL} ", "batch": ""}
    answer = client.post("/jobs", data=fields, files={"file": ("a.wav", b"sound")})
    assert answer.status_code == 400
    assert "Press Fetch for the link" in words(answer.text)
    assert store.list_active(behind.database) == []
    answer = client.post("/jobs", data=fields | {"url": " "}, files={"file": ("a.wav", b"sound")})
    assert answer.status_code == 303


@pytest.mark.parametrize(
    ("url", "language", "field"),
    [("htp:/example", "de", "url"), ("http://10.0.0.1/x", "", "url"), (URL, "xx", "language"), ("", "de", "url")],
)
def test_a_refused_link_comes_back_as_it_was_typed_beside_the_sentence(
    client: TestClient, url: str, language: str, field: str
) -> None:
    fields = {"model": "small", "language": language, "url": url}
    answer = client.post("/links", data=fields)
    assert answer.status_code == 422
    page = Page(answer.text)
    assert page.element(id="url")["value"] == url
    assert "selected" in next(one for one in page.all("option") if one["value"] == "small")
    if language == "de":
        assert "selected" in page.element("option", value="de")
    marked = page.element(id=field)
    assert marked["aria-invalid"] == "true"
    assert f"{field}-fault" in (marked["aria-describedby"] or "").split()
    assert re.search(rf'id="{field}-fault"[^>]*>[^<]{{10,}}</p>', answer.text)
    assert answer.text.count("data-message") == 1


def test_a_link_that_holds_nothing_is_marked_too(client: TestClient, holds: Callable[[object], list[str]]) -> None:
    holds(StenoboxError("link_not_found", "There is nothing at this link."))
    answer = client.post("/links", data={"model": "demo", "language": "", "url": URL})
    assert f'value="{URL}"' in answer.text
    assert 'id="url-fault"' in answer.text


def test_a_full_box_keeps_the_link_and_blames_no_field(client: TestClient, behind: Box) -> None:
    for number in range(3):
        put_job(behind, State.QUEUED, f"{number}.mp3")
    answer = client.post("/links", data={"model": "demo", "language": "", "url": URL})
    assert answer.status_code == 429
    assert f'value="{URL}"' in answer.text
    assert "aria-invalid" not in answer.text
