"""Rows of daily figures."""

from datetime import date, datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.orders import Order
from app.models.reports import SalesReport


class SalesReportRepository:
    """Sales reports in the database. The key is a day, so this is no `Repository` of numbered rows."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, day: date) -> SalesReport | None:
        """Return the report of `day`, or None."""
        return await self.session.get(SalesReport, day)

    async def put(self, day: date, *, start: datetime, end: datetime, generated_at: datetime) -> SalesReport:
        """Count what happened from `start` up to `end` and store it as the report of `day`."""
        placed = select(func.count()).where(Order.created_at >= start, Order.created_at < end)
        paid = select(func.count()).where(Order.paid_at >= start, Order.paid_at < end)
        revenue = select(func.coalesce(func.sum(Order.total_cents), 0)).where(
            Order.paid_at >= start, Order.paid_at < end
        )
        figures = {
            "orders_placed": placed.scalar_subquery(),
            "orders_paid": paid.scalar_subquery(),
            "revenue_cents": revenue.scalar_subquery(),
            "generated_at": generated_at,
        }
        statement = insert(SalesReport).values(day=day, **figures)
        statement = statement.on_conflict_do_update(
            index_elements=[SalesReport.day], set_={name: statement.excluded[name] for name in figures}
        )
        rows = await self.session.scalars(
            statement.returning(SalesReport), execution_options={"populate_existing": True}
        )
        return rows.one()
