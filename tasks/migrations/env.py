"""Alembic's entry: runs migrations on the connection that `tasks.db.migrate` hands over."""

from alembic import context

from tasks.db import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller's transaction holds it all
)
context.run_migrations()
