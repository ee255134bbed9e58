"""How the web process leaves: told once or five times, it stays while the worker needs it, and not for ever."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette

from tasks.config import Config
from tasks.db import prepare_data_folder
from tasks.recovery import take_data_folder
from webapp import server as module
from webapp.server import SEEN_SECONDS, Server


class Box:
    left = 0

    def leave(self) -> None:
        self.left += 1


class Told:
    """A server that is not run: its ticks are asked for, by a clock that is moved by hand."""

    def __init__(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = SimpleNamespace(now=100.0)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.clock.now))
        self.app = Starlette()
        self.server = Server(config, self.app)

    def tick(self, later: float = 0.0) -> bool:
        self.clock.now += later
        return asyncio.run(self.server.on_tick(1))


@pytest.fixture
def told(config: Config, monkeypatch: pytest.MonkeyPatch) -> Told:
    prepare_data_folder(config)
    return Told(config, monkeypatch)


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stays_while_the_worker_is_there(config: Config, told: Told, number: int, times: int) -> None:
    box = told.app.state.box = Box()
    assert not told.tick(1000)
    with take_data_folder(config, "worker"):
        for _ in range(times):
            told.server.handle_exit(number, None)
        assert box.left == 1
        assert not told.tick()
        assert not told.tick(config.grace * 0.4)
    assert told.tick()
    assert told.server.should_exit
    assert not told.server.force_exit


def test_it_does_not_stay_for_ever(config: Config, told: Told) -> None:
    with take_data_folder(config, "worker"):
        told.server.handle_exit(signal.SIGTERM, None)
        assert not told.tick(config.grace * 0.4)
        assert told.tick(config.grace * 0.2)


def test_without_a_worker_it_is_seen_for_a_moment(told: Told) -> None:
    told.server.handle_exit(signal.SIGTERM, None)  # before the application has started: there is no box yet
    assert not told.tick(SEEN_SECONDS * 0.9)
    assert told.tick(SEEN_SECONDS * 0.2)


@pytest.mark.parametrize(("grace", "close"), [(1.0, 1), (3.0, 1), (30.0, 9)])
def test_what_it_waits_for_fits_into_the_grace_time(config: Config, grace: float, close: int) -> None:
    import msgspec

    changed: Any = msgspec.structs.replace(config, grace=grace)
    assert Server(changed, Starlette()).config.timeout_graceful_shutdown == close
