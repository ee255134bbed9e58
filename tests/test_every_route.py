"""What holds for every address without exception: walked over the table of routes, so that a new one is held too."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient
from test_security import PROMISED
from web_support import END, FORM, LOST, client_of, file_part, put_job

from tasks import batches, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import metadata
from tasks.jobs import State
from tasks.principals import Principal, Scope
from webapp import rules, standin, templating
from webapp.routes import routes
from webapp.security import PROBED

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
TUS = {"Tus-Resumable": "1.0.0"}
PASSWORD = "correct horse battery"


def address(route: BaseRoute) -> str:
    assert isinstance(route, Route | Mount)
    return route.path


PATHS = sorted({address(route) for route in routes})


def filled(path: str, job: str = LOST, batch: str = LOST, upload: str = LOST) -> str:
    """An address of this kind. job, batch, upload: ids."""
    within = batch if "batches" in path else upload if "uploads" in path else job
    for name, value in {"{id}": within, "{job_id}": job, "{format}": "txt", "{name:path}": "talk.wav"}.items():
        path = path.replace(name, value)
    return f"{path}/app.css" if path == "/static" else path


@contextmanager
def closed_box(folder: Path) -> Iterator[TestClient]:
    """One that others reach, with a password."""
    with client_of(Config(data=folder / "closed", hosts="box.example", slots=4, queue_limit=16)) as client:
        box_of(client).logins.set_password(PASSWORD, "page")
        yield client


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[TestClient]:
    with closed_box(tmp_path) as client:
        yield client


@pytest.fixture(scope="module")
def worn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, TestClient]]:
    """An open and a closed box for all addresses: what one test leaves of them is the next one's business."""
    folder = tmp_path_factory.mktemp("worn")
    with client_of(Config(data=folder / "open", slots=4, queue_limit=100)) as client, closed_box(folder) as closed:
        yield client, closed


@pytest.fixture(scope="module")
def modes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[TestClient, dict[str, str]]]]:
    """Boxes in every mode, with what is sent to them: open, full, closed, logged in, with a key, and not ready yet."""
    folder = tmp_path_factory.mktemp("modes")
    config = Config(data=folder / "open", slots=1, queue_limit=0)
    waiting = TestClient(standin._app(config), base_url="http://localhost", follow_redirects=False)
    with client_of(config) as client, closed_box(folder) as closed, waiting:
        admin = {"X-API-Key": box_of(closed).access.create_key("boss", "admin")[1]}
        entered = closed.post("/login", data={"password": PASSWORD}).cookies["stenobox"]
        closed.cookies.clear()
        put_job(box_of(client), State.QUEUED)
        yield [
            (client, {}),
            (client, FORM),
            (closed, {}),
            (closed, admin),
            (closed, {"Cookie": f"stenobox={entered}"}),
            (waiting, {}),
        ]


def box_of(client: TestClient) -> Box:
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    return box


def kept(box: Box) -> dict[str, list[Any]]:
    """Everything in the database, without the moments at which keys were used and jobs looked at."""
    with box.database.read() as connection:
        tables = {table.name: list(connection.execute(sa.select(table))) for table in metadata.sorted_tables}
    tables["keys"] = [{**row._mapping, "used_at": None} for row in tables["keys"]]
    return tables


def check_headers(answer: Any, what: object) -> None:
    assert {name: answer.headers.get(name) for name in PROMISED} == PROMISED, what
    assert "server" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control-")], what


# Headers


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/api/v1/nothing", "/static/nothing.css", "//healthz"])
def test_every_answer_carries_the_security_headers(worn: tuple[TestClient, TestClient], path: str) -> None:
    client, closed = worn
    box_of(client).change_settings({"intake": "open", "slots": 4, "queue_limit": 100, "max_bytes": 10**6}, "test")
    active = box_of(client).list_active()
    job = active[0].id if active else put_job(box_of(client), State.QUEUED).id
    for method in METHODS:
        for of, where in ((client, filled(path, job)), (client, filled(path) + "/"), (closed, filled(path))):
            check_headers(of.request(method, where), (method, where))


