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
        # index=True: the index gets its name by the naming convention of the project's models.
        sa.Column(
            "noted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            index=True,
        ),
        sa.PrimaryKeyConstraint("task", "message_id", "attempt"),
    )


def downgrade() -> None:
    op.drop_table("task_start")
