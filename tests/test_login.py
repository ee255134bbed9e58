"""How people come in: on an open box not at all, on a closed one by the password, and strangers nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from web_support import END, FORM, LOST, client_of, file_part, put_job

from tasks import store
from tasks.actions import Box
from tasks.config import Config
from tasks.jobs import State
from tasks.logins import LONGEST_SECONDS
from tasks.throttle import FREE
from webapp import rules
from webapp.login import local
from webapp.routes import routes
from webapp.security import HEADERS, PROBED

PASSWORD = "correct horse"
HTML = {"Accept": "text/html,*/*"}
OURS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A box that others can reach."""
    return Config(data=tmp_path / "data", hosts="box.example", slots=1, queue_limit=2, proxies="10.0.0.0/8")


@pytest.fixture
def client(config: Config) -> Iterator[TestClient]:
    with client_of(config, base_url="http://box.example") as client:
        yield client


@pytest.fixture
def box(client: TestClient) -> Box:
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    return box


@pytest.fixture
def locked(box: Box) -> Box:
    """It has a password."""
    box.logins.set_password(PASSWORD, "page")
    return box


def log_in(client: TestClient, password: str = PASSWORD, **more: str) -> Any:
    return client.post("/login", data={"password": password, **more}, headers=HTML | OURS)


def code(answer: Any) -> str:
    """The error's code, of JSON or of a page."""
    if answer.headers["content-type"] == "application/json":
        return str(answer.json()["error"]["code"])
    found = re.search(r"Code: <code>(\w+)</code>", answer.text)
    return found[1] if found else ""


# Strangers


def every_request() -> list[tuple[str, str]]:
    """One request for each route and method."""
    found = []
    for route in routes:
        assert isinstance(route, Route | Mount)
        path = re.sub(r"\{[a-z_]+(:\w+)?\}", lambda part: "txt" if "format" in part[0] else LOST, route.path)
        methods = (route.methods or set()) - {"HEAD"} if isinstance(route, Route) else {"GET"}
        found += [(method, path) for method in sorted(methods)]
    return found


