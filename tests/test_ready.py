"""Ready, or every reason why not; alive all the while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from web_support import FORM, client_of, file_part

from tasks import store
from tasks.actions import Box
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.recovery import take_data_folder, worker_is_here
from tasks.sqlite import driver as sqlite


@pytest.fixture
def client(config: Config, database: Any) -> Iterator[TestClient]:
    with client_of(config) as client:
        yield client


def codes(client: TestClient) -> list[str]:
    answer = client.get("/readyz")
    found = answer.json()
    assert answer.status_code == (503 if found["reasons"] else 200)
    assert found["status"] == ("not ready" if found["reasons"] else "ready")
    assert all(reason["message"].endswith(".") for reason in found["reasons"])
    assert answer.headers["cache-control"] == "no-store"
    assert client.get("/healthz").json()["status"] == "ok"
    return [reason["code"] for reason in found["reasons"]]


def test_ready_as_long_as_a_worker_is_there(config: Config, client: TestClient) -> None:
    assert codes(client) == ["no_worker"]
    with take_data_folder(config, "worker"):
        assert codes(client) == []
        assert worker_is_here(config)
    assert not worker_is_here(config)
    assert codes(client) == ["no_worker"]


def test_asking_keeps_no_worker_from_the_folder(config: Config, client: TestClient) -> None:
    for _ in range(20):
        codes(client)
        take_data_folder(config, "worker").close()


def test_a_box_that_leaves_says_so_and_takes_nothing_new(config: Config, client: TestClient) -> None:
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    with take_data_folder(config, "worker"):
        box.leave()
        assert codes(client) == ["leaving"]
        for headers in (FORM, {**FORM, "Sec-Fetch-Site": "same-origin"}):  # at the door and behind it
            refused = client.post("/api/v1/transcriptions", content=file_part(), headers=headers)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "draining"
            assert 0 < int(refused.headers["retry-after"]) <= 30
        with pytest.raises(StenoboxError, match="stopping"), box.receive("late.mp3"):
            raise AssertionError("received")
    assert codes(client) == ["leaving", "no_worker"]
    assert store.ids(box.database) == set()


def test_a_database_that_is_busy_for_writing_is_ready_and_one_that_can_not_be_read_is_not(
    config: Config, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = sqlite.connect(config.jobs_db, isolation_level=None)
    with take_data_folder(config, "worker"):
        outside.execute("BEGIN IMMEDIATE")
        assert codes(client) == []  # what is being read goes on; who submits is told when it takes too long
        outside.execute("ROLLBACK")

        def busy(*_: Any) -> None:
            raise StenoboxError("database_busy", "The database is busy.")

        monkeypatch.setattr(store, "choices", busy)
        assert codes(client) == ["database"]
    outside.close()
