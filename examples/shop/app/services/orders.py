"""What the shop does with orders."""

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.exceptions import ConflictError, NotFoundError, ValidationFailedError
from app.models.orders import Order, OrderItem, OrderStatus
from app.repositories.orders import OrderRepository
from app.schemas.orders import OrderItemIn
from app.services.customers import CustomerService


class OrderService:
    """Orders, inside the transaction of the given session.

    Nothing here guards against being called twice: a second call does it a second time, and appends a
    second event.
    """

    def __init__(self, session: AsyncSession) -> None:
        self.orders = OrderRepository(session)
        self.customers = CustomerService(session)

    async def place(self, customer_id: int, items: list[OrderItemIn]) -> Order:
        """Place an order; `NotFoundError` without the customer, `ValidationFailedError` without items."""
        if not items:
            raise ValidationFailedError("an order needs at least one item")
        await self.customers.get(customer_id)
        order = await self.orders.add(
            Order(
                customer_id=customer_id,
                total_cents=sum(item.quantity * item.unit_price_cents for item in items),
                items=[OrderItem(**item.model_dump()) for item in items],
            )
        )
        await self.orders.add_event(order.id, "placed")
        return order

    async def get(self, order_id: int) -> Order:
        """Return an order without its lines; `NotFoundError` without one."""
        return _found(await self.orders.get(order_id), order_id)

    async def get_detailed(self, order_id: int) -> Order:
        """Return an order with its lines and its history; `NotFoundError` without one."""
        return _found(await self.orders.get_detailed(order_id), order_id)

    async def process(self, order_id: int) -> Order:
        """Hand the order to the warehouse; `NotFoundError` without one."""
        order = await self.get(order_id)
        order.status = OrderStatus.PROCESSED
        await self.orders.add_event(order_id, "processed")
        return order

    async def mark_paid(self, order_id: int, payment_reference: str) -> Order:
        """Note that the order was paid; `ConflictError` when it is cancelled."""
        order = await self.get(order_id)
        if order.status is OrderStatus.CANCELLED:
            raise ConflictError(f"order {order_id} is cancelled")
        order.status = OrderStatus.PAID
        order.payment_reference = payment_reference
        order.paid_at = datetime.now(UTC)
        await self.orders.add_event(order_id, "paid", payment_reference)
        return order

    async def cancel(self, order_id: int, reason: str) -> Order:
        """Cancel the order; `ConflictError` when it is paid already."""
        order = await self.get(order_id)
        if order.status in (OrderStatus.PAID, OrderStatus.PROCESSED):
            raise ConflictError(f"order {order_id} is {order.status}")
        order.status = OrderStatus.CANCELLED
        await self.orders.add_event(order_id, "cancelled", reason)
        return order

    async def expire_unpaid(self, older_than: timedelta, now: datetime) -> int:
        """Cancel what is unpaid and was placed more than `older_than` before `now`; return the number."""
        expired = await self.orders.cancel_unpaid_before(now - older_than)
        for order_id in expired:
            await self.orders.add_event(order_id, "expired", f"unpaid after {older_than}")
        return len(expired)


def _found(order: Order | None, order_id: int) -> Order:
    if order is None:
        raise NotFoundError(f"order {order_id} does not exist")
    return order