@pytest.mark.parametrize("password_is_set", [False, True])
def test_a_stranger_reaches_the_login_and_what_is_open_and_nothing_else(
    client: TestClient, box: Box, password_is_set: bool
) -> None:
    if password_is_set:
        box.logins.set_password(PASSWORD, "page")
    job = put_job(box, State.COMPLETED, "secret.mp3")
    for method, path in [*every_request(), ("GET", "/nothing"), ("GET", f"/jobs/{job.id}"), ("TRACE", "/")]:
        answer = client.request(method, path.replace(LOST, job.id))
        if rules.needed(method, path) is None:
            assert answer.status_code != 401, (method, path)
        else:
            assert (answer.status_code, code(answer)) == (401, "unauthorized"), (method, path)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "secret" not in answer.text, (method, path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert box.get(job.id).state == State.COMPLETED
    open_to_all = {path for method, path in every_request() if rules.needed(method, path) is None}
    pages = {"/login", "/logout", "/setup", "/static"}
    assert open_to_all <= {"/healthz", "/readyz", "/openapi.json", "/docs"} | pages


@pytest.mark.parametrize("path", ["/", "/limits", "/jobs/x?y=%2F&z=1", "/settings"])
def test_a_person_is_led_to_the_login_and_back(client: TestClient, locked: Box, path: str) -> None:
    answer = client.get(path, headers=HTML)
    assert answer.status_code == 303
    page = client.get(answer.headers["location"], headers=HTML)
    following = re.search(r'name="next" value="([^"]*)"', page.text)
    assert following is not None
    assert following[1].replace("&amp;", "&") == path
    assert log_in(client, next=path).headers["location"] == path


def test_a_live_region_is_refused_and_the_page_decides_whether_it_can_leave(client: TestClient, locked: Box) -> None:
    answer = client.get("/", headers=HTML | {"HX-Request": "true"})
    assert answer.status_code == 401
    assert not {"HX-Redirect", "location"} & set(answer.headers)


def test_the_login_says_why_it_is_there(client: TestClient, locked: Box) -> None:
    assert "You were logged out" not in client.get("/login", headers=HTML).text
    log_in(client)
    locked.logins.set_password(PASSWORD, "test")
    assert "You were logged out" in client.get("/login?next=/limits", headers=HTML).text
    refused = client.post("/limits", data={"keep_days": "3"}, headers=HTML)
    assert refused.status_code == 401
    assert "reload this page" in refused.text


def test_a_stranger_is_told_401_at_the_door_of_a_full_box(client: TestClient, locked: Box) -> None:
    key = {"X-API-Key": locked.access.create_key("one")[1]}
    locked.change_settings({"slots": 1, "queue_limit": 0}, "test")
    put_job(locked, State.QUEUED)
    body = file_part() + END
    for headers, status in (({}, 401), ({"X-API-Key": "x"}, 401), (key, 429), ({"Authorization": "Bearer x"}, 401)):
        answer = client.post("/api/v1/transcriptions", content=body, headers=FORM | headers)
        assert answer.status_code == status


def test_before_the_first_key_a_closed_box_takes_no_labels(client: TestClient, locked: Box) -> None:
    assert client.get("/api/v1/jobs", headers={"X-API-Key": "anything"}).status_code == 401


@pytest.mark.parametrize("hosts", ["", "box.example"])
def test_another_host_is_refused_on_every_route(tmp_path: Path, hosts: str) -> None:
    with client_of(Config(data=tmp_path / "other", hosts=hosts)) as client:
        for method, path in [*every_request(), ("GET", "/nothing"), ("OPTIONS", "/"), ("POST", "/static/app.css")]:
            answer = client.request(method, path, headers={"Host": "evil.example", **FORM})
            if method != "GET" or path not in PROBED:
                assert answer.status_code == 400, (method, path)
                assert "unknown_host" in answer.text
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS


# Logging in and out


def test_the_password_opens_everything_and_logging_out_closes_it(client: TestClient, locked: Box) -> None:
    answer = log_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert re.match(r"stenobox=[\w-]{43}; ", cookie)
    assert {"HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={LONGEST_SECONDS:.0f}"} <= set(cookie.split("; "))
    assert client.get("/limits").status_code == 200
    assert client.get("/api/v1/settings").status_code == 200
    assert "Log out" in client.get("/").text
    token = client.cookies["stenobox"]
    assert client.post("/logout", headers=OURS).headers["location"] == "/login"
    assert "stenobox" not in client.cookies
    assert client.get("/limits", headers={"Cookie": f"stenobox={token}"}).status_code == 401


def test_over_https_the_cookie_can_neither_leak_nor_be_planted(config: Config) -> None:
    with client_of(config, base_url="http://box.example", client=("10.0.0.1", 1)) as client:
        client.app.state.box.logins.set_password(PASSWORD, "page")  # type: ignore[attr-defined]
        secure = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
        answer = client.post("/login", data={"password": PASSWORD}, headers=secure)
        name, _, rest = answer.headers["set-cookie"].partition("=")
        assert name == "__Host-stenobox"
        assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= set(rest.split("; "))
        assert "Domain" not in rest
        token = rest.partition(";")[0]
        assert client.get("/limits", headers=secure | {"Cookie": f"{name}={token}"}).status_code == 200
        assert client.get("/limits", headers=secure | {"Cookie": f"stenobox={token}"}).status_code == 401
        [session] = client.app.state.box.logins.sessions()  # type: ignore[attr-defined]
        assert session.address == "192.0.2.7"
        gone = client.post("/logout", headers=secure | {"Cookie": f"{name}={token}"}).headers["set-cookie"]
        assert {"Secure", "Max-Age=0"} <= set(gone.split("; "))


def test_logging_in_again_gives_another_token_and_ends_the_first(client: TestClient, locked: Box) -> None:
    log_in(client)
    first = client.cookies["stenobox"]
    log_in(client)
    assert client.cookies["stenobox"] != first
    assert len(locked.logins.sessions()) == 1


def test_a_planted_token_is_never_taken_over(client: TestClient, locked: Box) -> None:
    client.cookies.set("stenobox", "planted", domain="box.example")
    answer = log_in(client)
    assert "planted" not in answer.headers["set-cookie"]
    assert client.get("/limits", headers={"Cookie": "stenobox=planted"}).status_code == 401


def test_a_wrong_password_is_said_and_guessing_is_slowed(client: TestClient, locked: Box) -> None:
    for _ in range(FREE):
        answer = log_in(client, "wrong")
        assert answer.status_code == 401
        assert "That is not the password." in answer.text
        assert "www-authenticate" not in answer.headers
        assert "set-cookie" not in answer.headers
    answer = log_in(client)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Too many wrong passwords" in answer.text


def test_a_forged_address_does_not_reset_the_wait(client: TestClient, locked: Box) -> None:
    answers = [
        client.post("/login", data={"password": "wrong"}, headers={"X-Forwarded-For": f"192.0.2.{number}"}).status_code
        for number in range(FREE + 1)
    ]
    assert answers == [401] * FREE + [429]


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}])
@pytest.mark.parametrize(
    "path", ["/login", "/logout", "/settings/keys", "/settings/password", "/settings/sessions/end"]
)
def test_another_sites_form_changes_nothing(
    client: TestClient, locked: Box, path: str, headers: dict[str, str]
) -> None:
    log_in(client)
    fields = {"password": PASSWORD, "name": "evil", "current": PASSWORD, "new": "battery staple"}
    assert client.post(path, data=fields, headers=headers).status_code == 403
    assert client.get("/limits").status_code == 200
    assert len(locked.logins.sessions()) == 1
    assert locked.access.list_keys() == []


