"""Browsers that are logged in, and logins that were tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from tasks.accounts import logins, sessions
from tasks.db import Database
from tasks.throttle import KNOWN_SECONDS, WINDOW_SECONDS, Try


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is logged in. Times are seconds since 1970; agent, address: as they were at its login."""

    id: str
    digest: str = field(repr=False)
    created_at: float
    seen_at: float
    agent: str
    address: str


def add_session(database: Database, session: Session) -> None:
    values = {column.name: getattr(session, column.name) for column in sessions.columns}
    with database.write() as connection:
        connection.execute(sa.insert(sessions).values(**values))


def find_session(database: Database, digest: str) -> Session | None:
    with database.read() as connection:
        row = connection.execute(sa.select(sessions).where(sessions.c.digest == digest)).first()
    return None if row is None else Session(*row)


def list_sessions(database: Database) -> list[Session]:
    """The last used first."""
    with database.read() as connection:
        return [Session(*row) for row in connection.execute(sa.select(sessions).order_by(sessions.c.seen_at.desc()))]


def note_seen(database: Database, session_id: str, now: float) -> None:
    """This browser was here. Waits for nobody."""
    with database.write(at_once=True) as connection:
        connection.execute(sa.update(sessions).where(sessions.c.id == session_id).values(seen_at=now))


def drop_session(database: Database, session_id: str) -> bool:
    """False when it was gone."""
    with database.write() as connection:
        return connection.execute(sa.delete(sessions).where(sessions.c.id == session_id)).rowcount == 1


def drop_sessions_but(database: Database, session_id: str) -> int:
    """How many there were."""
    with database.write() as connection:
        return connection.execute(sa.delete(sessions).where(sessions.c.id != session_id)).rowcount


def drop_sessions_before(database: Database, created: float, seen: float) -> None:
    """Remove those that were made, or last seen, before these times."""
    with database.write() as connection:
        old = (sessions.c.created_at < created) | (sessions.c.seen_at < seen)
        connection.execute(sa.delete(sessions).where(old))


def begin_login_if_due(
    database: Database, address: str, wait_of: Callable[[Sequence[Try]], float]
) -> tuple[int | None, float]:
    """Note a login as failed before it is tried, so that a hundred at once are not all the first.

    wait_of: seconds to wait, from all that were tried. Returns the note's id, or None and the seconds to wait.
    """
    now = time.time()
    old = (logins.c.at < now - KNOWN_SECONDS) | (~logins.c.succeeded & (logins.c.at < now - WINDOW_SECONDS))
    query = sa.select(logins.c.at, logins.c.address, logins.c.succeeded).order_by(logins.c.id)
    with database.write() as connection:
        connection.execute(sa.delete(logins).where(old))
        wait = wait_of([Try(*row) for row in connection.execute(query)])
        if wait > 0:
            return None, wait
        new = sa.insert(logins).values(at=now, address=address, succeeded=False).returning(logins.c.id)
        return connection.scalar(new), 0.0


def note_login(database: Database, note: int, address: str) -> None:
    """It succeeded: what this address failed before is forgiven."""
    with database.write() as connection:
        connection.execute(sa.delete(logins).where(logins.c.address == address, logins.c.id != note))
        connection.execute(sa.update(logins).where(logins.c.id == note).values(succeeded=True))


def forget_logins(database: Database) -> None:
    """The operator set a password: nobody waits."""
    with database.write() as connection:
        connection.execute(sa.delete(logins))
