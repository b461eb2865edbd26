"""Rows of orders."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import update
from sqlalchemy.orm import selectinload

from app.models.orders import Order, OrderEvent, OrderStatus
from app.repositories.base import Repository


class OrderRepository(Repository[Order]):
    """Orders in the database."""

    model = Order

    async def get_detailed(self, order_id: int) -> Order | None:
        """Return the order with its lines and its history, or None."""
        details = (selectinload(Order.items), selectinload(Order.events))
        return await self.session.get(Order, order_id, options=details, populate_existing=True)

    async def add_event(self, order_id: int, kind: str, detail: str = "") -> None:
        """Append one row to the history of the order."""
        self.session.add(OrderEvent(order_id=order_id, kind=kind, detail=detail))
        await self.session.flush()

    async def cancel_unpaid_before(self, moment: datetime) -> Sequence[int]:
        """Cancel what was placed before `moment` and is still unpaid; return the ids."""
        statement = (
            update(Order)
            .where(Order.status == OrderStatus.PLACED, Order.created_at < moment)
            .values(status=OrderStatus.CANCELLED)
            .returning(Order.id)
        )
        return (await self.session.scalars(statement)).all()
