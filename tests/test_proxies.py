"""Who asks, and over what: believed of proxies that were named, and of nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tasks.config import Config, from_env
from webapp.proxies import Proxies


def see(config: Config, headers: list[tuple[str, str]], peer: str | None = "10.0.0.1") -> tuple[str | None, str]:
    """The client's address and scheme as the application sees them."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 1234),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    anyio.run(Proxies(app, config), scope, None, None)
    client = seen[0]["client"]
    return client[0] if client else None, seen[0]["scheme"]


@pytest.fixture
def behind(tmp_path: Path) -> Config:
    return Config(data=tmp_path, proxies="10.0.0.1, 10.1.0.0/16,fd00::/8")


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ([], ("10.0.0.1", "http")),
        ([("X-Forwarded-For", "192.0.2.7")], ("192.0.2.7", "http")),
        ([("X-Forwarded-For", "6.6.6.6, 192.0.2.7")], ("192.0.2.7", "http")),
        ([("X-Forwarded-For", "6.6.6.6, 192.0.2.7, 10.1.2.3")], ("192.0.2.7", "http")),
        ([("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "192.0.2.7")], ("192.0.2.7", "http")),
        ([("X-Forwarded-For", "10.1.2.3, 10.1.2.4")], ("10.1.2.3", "http")),
        ([("X-Forwarded-For", "192.0.2.7:4321")], ("192.0.2.7", "http")),
        ([("X-Forwarded-For", "[2001:db8::7]:4321")], ("2001:db8::7", "http")),
        ([("X-Forwarded-For", "2001:db8::7")], ("2001:db8::7", "http")),
        ([("X-Forwarded-For", "192.0.2.7, unknown")], ("10.0.0.1", "http")),
        ([("X-Forwarded-For", "")], ("10.0.0.1", "http")),
        ([("X-Real-IP", "6.6.6.6"), ("Fly-Client-IP", "6.6.6.6")], ("10.0.0.1", "http")),
        ([("X-Forwarded-Proto", "https")], ("10.0.0.1", "https")),
        ([("X-Forwarded-Proto", "http, https")], ("10.0.0.1", "https")),
        ([("X-Forwarded-Proto", "javascript")], ("10.0.0.1", "http")),
    ],
)
def test_what_a_named_proxy_says(behind: Config, headers: list[tuple[str, str]], seen: tuple[str, str]) -> None:
    assert see(behind, headers) == seen


@pytest.mark.parametrize("peer", ["10.0.0.2", "192.0.2.1", "::1", "testclient", None])
def test_nobody_else_is_believed(behind: Config, peer: str | None, caplog: pytest.LogCaptureFixture) -> None:
    headers = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https")]
    assert see(behind, headers, peer) == (peer, "http")
    assert "STENOBOX_PROXIES" in caplog.text


def test_a_proxy_may_come_by_an_ipv4_address_in_ipv6_clothes(behind: Config) -> None:
    assert see(behind, [("X-Forwarded-For", "192.0.2.7")], "::ffff:10.0.0.1") == ("192.0.2.7", "http")


def test_without_named_proxies_none_is_believed(tmp_path: Path) -> None:
    assert see(Config(data=tmp_path), [("X-Forwarded-For", "6.6.6.6")], "127.0.0.1") == ("127.0.0.1", "http")


@pytest.mark.parametrize(
    ("env", "peer", "header"),
    [
        ({"FLY_APP_NAME": "steno"}, "172.19.1.2", "Fly-Client-IP"),
        ({"RAILWAY_ENVIRONMENT_ID": "x"}, "100.64.0.3", "X-Real-IP"),
    ],
)
def test_platforms_are_believed_in_their_own_header_only(env: dict[str, str], peer: str, header: str) -> None:
    config = from_env(env)
    assert see(config, [(header, "192.0.2.7"), ("X-Forwarded-For", "6.6.6.6")], peer) == ("192.0.2.7", "http")
    assert see(config, [("X-Forwarded-For", "6.6.6.6")], peer)[0] == peer
    assert see(config, [(header, "6.6.6.6")], "fdaa::3")[0] == "fdaa::3"
