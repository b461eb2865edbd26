"""Payments, as the API answers them."""

from datetime import datetime

from app.schemas.base import ResponseModel


class PaymentOut(ResponseModel):
    """A captured payment, in cents."""

    id: int
    order_id: int
    reference: str
    amount_cents: int
    captured_at: datetime