def test_a_key_needs_no_login_and_a_login_no_key(client: TestClient, locked: Box) -> None:
    key, text = locked.access.create_key("one")
    log_in(client)
    client.post("/jobs/sample", headers=OURS)
    theirs = client.post("/jobs/sample", headers={"X-API-Key": text})
    assert theirs.status_code == 303
    submitters = [job.submitter for job in locked.list_jobs(None, 10)]
    assert sorted(submitters) == sorted(["", key.id]), "a key that is sent counts, whatever the cookie says"
    assert client.get("/limits", headers={"X-API-Key": text}).status_code == 403


def test_where_there_is_nothing_to_log_in_to(tmp_path: Path) -> None:
    with client_of(Config(data=tmp_path / "open")) as client:
        assert client.get("/login?next=/limits").headers["location"] == "/limits"
        assert client.get("/limits").status_code == 200
        assert "Log out" not in client.get("/limits").text
        assert client.get("/", headers={"Cookie": "stenobox=anything"}).status_code == 200
        client.app.state.box.logins.set_password(PASSWORD, "command")  # type: ignore[attr-defined]
        assert client.get("/limits").status_code == 401, "a password closes it, also on this machine"
        client.app.state.box.logins.remove_password()  # type: ignore[attr-defined]
        assert client.get("/limits").status_code == 200


