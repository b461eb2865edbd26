"""E-mail that was sent."""

from datetime import datetime

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base
from app.models.customers import Customer


class EmailLog(Base):
    """One message accepted by the mail provider, which calls it `provider_id`."""

    __tablename__ = "email_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id), index=True)
    email_type: Mapped[str]
    provider_id: Mapped[str]
    idempotency_key: Mapped[str | None]
    sent_at: Mapped[datetime] = mapped_column(server_default=func.now())
