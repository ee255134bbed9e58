"""Every address has a rule, every key sees its own alone, and a stranger is told nothing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient
from web_support import END, FORM, LOST, file_part, put_job

from tasks.actions import Box
from tasks.jobs import State
from tasks.principals import Principal, Scope
from webapp import rules
from webapp.auth import key_in
from webapp.routes import routes

BODY = file_part() + END


@pytest.fixture
def box(client: TestClient) -> Box:
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    box.change_settings({"slots": 4, "queue_limit": 16}, "test")
    return box


def make(box: Box, name: str, scope: str = "submit", **options: Any) -> dict[str, str]:
    """A key, as a header."""
    return {"X-API-Key": box.access.create_key(name, scope, **options)[1]}


def submit(client: TestClient, key: dict[str, str]) -> str:
    answer = client.post("/api/v1/transcriptions", content=BODY, headers=FORM | key)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def code(answer: Any) -> str:
    return str(answer.json()["error"]["code"])


# Rules


def address(route: BaseRoute) -> str:
    assert isinstance(route, Route | Mount)
    return route.path


def methods(route: BaseRoute) -> set[str]:
    return getattr(route, "methods", None) or set()


@pytest.mark.parametrize("route", routes, ids=lambda route: " ".join(sorted(methods(route))) + f" {address(route)}")
def test_the_table_says_who_may_use_each_address(route: BaseRoute) -> None:
    """A new route fails here until webapp/rules.py names it."""
    assert rules.named(address(route)), f"say in webapp/rules.py who may use {address(route)}"


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/healthz", None),
        ("POST", "/login", None),
        ("GET", "/static/app.css", None),
        ("GET", "/", Scope.READ),
        ("HEAD", "/", Scope.READ),
        ("GET", "/api/v1/jobs", Scope.READ),
        ("DELETE", "/api/v1/jobs/x", Scope.SUBMIT),
        ("POST", "/jobs", Scope.SUBMIT),
        ("GET", "/limits", Scope.ADMIN),
        ("GET", "/api/v1/settings", Scope.ADMIN),
        ("GET", "/nobody/has/named/this", Scope.ADMIN),
        ("GET", "/healthz2", Scope.ADMIN),
        ("GET", "//healthz", Scope.ADMIN),
        ("GET", "/STATIC/app.css", Scope.ADMIN),
        ("GET", "", Scope.ADMIN),
    ],
)
def test_what_an_address_needs(method: str, path: str, needed: Scope | None) -> None:
    assert rules.needed(method, path) == needed


# These read jobs whoever they belong to: faces ask the box instead.
OF_ALL = {"get", "list_jobs", "list_active", "list_finished", "count_finished", "ids", "cancel", "delete", "retry"}


def test_no_face_reads_jobs_past_the_box() -> None:
    wrong = []
    for path in (Path(rules.__file__).parent).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "store":
                wrong += [f"{path.name}: store.{node.attr}"] if node.attr in OF_ALL else []
            if (
                (
                    isinstance(node, ast.Attribute)
                    and node.attr == "box"
                    and path.stem not in ("api", "app", "auth", "door")
                )
                and isinstance(node.value, ast.Attribute)
                and node.value.attr == "state"
            ):
                wrong.append(f"{path.name}: state.box")
    assert wrong == []


# Keys


@pytest.mark.parametrize(
    ("api_key", "authorization", "key"),
    [
        ("", "", ""),
        (" one ", "", "one"),
        ("one", "Bearer two", "one"),
        ("", "Bearer two", "two"),
        ("", "bearer  two ", "two"),
        ("", "Basic two", ""),
        ("", "two", ""),
    ],
)
def test_where_a_key_is_found(api_key: str, authorization: str, key: str) -> None:
    assert key_in(api_key, authorization) == key


def test_a_key_is_believed_only_in_its_headers(client: TestClient, box: Box) -> None:
    text = make(box, "phone")["X-API-Key"]
    assert client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {text}"}).status_code == 200
    assert client.get("/api/v1/settings", headers={"Authorization": f"Bearer {text}"}).status_code == 403
    # In a query it is refused, in a cookie it says nothing: this is the operator, not the key.
    assert client.get(f"/api/v1/settings?api_key={text}&key={text}").status_code == 422
    assert client.get("/api/v1/settings", headers={"Cookie": f"X-API-Key={text}; stenobox={text}"}).status_code == 200


@pytest.mark.parametrize("headers", [{"X-API-Key": "sb_unknown"}, {"Authorization": "Bearer unknown"}])
def test_an_unknown_key_is_refused_everywhere_but_where_all_may_come(
    client: TestClient, box: Box, headers: dict[str, str]
) -> None:
    make(box, "phone")
    for method, path in (("GET", "/api/v1/jobs"), ("POST", "/api/v1/transcriptions"), ("GET", "/api/v1/nothing")):
        answer = client.request(method, path, headers=headers)
        assert (answer.status_code, code(answer)) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Stenobox"'
        assert answer.json()["error"]["type"] == "authentication_error"
        assert "unknown" not in answer.json()["error"]["message"].replace("not known", "")
    assert client.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("read", "GET", "/api/v1/jobs", 200),
        ("read", "GET", "/", 200),
        ("read", "GET", "/api/v1/capacity", 200),
        ("read", "POST", "/api/v1/transcriptions", 403),
        ("read", "POST", "/jobs/sample", 403),
        ("read", "DELETE", f"/api/v1/jobs/{LOST}", 403),
        ("submit", "POST", "/jobs/sample", 303),
        ("submit", "DELETE", f"/api/v1/jobs/{LOST}", 404),
        ("submit", "GET", "/api/v1/settings", 403),
        ("submit", "PATCH", "/api/v1/settings", 403),
        ("submit", "POST", "/api/v1/pause", 403),
        ("submit", "GET", "/limits", 403),
        ("submit", "GET", "/api/v1/nothing", 404),
        ("admin", "GET", "/api/v1/settings", 200),
        ("admin", "GET", "/limits", 200),
        ("admin", "GET", "/api/v1/nothing", 404),
    ],
)
def test_a_scope_allows_so_much(client: TestClient, box: Box, scope: str, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, headers=make(box, "one", scope))
    assert answer.status_code == status, answer.text
    if status == 403:
        assert "forbidden" in answer.text


def test_who_changed_a_limit_is_recorded_with_the_key(client: TestClient, box: Box) -> None:
    key = make(box, "ops", "admin")
    assert client.patch("/api/v1/settings", json={"slots": 2}, headers=key).status_code == 200
    by = client.get("/api/v1/settings/changes", headers=key).json()["changes"][0]["by"]
    assert by == "API, key ops, testclient"


# Each key its own


def test_two_keys_see_nothing_of_each_other(client: TestClient, box: Box) -> None:
    one, two = make(box, "one"), make(box, "two")
    hers = submit(client, one)
    done = box.seen_by(Principal("two", Scope.SUBMIT, "none"))
    assert done.list_jobs(None, 10) == []
    for method, path in (
        ("GET", "/api/v1/jobs/{id}"),
        ("GET", "/api/v1/jobs/{id}/transcript"),
        ("POST", "/api/v1/jobs/{id}/cancel"),
        ("POST", "/api/v1/jobs/{id}/retry"),
        ("DELETE", "/api/v1/jobs/{id}"),
        ("GET", "/jobs/{id}"),
        ("GET", "/jobs/{id}/transcript.txt"),
        ("POST", "/jobs/{id}/cancel"),
        ("POST", "/jobs/{id}/retry"),
        ("POST", "/jobs/{id}/delete"),
        ("GET", "/api/v1/jobs?after={id}"),
    ):
        theirs = client.request(method, path.format(id=hers), headers=two)
        unknown = client.request(method, path.format(id=LOST), headers=two)
        assert theirs.status_code == unknown.status_code in (404, 422), (method, path)
        assert theirs.text == unknown.text
        assert dict(theirs.headers) == dict(unknown.headers)
    assert client.get("/api/v1/jobs", headers=two).json()["jobs"] == []
    assert hers not in client.get("/", headers=two).text
    assert [job["id"] for job in client.get("/api/v1/jobs", headers=one).json()["jobs"]] == [hers]
    assert hers in client.get("/", headers=one).text
    assert client.get(f"/api/v1/jobs/{hers}", headers=one).json()["state"] == "queued"


def test_a_key_can_do_all_that_is_to_be_done_with_its_own(client: TestClient, box: Box) -> None:
    key = make(box, "one")
    job_id = submit(client, key)
    assert client.post(f"/api/v1/jobs/{job_id}/cancel", headers=key).status_code == 200
    assert client.post(f"/api/v1/jobs/{job_id}/retry", headers=key).status_code == 202
    assert client.delete(f"/api/v1/jobs/{job_id}", headers=key).status_code == 204
    assert client.get(f"/api/v1/jobs/{job_id}", headers=key).status_code == 404


def test_an_admin_and_a_reader_of_the_same_jobs_see_them(client: TestClient, box: Box) -> None:
    one, boss = make(box, "one"), make(box, "boss", "admin")
    reader, alone = make(box, "viewer", "read", jobs_of="one"), make(box, "alone", "read")
    hers = submit(client, one)
    mine = put_job(box, State.QUEUED)
    seen = {
        name: {job["id"] for job in client.get("/api/v1/jobs", headers=headers).json()["jobs"]}
        for name, headers in {"one": one, "boss": boss, "reader": reader, "alone": alone, "page": {}}.items()
    }
    assert seen == {"one": {hers}, "reader": {hers}, "alone": set(), "boss": {hers, mine.id}, "page": {hers, mine.id}}


def test_who_sees_several_people_is_told_whose_a_job_is(client: TestClient, box: Box) -> None:
    one, boss = make(box, "<i>phone</i>"), make(box, "boss", "admin")
    reader = make(box, "viewer", "read", jobs_of="<i>phone</i>")
    job_id = submit(client, one)
    mine = put_job(box, State.QUEUED)
    batch = client.post("/api/v1/batches", json={"name": "Calls"}, headers=one).json()["id"]
    sent = client.post(
        "/api/v1/transcriptions?batch=Calls", content=b"sound", headers=one | {"Content-Type": "audio/wav"}
    )
    assert sent.status_code == 202
    box.access.revoke_key("<i>phone</i>")
    pages = ("/", f"/jobs/{job_id}", "/batches", f"/batches/{batch}")
    for headers in (boss, {}):
        jobs = client.get("/api/v1/jobs", headers=headers).json()["jobs"]
        assert {job["id"]: job["submitter"] for job in jobs}[job_id] == "<i>phone</i>", (
            "a revoked key's name is still told"
        )
        assert {job["id"]: job["submitter"] for job in jobs}[mine.id] is None
        assert client.get(f"/api/v1/jobs/{job_id}", headers=headers).json()["submitter"] == "<i>phone</i>"
        for page in pages:
            assert "<bdi>&lt;i&gt;phone&lt;/i&gt;</bdi>" in client.get(page, headers=headers).text, page
    assert client.get(f"/api/v1/jobs/{job_id}", headers=reader).json()["submitter"] is None
    assert all("phone" not in client.get(page, headers=reader).text for page in pages)


def test_pages_of_a_list_hold_only_ones_own(client: TestClient, box: Box) -> None:
    one, two = make(box, "one"), make(box, "two")
    ids = [submit(client, key) for key in (one, two, one, two, one)]
    found, path = [], "/api/v1/jobs?limit=1"
    while path:
        page = client.get(path, headers=one).json()
        found += [job["id"] for job in page["jobs"]]
        path = page["next"]
    assert found == [ids[4], ids[2], ids[0]]


# The door


def test_the_door_knows_keys_too(client: TestClient, box: Box) -> None:
    one, reader = make(box, "one"), make(box, "viewer", "read")
    box.change_settings({"slots": 1, "queue_limit": 0}, "test")
    submit(client, one)
    asked = {
        name: client.post("/api/v1/transcriptions", content=BODY, headers=FORM | headers).status_code
        for name, headers in {"one": one, "reader": reader, "stranger": {"X-API-Key": "x"}, "page": {}}.items()
    }
    assert asked == {"one": 429, "reader": 403, "stranger": 401, "page": 429}
