"""The tables of what language models are asked, and of what that costs.

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
        "llm_rate",
        sa.Column("name", sa.String(300), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("requests_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tokens_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("queue_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("typical", sa.Interval(), server_default=sa.text("'0'"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "llm_spend",
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("cost", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("owner", "day"),
    )


def downgrade() -> None:
    op.drop_table("llm_spend")
    op.drop_table("llm_rate")
