"""Whose a resumable upload is: also known once its job's row, which said it, is gone."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("submitter", sa.String(64)))
    uploads = sa.table("uploads", sa.column("id"), sa.column("submitter"))
    jobs = sa.table("jobs", sa.column("id"), sa.column("submitter"))
    whose = sa.select(jobs.c.submitter).where(jobs.c.id == uploads.c.id).scalar_subquery()
    op.execute(sa.update(uploads).values(submitter=whose))
