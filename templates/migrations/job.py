"""The table of long-running jobs.

Revision ID: 20260101_0000
Revises:
Create Date: 2026-01-01 00:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20260101_0000"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(200), nullable=False),
        sa.Column("via", sa.String(20), nullable=False),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("progress", sa.Double(), server_default="0", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("excused", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lapsed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("runner", sa.String(200), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sends", sa.Integer(), server_default="0", nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=True),
        sa.Column("request_hash", sa.String(64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'expired')",
            name=op.f("ck_job_state"),
        ),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled', 'expired')) = (finished_at IS NOT NULL)",
            name=op.f("ck_job_finished"),
        ),
        sa.CheckConstraint(
            "(state IN ('running', 'cancelling')) = (lease_until IS NOT NULL AND runner IS NOT NULL)",
            name=op.f("ck_job_leased"),
        ),
        sa.CheckConstraint("result IS NULL OR state = 'succeeded'", name=op.f("ck_job_result")),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name=op.f("ck_job_progress")),
        sa.CheckConstraint(
            "(idempotency_key IS NULL) = (request_hash IS NULL)", name=op.f("ck_job_request_hash")
        ),
    )
    op.create_index(
        "uq_job_idempotency_key",
        "job",
        ["owner", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index("ix_job_owner", "job", ["owner", "created_at", "id"])
    op.create_index(
        "ix_job_unsent",
        "job",
        [sa.text("priority DESC"), "next_try_at"],
        postgresql_where=sa.text("state = 'queued' AND sent_at IS NULL"),
    )
    op.create_index(
        "ix_job_lane",
        "job",
        ["owner", "queue", sa.text("priority DESC"), "next_try_at"],
        postgresql_where=sa.text("state = 'queued' AND via = 'table'"),
    )
    op.create_index(
        "ix_job_sent",
        "job",
        ["sent_at"],
        postgresql_where=sa.text("state = 'queued' AND sent_at IS NOT NULL"),
    )
    op.create_index("ix_job_deadline", "job", ["deadline_at"], postgresql_where=sa.text("state = 'queued'"))
    op.create_index(
        "ix_job_leased",
        "job",
        ["lease_until"],
        postgresql_where=sa.text("state IN ('running', 'cancelling')"),
    )
    op.create_index(
        "ix_job_finished", "job", ["finished_at"], postgresql_where=sa.text("finished_at IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_table("job")
