"""Other origins: closed by default; pages of those that the operator named use the API with a key, never a cookie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import contract
import pytest
from starlette.testclient import TestClient
from web_support import END, FORM, client_of, file_part, put_job

from tasks.actions import Box
from tasks.config import Config, ConfigError, from_env
from tasks.jobs import State
from webapp import origins

APP = "https://app.example.org"
FROM = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
LABEL = {"X-API-Key": "a label"}
PASSWORD = "correct horse battery"
SUBMIT = "/api/v1/transcriptions"
BODY = file_part() + END


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[TestClient]:
    config = Config(data=tmp_path / "shared", origins=f"{APP}, tauri://localhost,http://localhost")
    with client_of(config) as client:
        yield client


@pytest.fixture
def box(shared: TestClient) -> Box:
    found: Box = shared.app.state.box  # type: ignore[attr-defined]
    return found


def ask_first(client: TestClient, path: str = SUBMIT, **more: str) -> dict[str, str]:
    headers = FROM | {"Access-Control-Request-Method": "POST"} | more
    answer = client.options(path, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    return dict(answer.headers)


def test_a_browser_that_asks_first_is_told_what_may_be_sent(shared: TestClient) -> None:
    told = ask_first(shared, **{"Access-Control-Request-Headers": "x-api-key,x-stainless-os"})
    assert told["access-control-allow-origin"] == APP
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= set(told["access-control-allow-methods"].split(", "))
    allowed = {name.lower() for name in told["access-control-allow-headers"].split(", ")}
    assert allowed >= {
        "x-api-key", "authorization", "content-type", "idempotency-key", "tus-resumable", "upload-length",
        "upload-defer-length", "upload-offset", "upload-metadata", "upload-checksum", "x-stainless-os",
    }  # fmt: skip
    assert int(told["access-control-max-age"]) > 0
    assert "Origin" in told["vary"]
    assert "access-control-allow-credentials" not in told


def test_a_box_with_a_password_answers_the_first_question_without_a_key(shared: TestClient, box: Box) -> None:
    box.logins.set_password(PASSWORD, "test")
    assert ask_first(shared, "/api/v1/uploads")["access-control-allow-origin"] == APP


def test_all_that_the_contract_names_may_be_read() -> None:
    assert {name.lower() for name in origins.TOLD} == contract.TOLD


def test_a_page_submits_with_a_key_and_reads_every_answer(shared: TestClient, box: Box) -> None:
    answer = shared.post(SUBMIT, content=BODY, headers=FROM | FORM | LABEL)
    assert answer.status_code == 202
    assert "location" in answer.headers["access-control-expose-headers"].lower()
    job = answer.json()["id"]
    box.change_settings({"slots": 1, "queue_limit": 0}, "test")
    full = shared.post(SUBMIT, content=BODY, headers=FROM | FORM | LABEL)
    lost = shared.get("/api/v1/jobs/x", headers=FROM | LABEL)
    other = shared.patch("/api/v1/capacity", headers=FROM | LABEL)
    tus = shared.post("/api/v1/uploads", headers=FROM | LABEL)
    seen = shared.get(f"/api/v1/jobs/{job}", headers=FROM | LABEL)
    host = shared.get("/api/v1/jobs", headers=FROM | LABEL | {"Host": "evil.example"})
    statuses = [one.status_code for one in (full, lost, other, tus, seen, host)]
    assert statuses == [429, 404, 405, 412, 200, 400]
    for one in (answer, full, lost, other, tus, seen, host):
        assert one.headers["access-control-allow-origin"] == APP
        assert "Origin" in one.headers["vary"]
        assert one.headers["cross-origin-resource-policy"] == "cross-origin"
        assert "access-control-allow-credentials" not in one.headers


def test_what_nobody_expected_may_be_read_too(shared: TestClient, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Box, "get", lambda *_: 1 / 0)
    answer = shared.get(f"/api/v1/jobs/{'0' * 32}", headers=FROM | LABEL)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, APP)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_without_a_key_an_open_box_gives_and_takes_nothing(shared: TestClient, box: Box, method: str) -> None:
    job = put_job(box, State.COMPLETED)
    path = f"/api/v1/jobs/{job.id}" if method != "POST" else SUBMIT
    answer = shared.request(method, path, headers=FROM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin")
    assert answer.headers["access-control-allow-origin"] == APP
    assert shared.get(f"/api/v1/jobs/{job.id}").status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_session_is_never_a_foreign_pages(shared: TestClient, box: Box, method: str) -> None:
    box.logins.set_password(PASSWORD, "test")
    assert shared.post("/login", data={"password": PASSWORD}).status_code == 303
    path = "/api/v1/jobs" if method == "GET" else "/api/v1/pause"
    assert shared.request(method, path).status_code == 200
    answer = shared.request(method, path, headers=FROM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    key = box.access.create_key("app", "admin")[1]
    assert shared.request(method, path, headers=FROM | {"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "null", "*", "http://app.example.org", "https://app.example.org:8443",
        "https://app.example.org.evil.example", "https://app.example.org/", "https://x.app.example.org", "",
    ],
)  # fmt: skip
def test_every_other_origin_stays_out(shared: TestClient, client: TestClient, origin: str) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"} | LABEL
    answer = shared.post(SUBMIT, content=BODY, headers=headers | FORM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin")
    first = shared.options(SUBMIT, headers=headers | {"Access-Control-Request-Method": "POST"})
    read = shared.get("/api/v1/jobs", headers=headers)
    for one in (answer, first, read):
        assert [name for name in one.headers if name.startswith("access-control")] == []
        assert one.headers["cross-origin-resource-policy"] == "same-origin"
        assert "Origin" in one.headers["vary"]


def test_nobody_is_let_in_unless_the_operator_says_so(client: TestClient) -> None:
    assert client.post(SUBMIT, content=BODY, headers=FROM | FORM | LABEL).status_code == 403
    assert "access-control-allow-origin" not in client.get("/api/v1/jobs", headers=FROM | LABEL).headers


def test_two_origins_in_one_request_are_none(shared: TestClient) -> None:
    twice = [("Origin", APP), ("Origin", "https://evil.example"), ("X-API-Key", "a label")]
    answer = shared.post(SUBMIT, content=BODY, headers=[*twice, *FORM.items()])
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_pages_of_the_box_are_closed_to_them(shared: TestClient) -> None:
    for path in ("/", "/settings", "/login", "/docs"):
        answer = shared.get(path, headers=FROM | LABEL)
        assert "access-control-allow-origin" not in answer.headers, path
    assert shared.post("/jobs", content=BODY, headers=FROM | FORM | LABEL).status_code == 403


def test_the_boxs_own_pages_stay_its_own_where_its_origin_is_named_too(shared: TestClient, box: Box) -> None:
    box.logins.set_password(PASSWORD, "test")
    assert shared.post("/login", data={"password": PASSWORD}).status_code == 303
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert shared.post("/api/v1/pause", headers=own).status_code == 200


@pytest.mark.parametrize(
    "text",
    ["*", "null", "app.example.org", "https://app.example.org/", "https://*.example.org", "https://u@a.example",
     "https://", "https://a.example:x", "https://a.example?x", "https://a b"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^STENOBOX_ORIGINS=.* For example: STENOBOX_ORIGINS=https://app\."):
        from_env({"STENOBOX_ORIGINS": text})


def test_origins_are_read_as_browsers_write_them() -> None:
    text = "HTTPS://App.Example.org:443 , http://a.example:80,http://[::1]:5173, tauri://localhost,https://a.example:80"
    assert from_env({"STENOBOX_ORIGINS": text}).allowed_origins == [
        "https://app.example.org", "http://a.example", "http://[::1]:5173", "tauri://localhost", "https://a.example:80",
    ]  # fmt: skip
