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
        # index=True: the index gets its name by the naming convention of the project's models.
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            index=True,
        ),
        sa.PrimaryKeyConstraint("consumer", "message_id"),
    )


def downgrade() -> None:
    op.drop_table("inbox_message")
