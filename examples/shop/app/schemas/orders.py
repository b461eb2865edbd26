"""Orders, as the API takes and answers them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.models.orders import OrderStatus
from app.schemas.base import CleanText, RequestModel, ResponseModel, RowId


class OrderItemIn(RequestModel):
    """A line of a new order; the price is in cents."""

    sku: Annotated[CleanText, Field(min_length=1, max_length=64)]
    quantity: Annotated[int, Field(ge=1, le=10_000)]
    unit_price_cents: Annotated[int, Field(ge=0, le=100_000_000)]


class OrderIn(RequestModel):
    """A new order."""

    customer_id: RowId
    items: Annotated[list[OrderItemIn], Field(min_length=1, max_length=100)]


class CancelIn(RequestModel):
    """Why an order is cancelled."""

    reason: Annotated[CleanText, Field(min_length=1, max_length=500)]


class OrderOut(ResponseModel):
    """An order without its lines."""

    id: int
    customer_id: int
    status: OrderStatus
    total_cents: int
    payment_reference: str | None
    created_at: datetime
    paid_at: datetime | None


class OrderItemOut(ResponseModel):
    """A line of an order."""

    sku: str
    quantity: int
    unit_price_cents: int


class OrderEventOut(ResponseModel):
    """A step in the history of an order."""

    kind: str
    detail: str
    at: datetime


class OrderDetailOut(OrderOut):
    """An order with its lines and its history."""

    items: list[OrderItemOut]
    events: list[OrderEventOut]
