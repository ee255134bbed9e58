"""Links: where a recording is to be fetched from, whether it still has to be, and what is known about it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("source_url", sa.Text))
        jobs.add_column(sa.Column("needs_download", sa.Boolean, nullable=False, server_default=sa.false()))
        jobs.add_column(sa.Column("about", sa.JSON, nullable=False, server_default=sa.text("'{}'")))
