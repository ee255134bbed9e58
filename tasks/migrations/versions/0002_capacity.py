"""Capacity: who submitted a job, what jobs cost, how the machine fared, who changed which setting."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("submitter", sa.String(64), nullable=False, server_default=sa.text("''")))
        jobs.add_column(sa.Column("turn", sa.Integer, nullable=False, server_default=sa.text("0")))
        jobs.add_column(sa.Column("work_seconds", sa.Float))
    op.drop_index("jobs_active", "jobs")
    op.create_index(
        "jobs_active", "jobs", ["state", "turn", "queued_at", "id"], sqlite_where=sa.text("finished_at IS NULL")
    )
    op.create_table(
        "changes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("old", sa.JSON, nullable=False),
        sa.Column("new", sa.JSON, nullable=False),
    )
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("compute_type", sa.String(16), nullable=False),
        sa.Column("windows", sa.Integer, nullable=False),
        sa.Column("aligned", sa.Boolean, nullable=False),
        sa.Column("base", sa.BigInteger, nullable=False),
        sa.Column("load", sa.BigInteger, nullable=False),
        sa.Column("job", sa.BigInteger, nullable=False),
        sa.Column("audio_seconds", sa.Float, nullable=False),
        sa.Column("work_seconds", sa.Float, nullable=False),
        sa.Column("beside", sa.Integer, nullable=False),
    )
    op.create_index("measurements_model", "measurements", ["model", "id"])
    op.create_table(
        "samples",
        sa.Column("at", sa.Float, primary_key=True),
        sa.Column("memory_used", sa.BigInteger, nullable=False),
        sa.Column("memory_limit", sa.BigInteger, nullable=False),
        sa.Column("swapped", sa.BigInteger, nullable=False),
        sa.Column("stalled", sa.Float),
        sa.Column("cpu", sa.Float, nullable=False),
        sa.Column("response_seconds", sa.Float),
        sa.Column("oom_kills", sa.Integer, nullable=False),
        sa.Column("running", sa.Integer, nullable=False),
        sa.Column("queued", sa.Integer, nullable=False),
        sa.Column("guard", sa.String(16), nullable=False),
    )
