"""The table of messages that are done.

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
        "inbox_message",
        sa.Column("consumer", sa.String(200), nullable=False),
        sa.Column("message_id", sa.String(401), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "message_id"),
    )
    op.create_index("ix_inbox_message_received_at", "inbox_message", ["received_at"])


def downgrade() -> None:
    op.drop_table("inbox_message")
