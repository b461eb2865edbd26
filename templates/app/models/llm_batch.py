"""Table `llm_batch`: one row for each batch that a provider of language models is asked, or may have been."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Index, Integer, String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

Moment = DateTime(timezone=True)


class LlmBatch(Base):
    """The row is there before the provider is asked; its jobs are those whose `runner` is "batch" and its id.

    From `posted_at` on the provider may have it, and has it for sure when there is a `provider_id`. Whoever
    works on it is `holder` and pushes `look_at` ahead; when that is over, anybody looks at it. What it has
    used is known when it has ended; `cost` is in millionths of the unit of LLM_PRICES.
    """

    __tablename__ = "llm_batch"
    __table_args__ = (
        Index("ix_llm_batch_look_at", "look_at", postgresql_where=text("ended_at IS NULL")),
        Index(
            "uq_llm_batch_provider_id",
            "provider_id",
            unique=True,
            postgresql_where=text("provider_id IS NOT NULL"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    holder: Mapped[str] = mapped_column(String(200))
    look_at: Mapped[datetime] = mapped_column(Moment)
    looks: Mapped[int] = mapped_column(Integer, server_default="0")
    model: Mapped[str | None] = mapped_column(Text)
    requests: Mapped[int] = mapped_column(Integer, server_default="0")
    provider_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    posted_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    input_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    output_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cost: Mapped[int | None] = mapped_column(BigInteger)
    note: Mapped[str | None] = mapped_column(Text)
