"""Where the process that ran an attempt was as it crashed."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("crash", sa.Text))
