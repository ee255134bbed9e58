"""Upkeep: which job a submitter's key stands for, what a recording's bytes are, when a recording was removed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("source_sha256", sa.String(64)))
    op.add_column("jobs", sa.Column("media_removed_at", sa.Float))
    op.create_index("jobs_same", "jobs", ["source_sha256"], sqlite_where=sa.text("source_sha256 IS NOT NULL"))
    op.create_table(
        "idempotency_keys",
        sa.Column("submitter", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("accepted", sa.Boolean, nullable=False),
    )
    op.create_index("idempotency_keys_job", "idempotency_keys", ["job_id"])
