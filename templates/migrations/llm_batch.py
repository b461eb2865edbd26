"""The table of batches that providers of language models are asked.

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
        "llm_batch",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("looks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("requests", sa.Integer(), server_default="0", nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_llm_batch_look_at", "llm_batch", ["look_at"], postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_index(
        "uq_llm_batch_provider_id",
        "llm_batch",
        ["provider_id"],
        unique=True,
        postgresql_where=sa.text("provider_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("llm_batch")
