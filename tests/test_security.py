"""Which hosts and origins are answered, what every answer carries, and what an address can't reach."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from starlette.testclient import TestClient
from support import Served
from web_support import FORM, LOST, client_of, put_every_state

from tasks import store
from tasks.config import Config
from tasks.jobs import State
from webapp import paths, templating
from webapp.app import create_app
from webapp.assets import Static
from webapp.security import HEADERS, PROBED

PROMISED = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def code(answer: Any) -> str:
    return str(answer.json()["error"]["code"])


# Hosts


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "LOCALHOST", "LocalHost:1", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8000"],
)
def test_loopback_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil.example:localhost",
        "localhost@evil.example",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "0.0.0.0",
        "::1",
        "[::1",
        "[::1.evil.example]",
        "[::2]",
        "[",
        "",
        ":8000",
        "evil/api/v1?",
        "local\u00adhost",
    ],
)
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    for path in ("/api/v1/jobs", "/", "/login", "/static/app.css", "/docs", "/healthz/", "/healthz/x", "/nothing"):
        answer = client.get(path, headers={b"Host": host.encode()})
        assert answer.status_code == 400, path
        assert "unknown_host" in answer.text
        assert answer.headers["content-security-policy"] == PROMISED["Content-Security-Policy"]
    assert code(client.get("/api/v1/jobs", headers={b"Host": host.encode()})) == "unknown_host"


def test_a_request_without_a_host_is_refused(config: Config) -> None:
    sent: list[dict[str, Any]] = []

    async def main() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": "/api/v1/jobs", "raw_path": b"/api/v1/jobs", "query_string": b"",
            "headers": [], "scheme": "http", "server": ("localhost", 8000), "root_path": "", "http_version": "1.0",
        }  # fmt: skip
        await create_app(config)(scope, receive, send)

    anyio.run(main)
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["error"]["code"] == "unknown_host"


@pytest.mark.parametrize("host", ["steno.lan", "STENO.LAN:8000", "box.example.org", "localhost", "[fd00::1]:8000"])
def test_names_that_the_operator_gave_are_answered(tmp_path: Path, host: str) -> None:
    with client_of(Config(data=tmp_path, hosts="Steno.lan, box.example.org,[fd00::1]")) as client:
        assert client.get("/docs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "172.19.17.130:8080",  # Fly
        "[fdaa:0:18:a7b:7d:1:2:2]:8080",
        "10.244.0.7:8000",  # Kubernetes: the pod's own address
        "stenobox.default.svc.cluster.local:8000",
        "stenobox.service.consul",
        "stenobox:8000",  # compose
        "dokku-app.web.1:5000",
        "",
    ],
)
@pytest.mark.parametrize("hosts", ["", "steno.lan"])
def test_probers_ask_under_any_name_for_health_alone(tmp_path: Path, host: str, hosts: str) -> None:
    with client_of(Config(data=tmp_path, hosts=hosts)) as client:
        for path in PROBED:
            for method in ("GET", "HEAD"):
                assert client.request(method, path, headers={b"Host": host.encode()}).status_code in (200, 503), path
            assert client.post(path, headers={b"Host": host.encode()}).status_code == 400
        assert client.get("/healthz", headers={b"Host": host.encode()}).json()["status"] == "ok"
        for path in ("/", "/api/v1/jobs", "/docs", "/static/app.css"):
            assert client.get(path, headers={b"Host": host.encode()}).status_code == 400, path


@pytest.mark.parametrize("address", ["192.168.1.20", "192.168.1.20:8000", "[fd00::7]:8000", "203.0.113.9", "127.0.0.1"])
def test_a_box_that_listens_everywhere_answers_to_addresses_and_to_no_name(tmp_path: Path, address: str) -> None:
    with client_of(Config(data=tmp_path, host="0.0.0.0")) as client:
        assert client.get("/docs", headers={"Host": address}).status_code == 200
        for name in ("nas", "nas.local", "192.168.1.20.nip.io", "0x7f.1", "::1", "[fd00::7", "[192.168.1.20"):
            assert client.get("/docs", headers={"Host": name}).status_code == 400, name


@pytest.mark.parametrize(
    "config",
    [{}, {"host": "0.0.0.0", "hosts": "steno.lan"}, {"hosts": "steno.lan"}, {"host": "::1", "proxies": "127.0.0.1"}],
)
def test_addresses_that_nobody_asked_for_are_refused(tmp_path: Path, config: dict[str, str]) -> None:
    with client_of(Config(data=tmp_path, **config)) as client:  # type: ignore[arg-type]
        assert client.get("/docs", headers={"Host": "192.168.1.20:8000"}).status_code == 400


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("Nas.local:8000", "the name nas.local. If that is yours, start it with STENOBOX_HOSTS=nas.local "),
        ("192.168.1.20", "STENOBOX_HOSTS=192.168.1.20 "),
        ("<b>:1", "the name it was asked by. If that is yours, start it with STENOBOX_HOSTS=stenobox.example.org "),
    ],
)
def test_the_refusal_says_what_to_set(client: TestClient, host: str, told: str) -> None:
    assert told in client.get("/api/v1/jobs", headers={"Host": host}).json()["error"]["message"]


# Encryption


def test_over_https_a_browser_is_told_to_come_by_nothing_else(tmp_path: Path, client: TestClient) -> None:
    behind = Config(data=tmp_path / "behind", hosts="steno.lan", proxies="10.0.0.1")
    headers = {"Host": "steno.lan", "X-Forwarded-Proto": "https"}
    with client_of(behind, client=("10.0.0.1", 1)) as proxied:
        for path in ("/login", "/", "/static/app.css", "/nothing", "/api/v1/jobs"):
            answer = proxied.get(path, headers=headers)
            assert answer.headers["strict-transport-security"] == "max-age=31536000", path
    with client_of(behind, client=("10.0.0.2", 1)) as stranger:
        assert "strict-transport-security" not in stranger.get("/login", headers=headers).headers
    assert "strict-transport-security" not in client.get("/").headers


# A proxy that nobody named


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Proto", "CF-Connecting-IP", "Fly-Client-IP"]
)
def test_a_box_without_a_password_is_closed_to_what_was_forwarded(client: TestClient, name: str) -> None:
    forwarded = {name: "for=192.0.2.7" if name == "Forwarded" else "192.0.2.7"}
    for method, path in (("GET", "/"), ("GET", "/api/v1/jobs"), ("POST", "/api/v1/transcriptions"), ("POST", "/jobs")):
        answer = client.request(method, path, headers=forwarded)
        assert answer.status_code == 403, (method, path)
        assert "STENOBOX_PROXIES" in answer.text
    keyed = client.get("/api/v1/jobs", headers=forwarded | {"X-API-Key": "anything"})
    assert code(keyed) == "unnamed_proxy"
    assert client.get("/healthz", headers=forwarded).status_code == 200
    assert client.get("/", headers={}).status_code == 200


def test_a_box_whose_header_has_another_name_knows_it_too(tmp_path: Path) -> None:
    with client_of(Config(data=tmp_path, client_header="X-My-Proxy")) as client:
        assert code(client.get("/api/v1/jobs", headers={"X-My-Proxy": "192.0.2.7"})) == "unnamed_proxy"


def test_a_box_with_a_password_needs_it_whoever_forwards(tmp_path: Path) -> None:
    with client_of(Config(data=tmp_path)) as client:
        client.app.state.box.logins.set_password("correct horse battery", "page")  # type: ignore[attr-defined]
        assert code(client.get("/api/v1/jobs", headers={"X-Forwarded-For": "192.0.2.7"})) == "unauthorized"


def test_a_box_with_a_named_proxy_is_one_that_others_reach(tmp_path: Path) -> None:
    with client_of(Config(data=tmp_path, proxies="127.0.0.1")) as client:
        assert code(client.get("/api/v1/jobs")) == "unauthorized"


# Origins

CHANGES = [
    ("POST", "/jobs"),
    ("POST", "/jobs/sample"),
    ("POST", "/jobs/{id}/cancel"),
    ("POST", "/jobs/{id}/retry"),
    ("POST", "/jobs/{id}/delete"),
    ("POST", "/api/v1/transcriptions"),
    ("DELETE", "/api/v1/jobs/{id}"),
    ("POST", "/api/v1/jobs/{id}/cancel"),
    ("POST", "/api/v1/jobs/{id}/retry"),
]
FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost:9000"},
    {"Origin": "http://evil.example/localhost"},
    {"Origin": "http://localhost@evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://["},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: " ".join(headers.values()) or "empty")
def test_a_change_on_behalf_of_another_site_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    box = client.app.state.box  # type: ignore[attr-defined]
    before = put_every_state(box)
    for method, path in CHANGES:
        for job in before.values():
            answer = client.request(method, path.format(id=job.id), headers=headers)
            assert answer.status_code == 403, (method, path)
            assert "cross_origin" in answer.text
            assert "Access-Control-Allow-Origin" not in answer.headers
    assert {state: box.get(job.id).state for state, job in before.items()} == {state: state for state in before}
    assert not box.get(before[State.RUNNING].id).cancel_requested
    assert len(store.ids(box.database)) == len(before)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
        {"Origin": "http://localhost"},
        {"Origin": "http://LOCALHOST"},
        {"Origin": "http://localhost:8000", "Host": "localhost:8000"},
        {"Origin": "http://[::1]:8000", "Host": "[::1]:8000"},
    ],
)
def test_a_change_from_our_own_pages_or_from_a_program_passes(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/jobs/sample", headers=headers).status_code == 303


def test_reading_is_allowed_from_anywhere_since_other_sites_can_not_see_the_answer(client: TestClient) -> None:
    answer = client.get("/api/v1/jobs", headers={"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


# Headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/healthz", 200),
        ("HEAD", "/", 200),
        ("GET", "/static/app.css", 200),
        ("GET", "/api/v1/jobs", 200),
        ("GET", "/api/v1/jobs/", 307),
        ("POST", "/jobs/sample", 303),
        ("GET", "/nothing", 404),
        ("GET", f"/jobs/{LOST}", 404),
        ("GET", "/static/nothing.css", 404),
        ("POST", "/static/app.css", 405),
        ("POST", "/", 405),
        ("POST", "/api/v1/transcriptions", 415),
        ("GET", "/api/v1/jobs?limit=x", 422),
    ],
)
def test_every_answer_carries_the_security_headers(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert {name: answer.headers[name] for name in PROMISED} == PROMISED
    assert "server" not in answer.headers


def test_an_internal_error_carries_them_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(store, "list_active", broken)
    answer = client.get("/")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "boom" not in answer.text
    assert "Traceback" not in answer.text
    assert {name: answer.headers[name] for name in PROMISED} == PROMISED


def test_the_refusal_of_a_full_box_carries_them_too(client: TestClient) -> None:
    for _ in range(3):
        client.post("/jobs/sample")
    answer = client.post("/api/v1/transcriptions", content=b"", headers=FORM)
    assert answer.status_code == 429
    assert PROMISED == HEADERS
    assert {name: answer.headers[name] for name in PROMISED} == PROMISED


def test_the_policy_lets_no_inline_code_run() -> None:
    assert "unsafe" not in PROMISED["Content-Security-Policy"]
    assert "*" not in PROMISED["Content-Security-Policy"]


# Static files


def test_a_static_file_under_its_hash_is_cached_for_good(client: TestClient) -> None:
    answer = client.get(templating.static("app.css"))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.content == (paths.STATIC / "app.css").read_bytes()


def test_a_static_file_without_its_hash_is_asked_for_again_each_time(client: TestClient) -> None:
    answer = client.get("/static/app.css")
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get("/static/app.css", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../pyproject.toml",
        "/static/..%2fpyproject.toml",
        "/static/%2e%2e/pyproject.toml",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static/..%5c..%5cetc%5cpasswd",
        "/static/%2fetc/passwd",
        "/static//etc/passwd",
        "/static/%00",
        "/static/app.css%00.png",
        "/static/" + "a" * 5000,
        "/static/",
        "/static",
        "/static/vendor",
        "/jobs/..%2f..%2fetc%2fpasswd",
        f"/jobs/{LOST}%2f..%2f..%2fjobs.db/transcript.json",
        "/jobs/../../etc/passwd/transcript.txt",
        "/api/v1/jobs/..%2f..%2fjobs.db",
        f"/api/v1/jobs/{LOST}%00/transcript",
    ],
)
def test_no_address_leads_out_of_its_folder(served: Served, path: str) -> None:
    # Sent as it is: clients tidy such addresses up before they send them.
    import http.client

    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status in (404, 307)
    assert b"root:" not in body
    assert b"[project]" not in body
    assert b"SQLite format" not in body


def test_a_static_file_that_can_not_be_read_is_refused_with_a_page(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Static, "lookup_path", locked)
    answer = client.get("/static/app.css")
    assert answer.status_code == 400
    assert "The request can't be read" in html.unescape(answer.text)


# Weight


def test_importing_the_web_application_imports_nothing_heavy() -> None:
    code = (
        "import sys, webapp.app, webapp.cli; "
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in "
        "('torch', 'whisperx', 'av', 'numpy', 'faster_whisper', 'ctranslate2', 'transformers', 'huggingface_hub')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_web_process_at_work_loads_nothing_heavy(served: Served) -> None:
    for path in ("/", "/api/v1/jobs", f"/jobs/{LOST}"):
        served.get(path)
    [pid] = served.children("webapp.cli web")
    loaded = {Path(entry.path).name.lower() for entry in psutil.Process(pid).memory_maps() if entry.path}
    assert not [name for name in loaded if any(heavy in name for heavy in ("torch", "libav", "numpy", "ctranslate"))]
    assert psutil.Process(pid).memory_info().rss < 150_000_000
