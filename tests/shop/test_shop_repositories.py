"""Repositories and services leave the commit to who opened the session."""

import ast
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import database
from app.models.customers import Customer
from app.models.documents import Document
from app.models.emails import EmailLog
from app.models.orders import Order
from app.models.payments import Payment
from app.repositories.customers import CustomerRepository
from app.repositories.documents import DocumentRepository
from app.repositories.emails import EmailLogRepository
from app.repositories.orders import OrderRepository
from app.repositories.payments import PaymentRepository
from app.repositories.reports import SalesReportRepository

APP = Path(database.__file__).parents[1]
START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)

Write = Callable[[AsyncSession, Order], Awaitable[object]]

WRITES: dict[str, Write] = {
    "customer": lambda session, _: CustomerRepository(session).add(Customer(email="b@x.y", name="B")),
    "customer unless known": lambda session, _: CustomerRepository(session).add_unless_known("c@x.y", "C"),
    "order": lambda session, order: OrderRepository(session).add(
        Order(customer_id=order.customer_id, total_cents=1)
    ),
    "event": lambda session, order: OrderRepository(session).add_event(order.id, "seen"),
    "cancel": lambda session, _: OrderRepository(session).cancel_unpaid_before(datetime.now(UTC)),
    "payment": lambda session, order: PaymentRepository(session).add(
        Payment(order_id=order.id, reference="r", amount_cents=1)
    ),
    "email": lambda session, order: EmailLogRepository(session).add(
        EmailLog(customer_id=order.customer_id, email_type="welcome", provider_id="m")
    ),
    "document": lambda session, _: DocumentRepository(session).add(Document(title="t", body="b")),
    "report": lambda session, _: SalesReportRepository(session).put(
        date(2026, 3, 1), start=START, end=END, generated_at=END
    ),
}


@pytest.mark.parametrize("name", WRITES)
async def test_write_is_sent_to_the_database_and_not_committed(
    session: AsyncSession, order: Order, name: str
) -> None:
    # Given a session whose statements and commits are counted
    statements: list[str] = []
    commits: list[object] = []
    connection = (await session.connection()).sync_connection
    event.listen(connection, "before_cursor_execute", lambda *args: statements.append(args[2]))
    event.listen(connection, "commit", commits.append)

    # When a repository writes
    await WRITES[name](session, order)

    # Then the statement was flushed and the transaction is open
    assert any(statement.startswith(("INSERT", "UPDATE")) for statement in statements)
    assert commits == []
    assert session.in_transaction()


def calls_of(name: str, folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == name:
                yield f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("layer", ["repositories", "services", "api"])
def test_no_layer_but_core_calls_commit(layer: str) -> None:
    folder = APP / layer
    assert list(folder.glob("*.py"))
    assert list(calls_of("commit", folder)) == []
