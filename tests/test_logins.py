"""Passwords, sessions and set-up links, from the first to the last, with a clock of our own."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tasks import logins as module
from tasks import passwords, store
from tasks.access import Access
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.logins import IDLE_SECONDS, INVITATION_SECONDS, LONGEST_SECONDS, Logins
from tasks.throttle import FREE

GOOD, OTHER = "correct horse", "battery staple"


class Clock:
    """Wall clock and monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "time", clock)
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


@pytest.fixture
def people(config: Config, database: Database) -> Logins:
    return Logins(config, database, Access(config, database))


def refusal_of(act: Any) -> StenoboxError:
    with pytest.raises(StenoboxError) as refusal:
        act()
    return refusal.value


# Passwords


def test_a_password_is_kept_as_a_slow_hash() -> None:
    stored = passwords.hash_of(GOOD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert stored != passwords.hash_of(GOOD)
    assert passwords.matches(stored, GOOD)
    assert not passwords.matches(stored, GOOD + " ")
    assert not passwords.matches("nonsense", GOOD)
    assert not passwords.matches(stored, "x" * 5000)
    assert not passwords.is_dated(stored)


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025, "é" * 600])
def test_what_can_not_be_a_password_is_said(people: Logins, password: str) -> None:
    assert refusal_of(lambda: people.set_password(password, "page")).param == "new"
    assert not people.password_is_set()


def test_an_old_hash_is_made_anew_at_the_next_login(people: Logins, database: Database) -> None:
    from argon2 import PasswordHasher

    store.set_password(database, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD), "page")
    people.log_in(GOOD, "a", "")
    stored = store.password(database)
    assert stored is not None
    assert not passwords.is_dated(stored.value)
    people.log_in(GOOD, "a", "")


# Sessions


def test_a_login_begins_a_session_whose_token_is_stored_nowhere(people: Logins, database: Database) -> None:
    people.set_password(GOOD, "page")
    token = people.log_in(GOOD, "192.0.2.1", "Fire\x1bfox\n")
    session = people.session(token)
    assert session is not None
    assert (session.address, session.agent) == ("192.0.2.1", "Firefox")
    assert token not in repr(store.list_sessions(database))
    assert people.session("") is None
    assert people.session(token + "x") is None


def test_a_login_ends_the_session_that_the_browser_had(people: Logins) -> None:
    people.set_password(GOOD, "page")
    old = people.log_in(GOOD, "a", "")
    new = people.log_in(GOOD, "a", "", old)
    assert people.session(old) is None
    assert people.session(new) is not None
    assert len(people.sessions()) == 1


def test_logging_out_ends_it_at_once(people: Logins) -> None:
    token, other = people.begin_session("a", ""), people.begin_session("b", "")
    assert people.session(token) is not None
    assert people.remembered(token) is not None
    people.log_out(token)
    assert people.remembered(token) is None
    assert people.session(token) is None
    assert people.session(other) is not None
    people.log_out("")


def test_all_others_can_be_ended(people: Logins) -> None:
    tokens = [people.begin_session("a", "") for _ in range(3)]
    own = people.session(tokens[1])
    assert own is not None
    assert people.end_others(own.id) == 2
    assert [people.session(token) is not None for token in tokens] == [False, True, False]


def test_what_is_remembered_of_a_session_lasts_a_second(people: Logins, config: Config, clock: Clock) -> None:
    token = people.begin_session("a", "")
    session = people.session(token)
    assert session is not None
    assert people.remembered(token) == session
    store.drop_session(people._database, session.id)  # as another process would
    clock.now += module.FRESH_SECONDS
    assert people.remembered(token) is None
    assert people.session(token) is None


def test_memory_of_sessions_is_bounded(people: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 2)
    for _ in range(4):
        people.session(people.begin_session("a", ""))
    assert len(people._seen) <= 2


def test_a_session_ends_when_it_is_idle_or_old(people: Logins, clock: Clock) -> None:
    idle, busy = people.begin_session("a", ""), people.begin_session("b", "")
    began = clock.now
    clock.now += IDLE_SECONDS - 1
    assert people.session(busy) is not None
    clock.now += 2
    assert people.session(idle) is None
    while clock.now + IDLE_SECONDS / 2 < began + LONGEST_SECONDS:
        clock.now += IDLE_SECONDS / 2
        assert people.session(busy) is not None
    clock.now = began + LONGEST_SECONDS + 1
    assert people.session(busy) is None
    assert people.sessions() == []


def test_a_session_of_a_clock_that_stood_ahead_ends_with_it(people: Logins, clock: Clock) -> None:
    now = clock.now
    clock.now += 400 * 86_400
    ahead = people.begin_session("a", "")
    assert people.session(ahead) is not None
    clock.now = now
    assert people.session(ahead) is None
    assert people.sessions() == []
    clock.now += 31 * 86_400
    assert people.session(ahead) is None


def test_a_clock_that_is_set_back_a_little_sends_nobody_away_and_makes_nobody_stay_longer(
    people: Logins, clock: Clock
) -> None:
    token = people.begin_session("a", "")
    clock.now += 6 * 86_400
    assert people.session(token) is not None
    clock.now -= 5 * 86_400
    assert people.session(token) is not None
    clock.now += IDLE_SECONDS + 1
    assert people.session(token) is None


