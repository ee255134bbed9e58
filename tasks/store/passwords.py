"""The password's hash and the one-time link that sets the first one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.accounts import secrets, sessions
from tasks.db import Database

PASSWORD, INVITATION = "password", "invitation"


@dataclass(frozen=True, slots=True)
class Secret:
    """value: a hash; set_at: seconds since 1970; set_by: environment, page or command."""

    value: str = field(repr=False)
    set_at: float
    set_by: str


def password(database: Database) -> Secret | None:
    """None while there is none."""
    query = sa.select(secrets.c.value, secrets.c.set_at, secrets.c.set_by).where(secrets.c.name == PASSWORD)
    with database.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else Secret(*row)


def set_password(database: Database, value: str, by: str) -> None:
    """A new one: who is logged in is no more, and a link that waits is worth nothing."""
    with database.write() as connection:
        _set_password(connection, value, by)


def set_password_if_invited(database: Database, digest: str, value: str) -> bool:
    """The same by a link, which is used up by it. False when the link is not the last one made, or too old."""
    with database.write() as connection:
        used = connection.execute(sa.delete(secrets).where(_invitation(digest)))
        if used.rowcount == 1:
            _set_password(connection, value, "page")
    return used.rowcount == 1


def rehash_if_unchanged(database: Database, old: str, new: str) -> None:
    """The same password under another hash."""
    change = sa.update(secrets).where(secrets.c.name == PASSWORD, secrets.c.value == old).values(value=new)
    with database.write() as connection:
        connection.execute(change)


def note_who_set_password(database: Database, by: str) -> None:
    with database.write() as connection:
        connection.execute(sa.update(secrets).where(secrets.c.name == PASSWORD).values(set_by=by))


def remove_password(database: Database) -> bool:
    """False when there was none."""
    with database.write() as connection:
        connection.execute(sa.delete(sessions))
        return connection.execute(sa.delete(secrets).where(secrets.c.name == PASSWORD)).rowcount == 1


def invite(database: Database, digest: str, seconds: float) -> None:
    """Keep the digest of a link that may set the password, once, for so long. Earlier links are worth nothing."""
    now = time.time()
    with database.write() as connection:
        connection.execute(sa.delete(secrets).where(secrets.c.name == INVITATION))
        connection.execute(
            sa.insert(secrets).values(
                name=INVITATION, value=digest, set_at=now, set_by="command", expires_at=now + seconds
            )
        )


def invitation_waits(database: Database) -> bool:
    """Whether there is a link that may still set the password."""
    waits = (secrets.c.name == INVITATION) & (secrets.c.expires_at > time.time())
    with database.read() as connection:
        return connection.execute(sa.select(secrets.c.name).where(waits)).first() is not None


def is_invited(database: Database, digest: str) -> bool:
    """Whether this link may still set the password."""
    with database.read() as connection:
        return connection.execute(sa.select(secrets.c.name).where(_invitation(digest))).first() is not None


def _invitation(digest: str) -> sa.ColumnElement[bool]:
    return (secrets.c.name == INVITATION) & (secrets.c.value == digest) & (secrets.c.expires_at > time.time())


def _set_password(connection: Connection, value: str, by: str) -> None:
    connection.execute(sa.delete(secrets))
    connection.execute(sa.insert(secrets).values(name=PASSWORD, value=value, set_at=time.time(), set_by=by))
    connection.execute(sa.delete(sessions))
