"""What the shop does with payments."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import settings
from app.core.exceptions import ConflictError
from app.core.http import post_json
from app.models.orders import Order, OrderStatus
from app.models.payments import Payment
from app.repositories.payments import PaymentRepository
from app.services.orders import OrderService


class PaymentService:
    """Payments, inside the transaction of the given session."""

    def __init__(self, session: AsyncSession) -> None:
        self.payments = PaymentRepository(session)
        self.orders = OrderService(session)

    async def capture(self, order_id: int, *, idempotency_key: str | None = None) -> Payment:
        """Charge the customer for an order and mark it paid.

        The provider charges once per `idempotency_key`, and on every call without one. Raises
        `NotFoundError`, `ConflictError` for a cancelled order, and `ExternalServiceError`.
        """
        order = await self.orders.get(order_id)
        if order.status is OrderStatus.CANCELLED:
            raise ConflictError(f"order {order_id} is cancelled")
        reference = await _charge(order, idempotency_key)
        payment = await self.payments.add(
            Payment(
                order_id=order_id,
                reference=reference,
                amount_cents=order.total_cents,
                idempotency_key=idempotency_key,
            )
        )
        await self.orders.mark_paid(order_id, reference)
        return payment


async def _charge(order: Order, idempotency_key: str | None) -> str:
    return await post_json(
        "payments",
        f"{settings.payment_url}/captures",
        {"order_id": order.id, "amount_cents": order.total_cents},
        wanted="reference",
        api_key=settings.payment_api_key,
        idempotency_key=idempotency_key,
    )
