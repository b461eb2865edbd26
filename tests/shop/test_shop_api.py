"""The shop's routes, over HTTP without a socket."""

import httpx2
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from app.core.database import session_factory
from app.models.orders import Order
from world.client import World, fail

TEA = {"sku": "tea", "quantity": 2, "unit_price_cents": 150}


async def test_customer_is_registered_once(api: httpx2.AsyncClient) -> None:
    # Given a registered customer
    first = await api.post("/customers", json={"email": "Ann@Example.com", "name": " Ann "})
    assert first.status_code == 201
    assert first.json()["email"] == "ann@example.com"
    assert first.json()["name"] == "Ann"

    # When the same address comes again
    second = await api.post("/customers", json={"email": "ann@example.COM", "name": "Other"})

    # Then it is refused, and one customer is left
    assert second.status_code == 409
    assert (await api.get("/customers")).json() == [first.json()]
    assert (await api.get(f"/customers/{first.json()['id']}")).json() == first.json()


async def test_customers_are_listed_in_pages(api: httpx2.AsyncClient) -> None:
    for number in range(3):
        await api.post("/customers", json={"email": f"{number}@example.com", "name": "N"})
    first = (await api.get("/customers", params={"limit": 2})).json()
    second = (await api.get("/customers", params={"limit": 2, "after": first[-1]["id"]})).json()
    assert [customer["email"][0] for customer in first + second] == ["0", "1", "2"]


async def test_order_is_placed_and_shown_with_its_history(api: httpx2.AsyncClient) -> None:
    customer = (await api.post("/customers", json={"email": "ann@example.com", "name": "Ann"})).json()
    placed = await api.post("/orders", json={"customer_id": customer["id"], "items": [TEA]})
    assert placed.status_code == 201
    assert placed.json()["total_cents"] == 300

    shown = (await api.get(f"/orders/{placed.json()['id']}")).json()
    assert shown["status"] == "placed"
    assert shown["items"] == [TEA]
    assert [event["kind"] for event in shown["events"]] == ["placed"]


async def test_order_of_an_unknown_customer_is_refused(api: httpx2.AsyncClient) -> None:
    response = await api.post("/orders", json={"customer_id": 7, "items": [TEA]})
    assert response.status_code == 404
    assert response.json()["detail"] == "customer 7 does not exist"


async def test_order_is_paid_and_then_cannot_be_cancelled(
    api: httpx2.AsyncClient, order: Order, world: World
) -> None:
    payment = await api.post(f"/orders/{order.id}/pay")
    assert payment.status_code == 200
    assert payment.json()["reference"] == "pay-1"

    shown = (await api.get(f"/orders/{order.id}")).json()
    assert (shown["status"], shown["payment_reference"]) == ("paid", "pay-1")
    assert (await api.post(f"/orders/{order.id}/cancel", json={"reason": "late"})).status_code == 409


async def test_order_is_cancelled_and_then_cannot_be_paid(
    api: httpx2.AsyncClient, order: Order, world: World
) -> None:
    cancelled = await api.post(f"/orders/{order.id}/cancel", json={"reason": "changed my mind"})
    assert cancelled.json()["status"] == "cancelled"
    assert (await api.post(f"/orders/{order.id}/pay")).status_code == 409
    assert await world.calls("payments") == []


async def test_failure_of_the_provider_is_passed_on_and_nothing_is_stored(
    api: httpx2.AsyncClient, order: Order, world: World
) -> None:
    await world.script("payments", fail(429, retry_after=1.5))
    response = await api.post(f"/orders/{order.id}/pay")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert (await api.get(f"/orders/{order.id}")).json()["status"] == "placed"


async def test_document_is_stored_and_summarised(api: httpx2.AsyncClient, world: World) -> None:
    document = (await api.post("/documents", json={"title": "Tea", "body": "Tea is a drink."})).json()
    assert document["summary"] is None
    summarised = await api.post(f"/documents/{document['id']}/summary")
    assert summarised.json()["summary"] == "Tea is a drink."
    assert (await api.get(f"/documents/{document['id']}")).json() == summarised.json()


async def test_report_is_made_and_shown(api: httpx2.AsyncClient, order: Order) -> None:
    day = order.created_at.date().isoformat()
    assert (await api.get(f"/reports/{day}")).status_code == 404
    made = await api.put(f"/reports/{day}")
    assert made.json()["orders_placed"] == 1
    assert (await api.get(f"/reports/{day}")).json() == made.json()


async def test_health_follows_the_database(api: httpx2.AsyncClient) -> None:
    assert (await api.get("/health")).status_code == 200
    # Port 1 is reserved and refuses.
    session_factory.configure(bind=create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none"))
    response = await api.get("/health")
    assert (response.status_code, response.json()["detail"]) == (503, "the database does not answer")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/orders/0", None),
        ("GET", f"/orders/{2**63}", None),
        ("GET", "/orders/one", None),
        ("PUT", "/reports/9999-12-31", None),
        ("PUT", "/reports/0001-01-01", None),
        ("GET", "/customers?limit=1000000", None),
        ("POST", "/customers", b'{"email": "no address", "name": "N"}'),
        ("POST", "/customers", b'{"email": "a@b.c", "name": "N\\u0000"}'),
        ("POST", "/customers", b'{"email": "a@b.c", "name": "\\ud800"}'),
        ("POST", "/customers", b'{"email": "a@b.c", "name": "N", "nmae": "N"}'),
        ("POST", "/customers", b"{"),
        ("POST", "/orders", b'{"customer_id": 1, "items": []}'),
        ("POST", "/orders", b'{"customer_id": 1, "items": [{"sku":"x","quantity":0,"unit_price_cents":1}]}'),
    ],
)
async def test_bad_input_is_refused_before_it_reaches_the_database(
    api: httpx2.AsyncClient, method: str, path: str, body: bytes | None
) -> None:
    response = await api.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"
