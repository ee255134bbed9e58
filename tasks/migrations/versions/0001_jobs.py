"""The first tables: jobs and settings."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16)),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("queued_at", sa.Float),
        sa.Column("started_at", sa.Float),
        sa.Column("finished_at", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("receiver", sa.String(32)),
        sa.Column("token", sa.String(32)),
        sa.Column("worker", sa.String(32)),
        sa.Column("lease_until", sa.Float),
        sa.Column("source_type", sa.String(16), nullable=False),
        sa.Column("source_name", sa.Text, nullable=False),
        sa.Column("source_bytes", sa.BigInteger),
        sa.Column("source_seconds", sa.Float),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("error_code", sa.String(32)),
        sa.Column("error_message", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("result", sa.String(64)),
    )
    op.create_index("jobs_active", "jobs", ["state", "queued_at", "id"], sqlite_where=sa.text("finished_at IS NULL"))
    op.create_index("jobs_created", "jobs", ["created_at", "id"])
    op.create_index("jobs_finished", "jobs", ["finished_at"], sqlite_where=sa.text("finished_at IS NOT NULL"))
    op.create_table(
        "settings",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
