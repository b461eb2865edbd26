"""The services, each in a transaction of its own."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import settings
from app.core.database import get_session
from app.core.exceptions import ConflictError, ExternalServiceError, NotFoundError, ValidationFailedError
from app.models.emails import EmailLog
from app.models.orders import Order, OrderEvent, OrderStatus
from app.models.payments import Payment
from app.models.reports import SalesReport
from app.schemas.orders import OrderItemIn
from app.services.documents import DocumentService
from app.services.emails import EmailService
from app.services.orders import OrderService
from app.services.payments import PaymentService
from app.services.reports import ReportService, day_bounds
from world.client import World, drop, fail


async def kinds(session: AsyncSession, order: Order) -> list[str]:
    query = select(OrderEvent.kind).where(OrderEvent.order_id == order.id).order_by(OrderEvent.id)
    return list(await session.scalars(query))


async def test_order_without_items_is_refused(session: AsyncSession) -> None:
    with pytest.raises(ValidationFailedError):
        await OrderService(session).place(1, [])


async def test_order_of_an_unknown_customer_is_refused(session: AsyncSession) -> None:
    with pytest.raises(NotFoundError, match="customer 1 "):
        await OrderService(session).place(1, [OrderItemIn(sku="tea", quantity=1, unit_price_cents=1)])


@pytest.mark.parametrize("method", ["get", "get_detailed", "process"])
async def test_unknown_order_is_not_found(session: AsyncSession, method: str) -> None:
    with pytest.raises(NotFoundError, match="order 99 "):
        await getattr(OrderService(session), method)(99)


async def test_each_change_of_an_order_appends_an_event(session: AsyncSession, order: Order) -> None:
    service = OrderService(session)
    await service.mark_paid(order.id, "pay-9")
    await service.process(order.id)
    assert order.status is OrderStatus.PROCESSED
    assert order.payment_reference == "pay-9"
    assert await kinds(session, order) == ["placed", "paid", "processed"]


async def test_work_that_is_done_twice_shows_as_two_events(session: AsyncSession, order: Order) -> None:
    service = OrderService(session)
    await service.process(order.id)
    await service.process(order.id)
    assert await kinds(session, order) == ["placed", "processed", "processed"]


async def test_cancelled_order_cannot_be_marked_paid(session: AsyncSession, order: Order) -> None:
    service = OrderService(session)
    await service.cancel(order.id, "changed my mind")
    with pytest.raises(ConflictError):
        await service.mark_paid(order.id, "pay-9")
    assert await kinds(session, order) == ["placed", "cancelled"]


async def test_only_old_unpaid_orders_expire(session: AsyncSession, order: Order) -> None:
    # Given an order placed an hour ago and one placed just now
    fresh = Order(customer_id=order.customer_id, total_cents=1, created_at=datetime.now(UTC))
    session.add(fresh)
    now = datetime.now(UTC)
    await session.execute(
        update(Order).where(Order.id == order.id).values(created_at=now - timedelta(hours=1))
    )

    # When what is older than 30 minutes expires, twice
    service = OrderService(session)
    counts = [await service.expire_unpaid(timedelta(minutes=30), now) for _ in range(2)]

    # Then the old one expired once
    assert counts == [1, 0]
    assert (await service.get(order.id)).status is OrderStatus.CANCELLED
    assert fresh.status is OrderStatus.PLACED
    assert await kinds(session, order) == ["placed", "expired"]


async def test_paid_order_does_not_expire(session: AsyncSession, order: Order) -> None:
    service = OrderService(session)
    await service.mark_paid(order.id, "pay-9")
    assert await service.expire_unpaid(timedelta(0), datetime.now(UTC) + timedelta(days=1)) == 0


async def test_capture_without_a_key_charges_on_every_call(
    session: AsyncSession, order: Order, world: World
) -> None:
    service = PaymentService(session)
    for _ in range(2):
        await service.capture(order.id)
    assert len(await world.effects("payments")) == 2
    assert await session.scalar(select(func.count()).select_from(Payment)) == 2


async def test_capture_with_a_key_charges_once(session: AsyncSession, order: Order, world: World) -> None:
    # Given an answer that was lost after the money was taken
    service = PaymentService(session)
    await world.script("payments", drop())
    with pytest.raises(ExternalServiceError):
        await service.capture(order.id, idempotency_key="job-1")

    # When the call is made again with the same key
    payment = await service.capture(order.id, idempotency_key="job-1")

    # Then the customer was charged once
    assert [effect.body for effect in await world.effects()] == [{"order_id": order.id, "amount_cents": 300}]
    assert [call.key for call in await world.calls()] == ["job-1", "job-1"]
    assert (payment.reference, payment.idempotency_key) == ("pay-1", "job-1")


async def test_email_is_sent_and_logged(session: AsyncSession, order: Order, world: World) -> None:
    sent = await EmailService(session).send(order.customer_id, "welcome", idempotency_key="m-1")
    assert (sent.email_type, sent.provider_id, sent.idempotency_key) == ("welcome", "mail-1", "m-1")
    (call,) = await world.calls("mail")
    assert (call.body["to"], call.body["template"], call.key) == ("ann@example.com", "welcome", "m-1")


async def test_failed_email_leaves_no_log(session: AsyncSession, order: Order, world: World) -> None:
    await world.script("mail", fail(500))
    with pytest.raises(ExternalServiceError):
        await EmailService(session).send(order.customer_id, "welcome")
    assert await session.scalar(select(func.count()).select_from(EmailLog)) == 0


async def test_summary_is_stored(session: AsyncSession, world: World) -> None:
    service = DocumentService(session)
    document = await service.create("Tea", "Tea is a drink.")
    await service.summarise(document.id)
    await session.refresh(document)
    assert document.summary == "Tea is a drink."
    assert document.summarised_at is not None


async def test_report_counts_its_day_only_and_is_replaced(session: AsyncSession, order: Order) -> None:
    # Given an order placed and paid today
    service = ReportService(session)
    await OrderService(session).mark_paid(order.id, "pay-9")
    today = order.created_at.date()

    # When the report is made, the day goes on, and it is made again
    first = await service.daily_sales(today)
    assert (first.orders_placed, first.orders_paid, first.revenue_cents) == (1, 1, 300)
    session.add(Order(customer_id=order.customer_id, total_cents=5, created_at=order.created_at))
    second = await service.daily_sales(today)

    # Then there is one report with the later figures, and the day before has none
    assert (second.orders_placed, second.orders_paid, second.revenue_cents) == (2, 1, 300)
    assert await session.scalar(select(func.count()).select_from(SalesReport)) == 1
    assert (await service.daily_sales(today - timedelta(days=1))).orders_placed == 0


async def test_two_reports_at_once_leave_one_row(session: AsyncSession, order: Order) -> None:
    async def make() -> None:
        async with get_session() as own:
            await ReportService(own).daily_sales(date(2026, 3, 1))

    await asyncio.gather(make(), make())
    assert await session.scalar(select(func.count()).select_from(SalesReport)) == 1


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 6, 1), 24), (date(2026, 10, 25), 25)]
)
def test_day_is_as_long_as_the_clocks_say(day: date, hours: int) -> None:
    start, end = day_bounds(day, ZoneInfo("Europe/Berlin"))
    assert end - start == timedelta(hours=hours)


async def test_report_follows_the_time_zone_of_the_shop(
    session: AsyncSession, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an order placed at 23:30 UTC, half past midnight in Berlin
    order.created_at = datetime(2026, 1, 10, 23, 30, tzinfo=UTC)
    monkeypatch.setattr(settings, "time_zone", "Europe/Berlin")
    service = ReportService(session)
    assert (await service.daily_sales(date(2026, 1, 10))).orders_placed == 0
    assert (await service.daily_sales(date(2026, 1, 11))).orders_placed == 1
