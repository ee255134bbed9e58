"""Resume and clocks: the progress that earlier attempts had made, and how long this one has run by its own clock."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("resumed", sa.Float, nullable=False, server_default=sa.text("0")))
        jobs.add_column(sa.Column("elapsed", sa.Float, nullable=False, server_default=sa.text("0")))