def test_every_kind_of_answer_carries_them(
    client: TestClient, closed: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, seen = box_of(client), set()

    def ask(method: str, path: str, of: TestClient = client, **options: Any) -> Any:
        answer = of.request(method, path, **options)
        check_headers(answer, (method, path, answer.status_code))
        seen.add(answer.status_code)
        return answer

    first = ask("GET", "/", headers={"HX-Request": "true"})
    ask("GET", "/", headers={"HX-Request": "true", "HX-PTag": first.headers["HX-PTag"]})
    sheet = ask("GET", templating.static("app.css"))
    ask("GET", "/static/app.css", headers={"If-None-Match": sheet.headers["etag"]})
    ask("GET", "/static/../pyproject.toml")
    ask("POST", "/jobs/sample")
    sent = ask("POST", "/api/v1/transcriptions", content=file_part() + END, headers=FORM)
    ask("DELETE", sent.json()["links"]["self"])
    done = put_job(box, State.COMPLETED) if not box.list_active() else None
    ask("OPTIONS", "/api/v1/uploads", headers=TUS)
    ask("POST", "/api/v1/transcriptions", content=b"x", headers={"Content-Type": "text/plain"})
    ask("PUT", "/api/v1/transcriptions/a.wav", content=b"x", headers={"Content-Length": "9" * 12})
    ask("POST", "/login", data={"password": "x" * 20_000})
    ask("GET", "/", headers={"Host": "evil.example"})
    ask("POST", "/", headers={"Sec-Fetch-Site": "cross-site"})
    ask("GET", "/api/v1/jobs", of=closed)
    ask("GET", "/limits", of=closed, headers={"Accept": "text/html"})
    for _ in range(8):
        ask("POST", "/login", of=closed, data={"password": "wrong"})
    box.change_settings({"slots": 1, "queue_limit": 0, "intake": "open"}, "test")
    for _ in range(3):
        ask("POST", "/api/v1/transcriptions", content=file_part() + END, headers=FORM)  # answered by the door
        ask("POST", "/jobs", content=file_part() + END, headers=FORM)
    box.change_settings({"intake": "paused"}, "test")
    ask("POST", "/api/v1/transcriptions", content=file_part() + END, headers=FORM)
    monkeypatch.setattr(store, "list_active", lambda *_, **__: 1 / 0)
    ask("GET", "/")
    ask("HEAD", "/")
    assert {200, 202, 204, 303, 304, 400, 401, 403, 404, 413, 415, 429, 500, 503} <= seen, seen
    assert done is None or box.find(done.id)


# Hosts


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_another_host_is_refused_at_every_address_in_every_mode(
    modes: list[tuple[TestClient, dict[str, str]]], path: str
) -> None:
    boxes = [box_of(modes[0][0]), box_of(modes[2][0])]
    before = [kept(box) for box in boxes]
    for method in ("GET", "OPTIONS", "POST", "PATCH", "DELETE"):
        if method == "GET" and path in PROBED:
            continue
        for of, headers in modes:
            answer = of.request(method, filled(path), headers=headers | {"Host": "evil.example"})
            assert answer.status_code == 400, (method, path)
            assert method == "HEAD" or "unknown_host" in answer.text
            check_headers(answer, (method, path))
    assert [kept(box) for box in boxes] == before


# Other sites


def test_no_form_of_another_site_changes_anything_anywhere(client: TestClient, closed: TestClient) -> None:
    closed.post("/login", data={"password": PASSWORD})
    foreign = itertools.cycle([{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}])
    for of in (client, closed):
        box = box_of(of)
        box.change_settings({"slots": 4, "queue_limit": 16}, "test")
        batch = batches.begin(box, "Talks")[0].id
        jobs = [put_job(box, state).id for state in (State.COMPLETED, State.FAILED, State.CANCELED, State.QUEUED)]
        for job in jobs:
            with box.database.write() as connection:
                table = metadata.tables["jobs"]
                connection.execute(sa.update(table).where(table.c.id == job).values(batch=batch))
        before = kept(box)
        for path in PATHS:
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                for job in jobs if "{" in path and "batches" not in path else jobs[:1]:
                    fields = {"kind": "transcription", "state": "failed", "name": "x", "password": PASSWORD}
                    answer = of.request(method, filled(path, job, batch, job), headers=next(foreign), data=fields)
                    assert answer.status_code == 403, (method, path)
        assert kept(box) == before


# Strangers


def test_a_stranger_reaches_only_what_is_open(closed: TestClient) -> None:
    box = box_of(closed)
    job = put_job(box, State.COMPLETED, "a secret name.mp3").id
    batch = batches.begin(box, "a secret batch")[0].id
    before, reached = kept(box), set()
    for path in PATHS:
        for method in METHODS:
            where = filled(path, job, batch, job)
            for answer in [closed.request(method, where, headers=headers) for headers in ({}, {"Accept": "text/html"})]:
                if rules.needed(method, where) is None:
                    reached.add(path)
                else:
                    to_login = answer.headers.get("Location", "").startswith("/login")
                    assert answer.status_code == 401 or to_login, (method, where)
                assert "secret" not in answer.text + str(answer.headers)
    assert reached <= {"/healthz", "/readyz", "/login", "/logout", "/setup", "/static", "/openapi.json", "/docs"}
    after = kept(box)
    del after["logins"], before["logins"]  # tries are on record
    assert after == before


# Two keys


def put_hers(client: TestClient, box: Box, key: dict[str, str], owner: str) -> dict[str, list[str]]:
    """What somebody with a key has on the box: jobs in states that can be changed, a batch of them, an upload."""
    box.change_settings({"reuse": False}, "test")  # or all would be completed by the first one's words
    theirs = box.seen_by(Principal("one", Scope.SUBMIT, owner))
    batch = batches.begin(theirs, "Hers")[0].id
    states = (State.COMPLETED, State.FAILED, State.CANCELED, State.QUEUED)
    jobs = [put_job(theirs, state, "hers.mp3").id for state in states]
    for job in jobs:
        store.enter_batch(box.database, job, batch)
    with box.database.write() as connection:
        connection.execute(sa.update(metadata.tables["jobs"]).values(batch=batch))
    name = base64.b64encode(b"hers.mp3").decode()
    headers = key | TUS | {"Upload-Length": "10", "Upload-Metadata": f"filename {name}"}
    made = client.post("/api/v1/uploads", headers=headers)
    upload = made.headers["Location"].rpartition("/")[2]
    return {"job": jobs, "batch": [batch], "upload": [upload]}


def test_nothing_tells_anothers_from_what_never_was(closed: TestClient) -> None:
    """Every address with an id in it, every method: the answer is the same to the byte, and nothing has changed."""
    box = box_of(closed)
    mine, own_text = box.access.create_key("one")
    keys = {name: {"X-API-Key": box.access.create_key(name, scope)[1]} for name, scope in
            (("two", "submit"), ("reader", "read"))}  # fmt: skip
    hers = put_hers(closed, box, {"X-API-Key": own_text}, mine.id)
    ids = [one for found in hers.values() for one in found]
    before, asked = kept(box), 0
    fields = {"kind": "transcription", "state": "failed"}
    offset = TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    for name, key in keys.items():
        for path in (path for path in PATHS if "{id}" in path or "{job_id}" in path):
            for method in METHODS if name == "two" else ("GET",):
                options: dict[str, Any] = {"headers": key, "data": fields} if "uploads" not in path else {
                    "headers": key | offset, "content": b"x"}  # fmt: skip
                lost = closed.request(method, filled(path), **options)
                for one in ids if name == "two" else (ids[0], *ids[-2:]):
                    answer = closed.request(method, filled(path, one, one, one), **options)
                    said = [(a.status_code, a.text, dict(a.headers)) for a in (answer, lost)]
                    assert said[0] == said[1], (method, path)
                    asked += 1
        for query in ("/api/v1/jobs?after={}", "/api/v1/jobs?batch={}", "/api/v1/batches?after={}"):
            lost = closed.get(query.format(LOST), headers=key)
            for one in ids:
                assert closed.get(query.format(one), headers=key).text == lost.text, query
        for kind in ("source_job", "upload", "batch"):
            sent = {kind: LOST} | ({"url": "https://example.org/a.mp3"} if kind == "batch" else {})
            lost = closed.post("/api/v1/transcriptions", headers=key, json=sent)
            for one in ids:
                answer = closed.post("/api/v1/transcriptions", headers=key, json=sent | {kind: one})
                assert (answer.status_code, answer.text) == (lost.status_code, lost.text), kind
        for path in ("/", "/batches", "/api/v1/jobs", "/api/v1/batches"):
            text = closed.get(path, headers=key).text
            assert not any(told in text for told in ("Hers", "hers.mp3", *ids))
    assert asked > 500
    assert kept(box) == before


# Caches


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/api/v1/nothing"])
def test_every_answer_says_who_may_keep_it(worn: tuple[TestClient, TestClient], path: str) -> None:
    client, closed = worn
    for box in (client, closed):
        for method in ("GET", "POST"):
            answer = box.request(method, filled(path))
            said = answer.headers.get("cache-control", "")
            assert said, (method, path, answer.status_code)
            assert "no-store" in said or "no-cache" in said or path == "/static", (method, path, said)


def test_two_hosts_are_one_too_many(worn: tuple[TestClient, TestClient]) -> None:
    for client in worn:
        answer = client.get("/api/v1/jobs", headers=[("Host", "localhost"), ("Host", "box.example")])
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_host")
