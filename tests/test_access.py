"""Keys from their making to their end, as one process and as two see them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tasks import access, keys, store
from tasks.access import Access
from tasks.actions import Box
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.jobs import Params
from tasks.principals import OPERATOR, Principal, Scope


@pytest.fixture
def doors(config: Config, database: Database) -> Access:
    doors = Access(config, database)
    doors.look()
    return doors


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(access.time, "monotonic", clock)
    return clock


def ask(doors: Access, text: str) -> Principal | None:
    """As the middleware does."""
    if doors.must_look(text):
        doors.look()
    return doors.by_key(text)


def refusal_of(act: Any) -> StenoboxError:
    with pytest.raises(StenoboxError) as refusal:
        act()
    return refusal.value


def test_scopes_include_each_other_and_only_admin_sees_all() -> None:
    reader, submitter = Principal("r", Scope.READ, "1"), Principal("s", Scope.SUBMIT, "2")
    assert [reader.may(scope) for scope in Scope] == [True, False, False]
    assert [submitter.may(scope) for scope in Scope] == [True, True, False]
    assert [OPERATOR.may(scope) for scope in Scope] == [True, True, True]
    assert (reader.owner, submitter.owner, OPERATOR.owner) == ("1", "2", None)


def test_before_the_first_key_any_text_is_a_label(doors: Access) -> None:
    one, two = ask(doors, "one"), ask(doors, "two")
    assert one is not None
    assert two is not None
    assert (one.scope, one.owner) == (Scope.ADMIN, None)
    assert one.submitter != two.submitter


def test_a_key_is_known_and_its_text_is_stored_nowhere(doors: Access, config: Config) -> None:
    key, text = doors.create_key("phone", max_active=3, days=1)
    assert keys.well_formed(text)
    assert ask(doors, text) == Principal("key phone", Scope.SUBMIT, key.id)
    assert doors.max_active(key.id) == 3
    assert doors.names() == {key.id: "phone"}
    assert text.encode() not in config.jobs_db.read_bytes() + (config.jobs_db.parent / "jobs.db-wal").read_bytes()
    assert text not in repr(key)
    assert key.digest not in repr(key)
    assert ask(doors, "one") is None, "there is a key now"


def test_a_revoked_key_is_refused_and_stays_refused(doors: Access) -> None:
    _, text = doors.create_key("phone")
    doors.revoke_key("phone")
    assert ask(doors, text) is None
    assert ask(doors, "a label") is None, "the last key's end doesn't open the box"
    again, other = doors.create_key("phone")
    assert (ask(doors, other), ask(doors, text)) == (Principal("key phone", Scope.SUBMIT, again.id), None)
    assert [key.revoked_at is None for key in doors.list_keys()] == [False, True]


def test_a_rotated_key_keeps_its_jobs_and_loses_its_text(doors: Access) -> None:
    key, text = doors.create_key("phone", "read")
    rotated, new = doors.rotate_key("phone")
    assert ask(doors, text) is None
    assert ask(doors, new) == Principal("key phone", Scope.READ, key.id)
    assert (rotated.id, rotated.hint) == (key.id, new[-4:])


def test_a_key_ends_when_it_was_said_to(doors: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    key, text = doors.create_key("phone", days=90)
    assert key.expires_at == pytest.approx(time.time() + 90 * 86_400, abs=60)
    assert ask(doors, text) is not None
    monkeypatch.setattr(access.time, "time", lambda: key.expires_at)
    assert ask(doors, text) is None


def test_a_key_can_share_the_jobs_of_another(doors: Access) -> None:
    key, _ = doors.create_key("phone")
    _, text = doors.create_key("viewer", "read", jobs_of="phone")
    assert ask(doors, text) == Principal("key viewer", Scope.READ, key.id)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "taken"}, "name"),
        ({"scope": "all"}, "scope"),
        ({"max_active": 0}, "max_active"),
        ({"max_active": 2, "jobs_of": "taken"}, "max_active"),
        ({"days": 0.0}, "expires"),
        ({"days": float("nan")}, "expires"),
    ],
)
def test_what_makes_no_key_is_refused(doors: Access, options: dict[str, Any], param: str) -> None:
    doors.create_key("taken")
    refusal = refusal_of(lambda: doors.create_key(**{"name": "new", **options}))
    assert (refusal.code, refusal.param) == ("invalid_value", param)
    assert len(doors.list_keys()) == 1


def test_a_key_that_is_not_there_can_not_be_changed(doors: Access) -> None:
    for act in (doors.rotate_key, doors.revoke_key, doors.find_key, lambda name: doors.create_key("x", jobs_of=name)):
        assert refusal_of(lambda act=act: act("nothing")).code == "not_found"


def test_what_another_process_did_counts_within_a_second(
    doors: Access, config: Config, database: Database, clock: Clock
) -> None:
    behind = Access(config, database)
    behind.look()
    clock.now += 0.1
    _, text = doors.create_key("phone")
    assert ask(behind, text) is not None, "a new key at once"
    doors.revoke_key("phone")
    clock.now += access.FRESH_SECONDS + 0.1
    assert ask(behind, text) is None


def test_guessing_reads_the_database_only_so_often(doors: Access, clock: Clock) -> None:
    doors.look()
    assert not doors.must_look("guess")
    clock.now += access.NEW_SECONDS * 1.1
    assert doors.must_look("guess")
    assert not doors.must_look()


def test_a_change_during_a_look_is_not_overlooked(doors: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.list_keys

    def slow(database: Database) -> Any:
        found = before(database)
        doors.forget()
        return found

    monkeypatch.setattr(store, "list_keys", slow)
    doors.look()
    assert doors.must_look()


def test_the_last_use_is_written_once_a_minute(
    doors: Access, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, text = doors.create_key("phone")
    doors.look()
    assert doors.use_is_due(text)
    doors.note_use(text)
    doors.look()
    [key] = doors.list_keys()
    assert key.used_at == pytest.approx(time.time(), abs=60)
    assert not doors.use_is_due(text)
    doors.note_use(text)
    assert doors.list_keys() == [key]
    assert not doors.use_is_due("unknown")

    def busy(*_: object) -> None:
        raise StenoboxError("database_busy", "The database is busy.")

    monkeypatch.setattr(store, "note_use", busy)
    monkeypatch.setattr(access.time, "time", lambda: (key.used_at or 0) + 61)
    doors.note_use(text)
    assert "the use of a key is not recorded" in caplog.text
    assert text not in caplog.text


def test_a_key_has_as_many_active_jobs_as_it_may(box: Box) -> None:
    box.change_settings({"slots": 4, "queue_limit": 4, "per_key": 3}, "test")
    key, text = box.access.create_key("phone", max_active=1)
    _, other_text = box.access.create_key("desk")
    mine, other = (box.seen_by(ask(box.access, text) or OPERATOR) for text in (text, other_text))
    ids = []
    for of, number in ((mine, 1), (other, 3)):
        for _ in range(number):
            with of.receive("a.wav") as receiving:
                receiving.write(b"x")
                ids.append(receiving.queue(Params("demo")).id)
        with pytest.raises(StenoboxError) as refusal, of.receive("a.wav"):
            pass
        assert refusal.value.code == "key_limit"
        of.lookout.look(of.principal.submitter)
        seen = of.lookout.refusal(None, of.principal.submitter)
        assert seen is not None
        assert seen.code == "key_limit"
    mine.cancel(ids[0])
    with mine.receive("b.wav") as receiving:
        receiving.write(b"x")
        receiving.queue(Params("demo"))
    assert refusal_of(lambda: mine.retry(ids[0])).code == "key_limit"
    assert box.retry(ids[0]).id == ids[0], "the operator may"
    assert key.max_active == 1