def test_a_busy_database_sends_nobody_away(
    people: Logins, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def busy(*_: object) -> None:
        raise StenoboxError("database_busy", "The database is busy.")

    token = people.begin_session("a", "")
    monkeypatch.setattr(store, "note_seen", busy)
    clock.now += 120
    assert people.session(token) is not None
    assert "not recorded" in caplog.text


# Guessing


def guess(people: Logins, address: str = "192.0.2.1") -> StenoboxError:
    return refusal_of(lambda: people.log_in("wrong", address, ""))


def test_who_guesses_waits_longer_each_time_and_then_comes_in(
    people: Logins, clock: Clock, config: Config, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    people.set_password(GOOD, "page")
    assert [guess(people).code for _ in range(FREE + 1)] == ["unauthorized"] * FREE + ["too_many_logins"]
    again = Logins(config, database, Access(config, database))  # a restart changes nothing
    right = refusal_of(lambda: again.log_in(GOOD, "192.0.2.1", ""))
    assert (right.code, right.retry_after) == ("too_many_logins", 1)
    assert guess(again, "192.0.2.2").code == "unauthorized", "another address is another's"
    clock.now += 1
    assert guess(again).code == "unauthorized"
    assert guess(again).retry_after == 2
    clock.now += 2
    again.log_in(GOOD, "192.0.2.1", "")
    assert guess(again).code == "unauthorized", "who came in is forgiven"
    assert "wrong" not in caplog.text
    assert GOOD not in caplog.text


def test_a_hundred_guesses_at_once_are_counted_one_by_one(people: Logins) -> None:
    people.set_password(GOOD, "page")
    codes: list[str] = []
    threads = [threading.Thread(target=lambda: codes.append(guess(people).code)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < codes.count("unauthorized") <= FREE + 4  # a slow machine lets a second or two pass
    assert len(codes) == 20


def test_a_new_password_of_the_operator_ends_every_wait(people: Logins) -> None:
    people.set_password(GOOD, "page")
    for _ in range(FREE + 1):
        guess(people)
    people.set_password(OTHER, "command")
    people.log_in(OTHER, "192.0.2.1", "")


def test_without_a_password_nothing_logs_in(people: Logins) -> None:
    assert refusal_of(lambda: people.log_in("", "a", "")).code == "unauthorized"


# Changing it


def test_changing_the_password_needs_the_current_one_and_logs_everybody_out(people: Logins) -> None:
    people.change_password("", GOOD, "a")
    token = people.log_in(GOOD, "a", "")
    assert people.session(token) is not None
    assert refusal_of(lambda: people.change_password("wrong", OTHER, "a")).param == "current"
    assert refusal_of(lambda: people.change_password(GOOD, "short", "a")).param == "new"
    assert people.session(token) is not None
    people.change_password(GOOD, OTHER, "a")
    assert people.remembered(token) is None
    assert people.session(token) is None
    assert guess(people).code == "unauthorized"
    people.log_in(OTHER, "a", "")


def test_guessing_the_current_password_is_throttled_too(people: Logins) -> None:
    people.set_password(GOOD, "page")
    refusals = [refusal_of(lambda: people.change_password("wrong", OTHER, "a")).code for _ in range(FREE + 1)]
    assert refusals[-1] == "too_many_logins"


def test_the_environment_wins_and_its_password_is_changed_there(people: Logins) -> None:
    people.set_password(OTHER, "page")
    token = people.log_in(OTHER, "a", "")
    people.take_password(GOOD)
    assert people.session(token) is None
    token = people.log_in(GOOD, "a", "")
    people.take_password(GOOD)  # the next start
    assert people.session(token) is not None
    assert "STENOBOX_PASSWORD" in refusal_of(lambda: people.change_password(GOOD, OTHER, "a")).message
    people.take_password("")  # the variable is gone: the password stays, and is the page's
    assert not people.password_is_the_operators()
    people.take_password(GOOD)
    assert people.password_is_the_operators()
    people.take_password("")
    people.change_password(GOOD, OTHER, "a")


def test_removing_the_password_opens_only_a_box_that_others_can_not_reach(
    people: Logins, config: Config, database: Database
) -> None:
    assert not people.closed()
    people.set_password(GOOD, "command")
    assert people.closed()
    assert people.remove_password()
    assert not people.remove_password()
    assert not people.closed()
    reachable = Config(data=config.data, hosts="box.example")
    others = Logins(reachable, database, Access(reachable, database))
    assert others.closed()
    assert refusal_of(others.remove_password).code == "invalid_value"


# The link


def test_a_link_sets_the_password_once(people: Logins) -> None:
    first, token = people.invite(), people.invite()
    assert not people.is_invited(first), "only the last one counts"
    assert not people.is_invited("")
    assert people.invitation_waits()
    assert refusal_of(lambda: people.set_up(token, "short")).code == "invalid_value"
    assert people.is_invited(token), "a mistake doesn't use it up"
    people.set_up(token, GOOD)
    assert not people.invitation_waits()
    assert refusal_of(lambda: people.set_up(token, OTHER)).code == "not_found"
    people.log_in(GOOD, "a", "")


def test_a_link_is_good_for_an_hour(people: Logins, clock: Clock) -> None:
    token = people.invite()
    clock.now += INVITATION_SECONDS + 1
    assert not people.invitation_waits()
    assert refusal_of(lambda: people.set_up(token, GOOD)).code == "not_found"


def test_of_two_who_use_a_link_at_once_one_wins(people: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    token = people.invite()
    monkeypatch.setattr(people, "is_invited", lambda token: True)
    people.set_up(token, GOOD)
    assert refusal_of(lambda: people.set_up(token, OTHER)).code == "not_found"
    people.log_in(GOOD, "a", "")
