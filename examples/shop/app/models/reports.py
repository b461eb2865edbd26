"""Daily figures."""

from datetime import date, datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class SalesReport(Base):
    """Figures of one day in the shop's time zone; one row per day, replaced when it is made again."""

    __tablename__ = "sales_report"

    day: Mapped[date] = mapped_column(primary_key=True)
    orders_placed: Mapped[int]
    orders_paid: Mapped[int]
    revenue_cents: Mapped[int]
    generated_at: Mapped[datetime]
