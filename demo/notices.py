"""The route that the payment provider calls when an order was paid.

The demo copies this file into its shop, to `app/api/payment_notices.py`: it is what a developer writes by
hand after `add_worker.py`, so that the worker gets something to do.
"""

import uuid
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from app.api.dependencies import PathId, SessionDep
from app.consumers.order_paid import OrderPaid
from app.core.outbox import enqueue
from app.schemas.base import CleanText, RequestModel
from app.services.orders import OrderService

router = APIRouter(prefix="/orders", tags=["orders"])


class PaymentNotice(RequestModel):
    """What the provider says."""

    payment_reference: Annotated[CleanText, Field(min_length=1, max_length=200)]


@router.post("/{order_id}/payments", status_code=202)
async def take_payment_notice(order_id: PathId, body: PaymentNotice, session: SessionDep) -> dict[str, str]:
    """Accept the notice; a worker marks the order as paid.

    SessionDep is `Depends(session_dependency, scope="function")`: the outbox row is committed before the
    202 is sent. The provider repeats a notice until it sees the 202, so the message's id is made from the
    payment: the same payment is the same message, however often it is told.
    """
    await OrderService(session).get(order_id)
    message_id = uuid.uuid5(uuid.NAMESPACE_URL, f"payment {body.payment_reference}")
    data = OrderPaid(order_id=order_id, payment_reference=body.payment_reference)
    await enqueue(session, "shop.order.paid.v1", data, key=str(order_id), message_id=message_id)
    return {"message_id": str(message_id)}
