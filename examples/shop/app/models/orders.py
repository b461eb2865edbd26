"""Orders, their lines and their history."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Enum, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base
from app.models.customers import Customer


class OrderStatus(StrEnum):
    """Where an order stands: placed, then paid, then processed; or cancelled."""

    PLACED = "placed"
    PAID = "paid"
    PROCESSED = "processed"
    CANCELLED = "cancelled"


class Order(Base):
    """An order. Money is in cents of one currency."""

    # Not "order", which is a keyword of SQL.
    __tablename__ = "customer_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id), index=True)
    status: Mapped[OrderStatus] = mapped_column(
        # Text, not a type of the database: adding a status must not need ALTER TYPE.
        Enum(
            OrderStatus,
            native_enum=False,
            length=20,
            values_callable=lambda kind: [member.value for member in kind],
        ),
        default=OrderStatus.PLACED,
        index=True,
    )
    total_cents: Mapped[int]
    payment_reference: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    paid_at: Mapped[datetime | None] = mapped_column(index=True)

    # "raise": a lazy load cannot be awaited; who needs the rows asks for them in the query.
    items: Mapped[list["OrderItem"]] = relationship(lazy="raise", order_by="OrderItem.id")
    events: Mapped[list["OrderEvent"]] = relationship(lazy="raise", order_by="OrderEvent.id")


class OrderItem(Base):
    """One line of an order, with the price at the time of ordering."""

    __tablename__ = "order_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), index=True)
    sku: Mapped[str]
    quantity: Mapped[int]
    unit_price_cents: Mapped[int]


class OrderEvent(Base):
    """What happened to an order: one row per change of state, never changed or deleted.

    A change that was made twice shows as two rows of one kind. The kinds are placed, paid, processed,
    cancelled and expired.
    """

    __tablename__ = "order_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), index=True)
    kind: Mapped[str]
    detail: Mapped[str] = mapped_column(default="")
    at: Mapped[datetime] = mapped_column(server_default=func.now())
