"""Batches: many jobs under one name, of one submitter."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("submitter", sa.String(64), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("batches_name", "batches", ["submitter", "name"], unique=True)
    op.add_column("jobs", sa.Column("batch", sa.String(32)))
    op.create_index("jobs_batch", "jobs", ["batch", "created_at"], sqlite_where=sa.text("batch IS NOT NULL"))
