"""Routes of reports."""

from fastapi import APIRouter

from app.api.dependencies import PathDay, SessionDep
from app.models.reports import SalesReport
from app.schemas.reports import SalesReportOut
from app.services.reports import ReportService

router = APIRouter(prefix="/reports", tags=["reports"])


@router.get("/{day}", response_model=SalesReportOut)
async def get_report(day: PathDay, session: SessionDep) -> SalesReport:
    """Show the sales report of a day."""
    return await ReportService(session).get(day)


@router.put("/{day}", response_model=SalesReportOut)
async def make_report(day: PathDay, session: SessionDep) -> SalesReport:
    """Make the sales report of a day, or make it again."""
    return await ReportService(session).daily_sales(day)
