"""Bookings.

Revision ID: 20260201_1000
Revises:
Create Date: 2026-02-01 10:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "20260201_1000"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "booking",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("guest_email", sa.Text, nullable=False),
        sa.Column("room", sa.Text, nullable=False),
        sa.Column("amount_cents", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False, server_default="held"),
        sa.Column("payment_reference", sa.Text),
    )
    op.create_table(
        "booking_note",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("booking_id", sa.Integer, sa.ForeignKey("booking.id"), nullable=False, index=True),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "occupancy",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("bookings", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("occupancy")
    op.drop_table("booking_note")
    op.drop_table("booking")
