"""Attempts: one record per try at a job."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("token", sa.String(32), nullable=False, unique=True),
        sa.Column("worker", sa.String(32), nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("stage", sa.String(16)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("cause", sa.String(32)),
        sa.Column("sentence", sa.Text),
        sa.Column("peak_bytes", sa.BigInteger),
        sa.Column("batch", sa.Integer),
        sa.Column("charged", sa.Boolean, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("attempts_job", "attempts", ["job", "number"])
