"""The route that places an order and has it confirmed by an e-mail: what is written by hand.

    POST /checkout --commit--> customer_order + outbox_message --relay--> RabbitMQ
                                                                             |
      acknowledge <--commit-- email_log + inbox_message <--EmailService.send-+ consumer

The rest is written by the script:

    add_worker.py rabbitmq-consumer order_placed --calls app.services.emails:EmailService.send --project PATH
    add_worker.py outbox-relay --broker rabbitmq --project PATH

In a project this file is app/api/checkout.py, and app/main.py says `app.include_router(checkout.router)`.
`tests/faults/test_rabbit_end_to_end.py` runs it while everything dies in turn.
"""

from fastapi import APIRouter

from app.api.dependencies import SessionDep
from app.consumers.order_placed import OrderPlaced
from app.core.outbox import enqueue
from app.models.orders import Order
from app.schemas.orders import OrderIn, OrderOut
from app.services.orders import OrderService

router = APIRouter(prefix="/checkout", tags=["orders"])


@router.post("", status_code=201, response_model=OrderOut)
async def check_out(body: OrderIn, session: SessionDep) -> Order:
    """Place an order. It is there if, and only if, its e-mail will be sent: both are one transaction.

    SessionDep is `Depends(session_dependency, scope="function")`: the commit comes before the answer.
    """
    order = await OrderService(session).place(body.customer_id, body.items)
    confirmation = OrderPlaced(user_id=order.customer_id, email_type="order_confirmation")
    await enqueue(session, "shop.order.placed.v1", confirmation, key=f"order-{order.id}")
    return order
