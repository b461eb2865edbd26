"""Reports, as the API answers them."""

from datetime import date, datetime

from app.schemas.base import ResponseModel


class SalesReportOut(ResponseModel):
    """Figures of one day; revenue in cents."""

    day: date
    orders_placed: int
    orders_paid: int
    revenue_cents: int
    generated_at: datetime
