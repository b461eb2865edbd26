"""`writing` for tasks that block: the same statements, with SQLAlchemy's synchronous session and psycopg."""

from __future__ import annotations

from functools import cache

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from app.core.database import engine
from app.models.orders import Order, OrderEvent, OrderStatus
from benchmarks.writing import CLAIM, LIMITS


@cache
def sessions() -> sessionmaker[Session]:
    """One pool for each process: the first task makes it, after the fork."""
    url = engine.url.set(drivername="postgresql+psycopg")
    blocking = create_engine(url, pool_pre_ping=True, hide_parameters=True)
    return sessionmaker(blocking, expire_on_commit=False)


def write_blocking(order_id: int) -> None:
    """See `writing.write`, and `OrderService.process`."""
    with sessions()() as session, session.begin():
        if session.execute(CLAIM, {**LIMITS, "message_id": str(order_id)}).first() is None:
            return
        order = session.get_one(Order, order_id)
        order.status = OrderStatus.PROCESSED
        session.add(OrderEvent(order_id=order_id, kind="processed", detail=""))
        session.flush()
