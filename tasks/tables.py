"""The tables of the jobs database. Migrations build them; a test holds both equal."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("stage", sa.String(16)),
    sa.Column("progress", sa.Float, nullable=False, default=0.0),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("queued_at", sa.Float),
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("crashes", sa.Integer, nullable=False, default=0),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("receiver", sa.String(32)),
    sa.Column("token", sa.String(32)),
    sa.Column("worker", sa.String(32)),
    sa.Column("lease_until", sa.Float),
    sa.Column("source_type", sa.String(16), nullable=False),
    sa.Column("source_name", sa.Text, nullable=False),
    sa.Column("source_bytes", sa.BigInteger),
    sa.Column("source_seconds", sa.Float),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("error_code", sa.String(32)),
    sa.Column("error_message", sa.Text),
    sa.Column("note", sa.Text),
    sa.Column("result", sa.String(64)),
    sa.Column("submitter", sa.String(64), nullable=False, server_default=sa.text("''")),
    sa.Column("turn", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("work_seconds", sa.Float),
    sa.Column("source_sha256", sa.String(64)),
    sa.Column("media_removed_at", sa.Float),
    sa.Column("source_url", sa.Text),
    sa.Column("needs_download", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("about", sa.JSON, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("resumed", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Column("elapsed", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Column("media", sa.JSON(none_as_null=True)),
    sa.Column("batch", sa.String(32)),
    sa.Column("model", sa.String(64), nullable=False, server_default=sa.text("''")),  # as in params
    sa.Column("guessed_seconds", sa.Float),
    sa.Column("left_seconds", sa.Float),
    # The states are literals here and in every query that counts them: a bound IN (?, ?) can't use a partial index.
    sa.Index(  # the line in order, with all that the load is summed up from: no look at a row is needed
        "jobs_active",
        *("state", "turn", "queued_at", "id", "kind", "needs_download", "model", "source_seconds", "guessed_seconds"),
        *("source_bytes", "batch", "finished_at"),
        sqlite_where=sa.text("finished_at IS NULL"),
    ),
    sa.Index(
        "jobs_of_submitter",
        "submitter",
        "state",
        "turn",
        "id",
        "finished_at",
        sqlite_where=sa.text("finished_at IS NULL"),
    ),
    sa.Index("jobs_since", "state", "queued_at", "finished_at", sqlite_where=sa.text("finished_at IS NULL")),
    sa.Index("jobs_created", "created_at", "id"),
    sa.Index("jobs_finished", "finished_at", sqlite_where=sa.text("finished_at IS NOT NULL")),
    sa.Index("jobs_batch", "batch", "created_at", sqlite_where=sa.text("batch IS NOT NULL")),
    sa.Index("jobs_same", "source_sha256", sqlite_where=sa.text("source_sha256 IS NOT NULL")),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("submitter", sa.String(64), nullable=False),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("batches_name", "submitter", "name", unique=True),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("submitter", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("job_id", sa.String(32), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("accepted", sa.Boolean, nullable=False),
    sa.Index("idempotency_keys_job", "job_id"),
)

attempts = sa.Table(
    "attempts",
    metadata,
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
    sa.Column("crash", sa.Text),
    sa.Index("attempts_job", "job", "number"),
)

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("length", sa.BigInteger),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("submit", sa.Boolean, nullable=False),
    sa.Column("verified_to", sa.BigInteger),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("submitter", sa.String(64)),
    sa.Index("uploads_expires", "expires_at"),
)

changes = sa.Table(
    "changes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("old", sa.JSON, nullable=False),
    sa.Column("new", sa.JSON, nullable=False),
)

measurements = sa.Table(
    "measurements",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("compute_type", sa.String(16), nullable=False),
    sa.Column("windows", sa.Integer, nullable=False),
    sa.Column("aligned", sa.Boolean, nullable=False),
    sa.Column("base", sa.BigInteger, nullable=False),
    sa.Column("load", sa.BigInteger, nullable=False),
    sa.Column("job", sa.BigInteger, nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")) for name in ("gpu_load", "gpu_job")),
    sa.Column("audio_seconds", sa.Float, nullable=False),
    sa.Column("work_seconds", sa.Float, nullable=False),
    sa.Column("beside", sa.Integer, nullable=False),
    sa.Column("language", sa.String(16)),
    sa.Column("decode_seconds", sa.Float),
    sa.Column("recognize_seconds", sa.Float),
    sa.Column("align_seconds", sa.Float),
    sa.Index("measurements_model", "model", "id"),
)

samples = sa.Table(
    "samples",
    metadata,
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
