"""The page /docs: all of the document, to be read without a network, and by strangers."""

from __future__ import annotations

import re
from html import unescape

import pytest
from markupsafe import Markup
from starlette.testclient import TestClient

from tasks.actions import Box
from tasks.errors import KINDS
from webapp.openapi.document import OPERATIONS, document
from webapp.openapi.manual import manual, prose, words
from webapp.openapi.parts import Schema
from webapp.routes import routes


@pytest.fixture
def page(client: TestClient) -> str:
    answer = client.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return answer.text


def test_every_operation_shape_and_code_is_on_the_page(page: str) -> None:
    for (method, path), operation in OPERATIONS.items():
        assert f'id="{operation.id}"' in page
        assert f">{method}</span> <code>{path}</code>" in page
        assert str(prose(operation.summary)) in page
    for name in document(routes, False)["components"]["schemas"]:
        assert name == "Code" or f'id="shape-{name}"' in page
    for code in KINDS:
        assert f"<code>{code}</code>" in page


def test_every_link_on_the_page_leads_somewhere(client: TestClient, page: str) -> None:
    places = set(re.findall(r'id="([^"]+)"', page))
    for link in re.findall(r'href="([^"]+)"', page):
        if link.startswith("#"):
            assert link[1:] in places, link
        elif link.startswith("/"):
            assert client.get(unescape(link)).status_code == 200, link


def test_it_needs_nothing_from_elsewhere(page: str) -> None:
    loaded = re.findall(r'(?:src|href)="([^"]+)"', re.sub(r"<a .*?>", "", page, flags=re.DOTALL))
    assert loaded
    assert all(address.startswith("/static/") for address in loaded)
    assert "<style" not in page
    assert " style=" not in page


def test_examples_name_the_box_as_it_was_asked_for(client: TestClient, page: str) -> None:
    assert "curl -F file=@talk.mp3 -F model=small http://localhost/api/v1/transcriptions<" in page
    assert "curl -T talk.mp3 http://localhost/api/v1/transcriptions/<" in page
    assert "curl -X DELETE http://localhost/api/v1/jobs/ID<" in page
    assert "STENOBOX_KEY" not in page
    other = client.get("/docs", headers={"Host": "127.0.0.1:8123"}).text
    assert "http://127.0.0.1:8123/api/v1/jobs" in other


def test_a_stranger_may_read_it_and_is_told_of_the_key(client: TestClient) -> None:
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    box.logins.set_password("correct horse battery", "test")
    assert client.get("/").status_code in (303, 401)
    found = unescape(client.get("/docs").text)
    assert 'curl -H "X-API-Key: $STENOBOX_KEY" http://localhost/api/v1/jobs<' in found
    assert "curl http://localhost/healthz<" in found
    assert "Log out" not in found


def test_page_and_document_are_sent_once(client: TestClient) -> None:
    for path in ("/docs", "/openapi.json"):
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_the_front_page_leads_to_it(client: TestClient) -> None:
    assert '<a href="/docs">API</a>' in client.get("/").text


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string"}, ("string", None)),
        ({"type": ["integer", "null"], "minimum": 1}, ("integer or null, from 1", None)),
        ({"type": "integer", "minimum": 1, "maximum": 2000}, ("integer, 1 to 2,000", None)),
        ({"type": "string", "enum": ["a", None]}, ("a · null", None)),
        ({"const": "auto"}, ("auto", None)),
        ({"$ref": "#/components/schemas/Job"}, ("Job", "Job")),
        ({"anyOf": [{"$ref": "#/components/schemas/Job"}, {"type": "null"}]}, ("Job or null", "Job")),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Job"}}, ("list of Job", "Job")),
        ({"type": "object", "additionalProperties": {"type": "string"}}, ("string by name", None)),
        ({"type": "string", "format": "binary"}, ("file", None)),
        ({}, ("anything", None)),
    ],
)
def test_a_type_is_said_in_words(schema: Schema, said: tuple[str, str | None]) -> None:
    assert words(schema) == said


def test_prose_is_escaped() -> None:
    assert prose("a `b<c>` & [d](/e)") == Markup('a <code>b&lt;c&gt;</code> &amp; <a href="/e">d</a>')
    assert prose("a\n\nb") == Markup("<p>a</p><p>b</p>")


def test_the_second_status_of_readiness_is_an_answer_and_a_refusal() -> None:
    found = manual(document(routes, False), "http://box", False)
    entry = next(entry for group in found.groups for entry in group.entries if entry.path == "/readyz")
    assert [reply.status for reply in entry.replies] == ["200", "503"]
