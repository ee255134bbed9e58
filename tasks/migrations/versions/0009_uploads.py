"""Resumable uploads: what is known of each besides its job's row, which holds its place."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("length", sa.BigInteger),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("submit", sa.Boolean, nullable=False),
        sa.Column("verified_to", sa.BigInteger),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_index("uploads_expires", "uploads", ["expires_at"])
