"""The bar.

Revision ID: 20260315_0900
Revises: 20260201_1000
Create Date: 2026-03-15 09:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "20260315_0900"
down_revision = "20260201_1000"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bar_line",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("room", sa.Text, nullable=False, index=True),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("cents", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("bar_line")
