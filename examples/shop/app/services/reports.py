"""What the shop reports."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import settings
from app.core.exceptions import NotFoundError
from app.models.reports import SalesReport
from app.repositories.reports import SalesReportRepository


class ReportService:
    """Reports, inside the transaction of the given session."""

    def __init__(self, session: AsyncSession) -> None:
        self.reports = SalesReportRepository(session)

    async def daily_sales(self, day: date) -> SalesReport:
        """Make the report of `day`, a date in the shop's time zone; a report that exists is replaced."""
        start, end = day_bounds(day, ZoneInfo(settings.time_zone))
        return await self.reports.put(day, start=start, end=end, generated_at=datetime.now(UTC))

    async def get(self, day: date) -> SalesReport:
        """Return the report of `day`; `NotFoundError` when it was not made yet."""
        report = await self.reports.get(day)
        if report is None:
            raise NotFoundError(f"there is no report of {day} yet")
        return report


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the first moment of `day` and of the next day in `zone`: 23, 24 or 25 hours apart."""
    start = datetime.combine(day, time.min, zone)
    end = datetime.combine(day + timedelta(days=1), time.min, zone)
    return start.astimezone(UTC), end.astimezone(UTC)
