"""What the load is summed up from, in columns of its own, and indexes that answer for it without a look at the rows."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

ACTIVE = sa.text("finished_at IS NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("model", sa.String(64), nullable=False, server_default=sa.text("''")))
    op.add_column("jobs", sa.Column("guessed_seconds", sa.Float))
    op.add_column("jobs", sa.Column("left_seconds", sa.Float))
    op.add_column("measurements", sa.Column("language", sa.String(16)))
    for stage in ("decode", "recognize", "align"):
        op.add_column("measurements", sa.Column(f"{stage}_seconds", sa.Float))
    jobs = sa.table("jobs", sa.column("model"), sa.column("params", sa.JSON))
    op.execute(sa.update(jobs).values(model=sa.func.coalesce(jobs.c.params["model"].as_string(), "")))
    op.drop_index("jobs_active", "jobs")
    length = ["source_seconds", "guessed_seconds", "source_bytes"]
    line = ["state", "turn", "queued_at", "id", "kind", "needs_download", "model", *length, "batch", "finished_at"]
    op.create_index("jobs_active", "jobs", line, sqlite_where=ACTIVE)
    op.create_index(
        "jobs_of_submitter", "jobs", ["submitter", "state", "turn", "id", "finished_at"], sqlite_where=ACTIVE
    )
    op.create_index("jobs_since", "jobs", ["state", "queued_at", "finished_at"], sqlite_where=ACTIVE)
