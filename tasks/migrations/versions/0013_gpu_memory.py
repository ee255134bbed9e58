"""What jobs took of a GPU's memory."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    for name in ("gpu_load", "gpu_job"):
        op.add_column("measurements", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")))