@pytest.mark.parametrize(
    ("text", "followed"),
    [
        ("/limits", "/limits"),
        ("/jobs/x?y=1#z", "/jobs/x?y=1#z"),
        ("", "/"),
        ("//evil.example", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("https:/evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        ("http://[", "/"),
        (" /limits", "/"),
    ],
)
def test_a_login_leads_nowhere_else(client: TestClient, locked: Box, text: str, followed: str) -> None:
    assert local(text) == followed
    answer = client.post("/login", data={"password": PASSWORD, "next": text.strip(" ") or text}, headers=OURS)
    assert answer.headers["location"] in ("/", "/limits", "/jobs/x?y=1#z")


# The first password


def test_the_link_sets_the_password_and_lets_in(client: TestClient, box: Box) -> None:
    assert "Not set up yet" in client.get("/login").text
    token = box.logins.invite()
    page = client.get(f"/setup?token={token}")
    assert "Choose a password" in page.text
    assert page.headers["cache-control"] == "no-store"
    short = client.post("/setup", data={"token": token, "password": "short"}, headers=OURS)
    assert (short.status_code, "at least 8 characters" in short.text) == (422, True)
    answer = client.post("/setup", data={"token": token, "password": PASSWORD}, headers=OURS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert client.get("/limits").status_code == 200
    again = client.post("/setup", data={"token": token, "password": "battery staple"}, headers=OURS)
    assert again.status_code == 404
    assert "no longer good" in again.text


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token=%00"])
def test_without_the_link_nobody_sets_a_password(client: TestClient, box: Box, query: str) -> None:
    assert "no longer good" in client.get(f"/setup{query}").text
    answer = client.post("/setup", data={"token": "x", "password": PASSWORD}, headers=OURS)
    assert answer.status_code == 404
    assert not box.logins.password_is_set()


# Settings


def test_keys_are_made_shown_once_renewed_and_revoked_on_the_page(client: TestClient, locked: Box) -> None:
    log_in(client)
    made = client.post(
        "/settings/keys", data={"name": "<phone>", "scope": "read", "max_active": "3", "expires": "90"}, headers=OURS
    )
    assert made.status_code == 200
    assert made.headers["cache-control"] == "no-store"
    [text] = re.findall(r"sb_\w{38}", made.text)
    assert client.get("/api/v1/jobs", headers={"X-API-Key": text}).status_code == 200
    page = client.get("/settings").text
    assert text not in page
    assert "&lt;phone&gt;" in page
    assert "<phone>" not in page
    [key] = locked.access.list_keys()
    assert (key.scope, key.max_active, key.expires_at is None) == ("read", 3, False)
    renewed = client.post("/settings/keys/rotate", data={"name": "<phone>"}, headers=OURS)
    [new] = re.findall(r"sb_\w{38}", renewed.text)
    assert client.get("/api/v1/jobs", headers={"X-API-Key": text}).status_code == 401
    assert client.get("/api/v1/jobs", headers={"X-API-Key": new}).status_code == 200
    revoked = client.post("/settings/keys/revoke", data={"name": "<phone>"}, headers=OURS)
    assert "refused from now on" in client.get(revoked.headers["location"]).text
    assert client.get("/api/v1/jobs", headers={"X-API-Key": new}).status_code == 401
    assert client.post("/settings/keys/rotate", data={"name": "<phone>"}, headers=OURS).status_code == 404


@pytest.mark.parametrize("fields", [{"name": ""}, {"name": "x", "max_active": "many"}, {"name": "x", "scope": "all"}])
def test_a_key_that_can_not_be_made_is_refused_on_the_page(
    client: TestClient, locked: Box, fields: dict[str, str]
) -> None:
    log_in(client)
    answer = client.post("/settings/keys", data=fields, headers=OURS)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert locked.access.list_keys() == []


def test_sessions_are_listed_and_ended_on_the_page(client: TestClient, locked: Box) -> None:
    log_in(client)
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    others = [locked.logins.begin_session("192.0.2.7", agent), locked.logins.begin_session("192.0.2.8", "<b>")]
    page = client.get("/settings").text
    assert "Firefox on Linux" in page
    assert "192.0.2.7" in page
    assert "this browser" in page
    assert "<b>" not in page
    [victim] = [session.id for session in locked.logins.sessions() if session.address == "192.0.2.7"]
    client.post("/settings/sessions/end", data={"session": victim}, headers=OURS)
    assert [locked.logins.session(token) is not None for token in others] == [False, True]
    client.post(
        "/settings/sessions/end-others", data={}, headers=OURS | {"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert locked.logins.session(others[1]) is None
    assert client.get("/settings?said=others").status_code == 200


def test_the_password_is_changed_on_the_page_and_only_this_browser_stays(client: TestClient, locked: Box) -> None:
    log_in(client)
    old, other = client.cookies["stenobox"], locked.logins.begin_session("192.0.2.7", "")
    wrong = client.post("/settings/password", data={"current": "wrong", "new": "battery staple"}, headers=OURS)
    assert wrong.status_code == 422
    answer = client.post("/settings/password", data={"current": PASSWORD, "new": "battery staple"}, headers=OURS)
    assert answer.headers["location"] == "/settings?said=password"
    assert client.get("/settings?said=password").status_code == 200
    assert [locked.logins.session(token) for token in (old, other)] == [None, None]
    assert log_in(client).status_code == 401
    assert log_in(client, "battery staple").status_code == 303


def test_what_the_operator_set_is_not_changed_on_the_page(client: TestClient, box: Box) -> None:
    box.logins.take_password(PASSWORD)
    log_in(client)
    assert "STENOBOX_PASSWORD" in client.get("/settings").text
    assert client.post("/settings/password", data={"current": PASSWORD, "new": "battery staple"}).status_code == 422
    assert log_in(client).status_code == 303


def test_no_secret_is_in_a_page_a_log_or_a_row(
    client: TestClient, locked: Box, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    log_in(client, "a wrong guess")
    log_in(client)
    _, text = locked.access.create_key("one")
    token = client.cookies["stenobox"]
    for path in ("/", "/settings", "/limits", "/nothing", "/api/v1/settings", "/api/v1/settings/changes"):
        answer = client.get(path, headers={"Accept": "*/*"})
        for secret in (PASSWORD, text, token, "a wrong guess", "$argon2"):
            assert secret not in answer.text, path
    stored = b"".join(path.read_bytes() for path in config.data.glob("jobs.db*"))
    for secret in (PASSWORD, text, token, "a wrong guess"):
        assert secret not in caplog.text
        assert secret.encode() not in stored
    assert store.choices(locked.database) == {}
