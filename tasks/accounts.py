"""The tables of those who come in: programs by keys, people by a password and the sessions it opens."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.db import metadata

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("hint", sa.String(8), nullable=False),
    sa.Column("scope", sa.String(8), nullable=False),
    sa.Column("owner", sa.String(16), nullable=False),
    sa.Column("max_active", sa.Integer),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("used_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
    sa.Index("keys_name", "name", unique=True, sqlite_where=sa.text("revoked_at IS NULL")),
)

# The password's hash, and the digest of the link that sets the first one.
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("set_at", sa.Float, nullable=False),
    sa.Column("set_by", sa.String(16), nullable=False),
    sa.Column("expires_at", sa.Float),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
)

logins = sa.Table(
    "logins",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("succeeded", sa.Boolean, nullable=False),
    sa.Index("logins_at", "at"),
)
