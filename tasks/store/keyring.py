"""The keys that programs come with. Of each only a digest is here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from tasks.accounts import keys
from tasks.db import Database
from tasks.principals import Scope


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Times are seconds since 1970.

    hint: its last characters; owner: the mark on its jobs, that of another key if it shares that one's; max_active:
    jobs of this owner at once, None: as many as the Limits page says.
    """

    id: str
    name: str
    digest: str = field(repr=False)
    hint: str
    scope: Scope
    owner: str
    max_active: int | None
    created_at: float
    expires_at: float | None
    used_at: float | None
    revoked_at: float | None

    def valid(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def list_keys(database: Database) -> list[Key]:
    """All keys there ever were, oldest first: jobs of a revoked one keep its name."""
    with database.read() as connection:
        return [_key(row) for row in connection.execute(sa.select(keys).order_by(keys.c.created_at, keys.c.id))]


def add_key_if_new(database: Database, key: Key) -> bool:
    """False while another key that counts has this name."""
    values = {column.name: getattr(key, column.name) for column in keys.columns}
    try:
        with database.write() as connection:
            connection.execute(sa.insert(keys).values(**values))
    except IntegrityError:
        return False
    return True


def rotate_key_if_live(database: Database, name: str, digest: str, hint: str) -> Key | None:
    """The key gets a new secret and keeps its jobs; the old one is refused from now on. None: no such key."""
    return _change(database, name, digest=digest, hint=hint, used_at=None)


def revoke_key_if_live(database: Database, name: str) -> Key | None:
    """The key is refused from now on; its jobs stay. None: no such key."""
    return _change(database, name, revoked_at=time.time())


def _change(database: Database, name: str, **values: object) -> Key | None:
    change = sa.update(keys).where(keys.c.name == name, keys.c.revoked_at.is_(None)).values(**values)
    with database.write() as connection:
        row = connection.execute(change.returning(keys)).first()
    return None if row is None else _key(row)


def note_use(database: Database, key_id: str, now: float) -> None:
    """This key was used. Waits for nobody."""
    with database.write(at_once=True) as connection:
        connection.execute(sa.update(keys).where(keys.c.id == key_id).values(used_at=now))


def read_max_active(connection: Connection, owner: str) -> int | None:
    """How many jobs of this owner may be active at once; None where no key says."""
    query = sa.select(keys.c.max_active).where(keys.c.id == owner, keys.c.max_active.is_not(None))
    most: int | None = connection.scalar(query)
    return most


def _key(row: sa.Row[tuple[object, ...]]) -> Key:
    return Key(**row._asdict() | {"scope": Scope(row.scope)})
