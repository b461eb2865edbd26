"""Routes of orders."""

from fastapi import APIRouter

from app.api.dependencies import PathId, SessionDep
from app.models.orders import Order
from app.models.payments import Payment
from app.schemas.orders import CancelIn, OrderDetailOut, OrderIn, OrderOut
from app.schemas.payments import PaymentOut
from app.services.orders import OrderService
from app.services.payments import PaymentService

router = APIRouter(prefix="/orders", tags=["orders"])


@router.post("", status_code=201, response_model=OrderOut)
async def place_order(body: OrderIn, session: SessionDep) -> Order:
    """Place an order."""
    return await OrderService(session).place(body.customer_id, body.items)


@router.get("/{order_id}", response_model=OrderDetailOut)
async def get_order(order_id: PathId, session: SessionDep) -> Order:
    """Show an order with its lines and its history."""
    return await OrderService(session).get_detailed(order_id)


@router.post("/{order_id}/cancel", response_model=OrderOut)
async def cancel_order(order_id: PathId, body: CancelIn, session: SessionDep) -> Order:
    """Cancel an order."""
    return await OrderService(session).cancel(order_id, body.reason)


@router.post("/{order_id}/pay", response_model=PaymentOut)
async def pay_order(order_id: PathId, session: SessionDep) -> Payment:
    """Charge the customer for an order."""
    return await PaymentService(session).capture(order_id)
