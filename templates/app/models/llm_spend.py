"""Tables `llm_rate` and `llm_spend`: what all workers together may ask of a provider, and what owners have
spent.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy import BigInteger, Boolean, Date, DateTime, Interval, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

Moment = DateTime(timezone=True)


class LlmRate(Base):
    """One row for each model and key. `requests_at` and `tokens_at` are how far the quotas are used up, as
    times: what lies ahead of now is debt. `queue_at` is when the last of those comes back who were told to,
    `typical` the time that a call takes of the quota of tokens. `granted` is what the last one was told.
    """

    __tablename__ = "llm_rate"

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    granted: Mapped[bool] = mapped_column(Boolean)
    requests_at: Mapped[datetime] = mapped_column(Moment)
    tokens_at: Mapped[datetime] = mapped_column(Moment)
    queue_at: Mapped[datetime] = mapped_column(Moment)
    typical: Mapped[timedelta] = mapped_column(Interval, server_default=text("'0'"))


class LlmSpend(Base):
    """What an owner has spent on a day (UTC), and what the calls under way may come to, `held`; both in
    millionths of the unit of LLM_PRICES.
    """

    __tablename__ = "llm_spend"

    owner: Mapped[str] = mapped_column(String(200), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    cost: Mapped[int] = mapped_column(BigInteger, server_default="0")
    held: Mapped[int] = mapped_column(BigInteger, server_default="0")
