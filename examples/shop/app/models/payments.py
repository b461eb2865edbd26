"""Payments."""

from datetime import datetime

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base
from app.models.orders import Order


class Payment(Base):
    """Money captured for an order, in cents. `reference` is the provider's name for it."""

    __tablename__ = "payment"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), index=True)
    reference: Mapped[str]
    amount_cents: Mapped[int]
    idempotency_key: Mapped[str | None]
    captured_at: Mapped[datetime] = mapped_column(server_default=func.now())
