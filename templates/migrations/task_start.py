"""The table of tasks that were started again.

Revision ID: 20260101_0000
Revises:
Create Date: 2026-01-01 00:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "20260101_0000"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "task_start",
        sa.Column("task", sa.String(200), nullable=False),
        sa.Column("message_id", sa.String(401), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("task", "message_id", "attempt"),
    )
    op.create_index("ix_task_start_noted_at", "task_start", ["noted_at"])


def downgrade() -> None:
    op.drop_table("task_start")
