"""The OpenAPI document: it names all that is served and nothing else, is valid, and real answers keep to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from contract import contract, faults
from openapi_spec_validator import validate
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from web_support import LOST, put_job

from tasks import __version__
from tasks.actions import Box
from tasks.decode.facts import Facts, Track
from tasks.errors import KINDS
from tasks.jobs import JobKind, State
from tasks.links.about import about
from tasks.wishes import FIELDS
from webapp import rules, shapes
from webapp.endpoints import Endpoint
from webapp.openapi.document import OPERATIONS, SCHEMES, TAGS, document, endpoints
from webapp.openapi.refusals import MEANINGS
from webapp.openapi.schemas import FIELD_TEXTS, components, settings
from webapp.routes import routes
from webapp.submissions import SOURCES


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from [part["$ref"]] if isinstance(part.get("$ref"), str) else ()
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


# What it names


def test_every_address_for_programs_is_in_the_document_and_nothing_else() -> None:
    served = {(method, path) for method, path, _ in endpoints(routes)}
    assert served == set(OPERATIONS)
    told = {(m.upper(), path) for path, methods in document(routes, False)["paths"].items() for m in methods}
    assert told == served


def test_every_route_that_answers_in_json_is_an_endpoint() -> None:
    programs = re.compile(r"/(api/|transcribe|download|extract-audio|healthz|readyz|openapi)")
    for route in routes:
        assert isinstance(route, Mount | Route)
        assert isinstance(route, Endpoint) == bool(programs.match(route.path)), route.path


@pytest.mark.parametrize("method, path", sorted(OPERATIONS), ids=" ".join)  # noqa: PT006
def test_an_operation_names_the_parameters_that_its_route_reads(method: str, path: str) -> None:
    [route] = [route for m, p, route in endpoints(routes) if (m, p) == (method, path)]
    assert set(OPERATIONS[method, path].query) == set(route.query or ())
    assert OPERATIONS[method, path].tag in TAGS


def test_names_of_operations_are_unique() -> None:
    names = [operation.id for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))


def test_every_code_has_a_meaning_and_is_in_the_document() -> None:
    assert set(MEANINGS) == set(KINDS)
    assert components()["Refusal"]["properties"]["code"]["type"] == "string"
    assert document(routes, False)["components"]["schemas"]["Code"]["enum"] == list(KINDS)


def test_every_field_of_a_submission_has_a_text() -> None:
    assert {*SOURCES, *(name for kind in JobKind for name in FIELDS[kind])} <= set(FIELD_TEXTS)


def test_what_a_recording_says_of_itself_has_the_fields_of_facts() -> None:
    assert list(shapes.Media.__annotations__) == list(Facts.__dataclass_fields__)
    assert list(shapes.Track.__annotations__) == list(Track.__dataclass_fields__)
    assert [name for name in shapes.About.__annotations__ if name != "download"] == list(
        about({"title": "a", "uploader": "b", "duration": 1, "thumbnail": "https://a", "webpage_url": "https://a",
               "extractor_key": "c", "chapters": [{"start_time": 0}]})
    )  # fmt: skip
    assert list(shapes.BatchJobs.__annotations__) == list(State)


# That it is one


def test_it_is_valid_and_every_reference_leads_somewhere() -> None:
    found = document(routes, False)
    validate(found)
    for reference in references(found):
        target: Any = found
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]
    assert found["info"]["version"] == __version__


def test_every_schema_is_used() -> None:
    found = document(routes, False)
    used = {reference.rpartition("/")[2] for reference in references(found)}
    assert set(found["components"]["schemas"]) - used == {"Code"}


@pytest.mark.parametrize("closed", [False, True])
def test_it_says_who_needs_a_key(closed: bool) -> None:
    found = document(routes, closed)
    assert ({} in found["security"]) is not closed
    assert set(found["components"]["securitySchemes"]) == set(SCHEMES)
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            open_to_all = rules.needed(method.upper(), path) is None
            assert (operation.get("security") == []) is open_to_all
            assert ("401" in operation["responses"]) is not open_to_all


def test_settings_are_all_there_and_slots_may_be_auto() -> None:
    assert settings()["properties"]["slots"]["anyOf"][1] == {"const": "auto"}
    assert settings()["required"] == list(settings()["properties"])


# How it is served


def test_it_is_served_to_everyone_without_importing_it_before(client: TestClient) -> None:
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document(routes, False)
    assert client.head("/openapi.json").headers["content-length"] == answer.headers["content-length"]


def test_a_box_with_a_password_shows_it_to_strangers_and_says_that_a_key_is_needed(
    client: TestClient, behind: Box
) -> None:
    assert {} in client.get("/openapi.json").json()["security"]
    behind.logins.set_password("correct horse battery", "test")
    assert client.get("/api/v1/jobs").status_code == 401
    answer = client.get("/openapi.json")
    assert (answer.status_code, {} in answer.json()["security"]) == (200, False)


# That answers keep to it


def test_a_contract_that_is_broken_is_noticed() -> None:
    right: dict[str, Any] = {"status": "ok", "version": "1"}
    told = {"content-type": "application/json"}

    def found(body: Any, status: int = 200, headers: dict[str, str] = told) -> list[str]:
        import json

        return list(faults("GET", "/healthz", status, headers, json.dumps(body).encode()))

    assert found(right) == []
    assert found(right | {"more": 1})
    assert found({"status": "ok"})
    assert found(right, 201)
    assert found(right, 200, {"content-type": "text/html"})
    assert found(right, 200, told | {"location": "/"})
    assert found({"error": {"code": "queue_full", "message": "", "type": "", "param": None}}, 500)
    assert contract()["paths"]["/healthz"]["get"]["responses"]["200"]
    assert list(faults("PUT", "/healthz", 200, {}, b""))
    assert list(faults("PUT", "/healthz", 405, {}, b"")) == ["no Allow"]
    assert list(faults("GET", "/nothing", 200, {}, b"")) == []


def test_head_answers_wherever_get_does(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED)
    for method, path, _ in endpoints(routes):
        if method == "GET" and "/uploads/" not in path:
            address = path.replace("{id}", job.id).replace("{job_id}", job.id)
            got, head = client.get(address), client.head(address)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            assert head.headers["content-type"] == got.headers["content-type"]


def test_options_says_what_an_address_knows_and_nothing_more(client: TestClient) -> None:
    answer = client.options(f"/api/v1/jobs/{LOST}", headers={"Origin": "http://evil.example"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    uploads = client.options("/api/v1/uploads")
    assert uploads.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "QUERY"])
def test_a_method_that_is_not_known_is_405_with_allow(client: TestClient, method: str) -> None:
    answer = client.request(method, f"/api/v1/jobs/{LOST}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert answer.json()["error"]["code"] == "method_not_allowed"


# Queries


@pytest.mark.parametrize(
    ("method", "path", "code", "param"),
    [
        ("GET", "/api/v1/jobs?colour=red", "unknown_field", "colour"),
        ("GET", "/api/v1/jobs?limit=1&limit=2", "invalid_value", "limit"),
        ("GET", "/api/v1/capacity?x", "unknown_field", "x"),
        ("POST", "/api/v1/pause?for=ever", "unknown_field", "for"),
        ("PUT", "/api/v1/transcriptions/a.mp3?speed=2", "unknown_field", "speed"),
        ("HEAD", "/api/v1/jobs?colour=red", None, None),
    ],
)
def test_a_parameter_that_nothing_reads_is_refused(
    client: TestClient, method: str, path: str, code: str | None, param: str | None
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 422
    if code:
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


def test_what_belongs_into_a_form_is_refused_in_the_query(client: TestClient) -> None:
    answer = client.post("/api/v1/transcriptions?model=small", files={"file": ("a.mp3", b"x")})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "model")
    assert "in the body" in answer.json()["error"]["message"]


def test_health_checks_may_add_something_of_their_own(client: TestClient) -> None:
    assert client.get("/healthz?time=1").status_code == 200
