"""From a request to the effect: what the API accepts is done, and what it does not accept never happens."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from app.core.database import engine as default_engine
from app.core.database import session_dependency, session_factory
from app.core.outbox import enqueue
from app.services.orders import OrderService
from support.scene import RedisScene
from support.wait import eventually


class Work(BaseModel):
    """Payload of the consumer's messages."""

    order_id: int


def shop() -> FastAPI:
    """An API with one route as a user writes it, and one with FastAPI's default scope for the session."""
    api = FastAPI()

    async def accept(order_id: int, session: AsyncSession) -> dict[str, str]:
        await OrderService(session).get(order_id)
        return {"message": str(await enqueue(session, "shop.work.v1", Work(order_id=order_id)))}

    @api.post("/right/{order_id}", status_code=202)
    async def right(
        order_id: int, session: Annotated[AsyncSession, Depends(session_dependency, scope="function")]
    ) -> dict[str, str]:
        return await accept(order_id, session)

    @api.post("/wrong/{order_id}", status_code=202)
    async def wrong(
        order_id: int, session: Annotated[AsyncSession, Depends(session_dependency)]
    ) -> dict[str, str]:
        return await accept(order_id, session)

    return api


@pytest.fixture
async def client(scene: RedisScene) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the API, whose sessions go to the scene's database."""
    engine = create_async_engine(scene.postgres_url)
    session_factory.configure(bind=engine)
    transport = httpx2.ASGITransport(shop(), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client
    session_factory.configure(bind=default_engine)
    await engine.dispose()


async def test_what_is_accepted_is_done(scene: RedisScene, client: httpx2.AsyncClient) -> None:
    orders = await scene.orders(50)
    scene.worker("outbox_relay"), scene.worker()
    for order in orders:
        answer = await client.post(f"/right/{order}")
        assert answer.status_code == 202
        scene.accepted.append(order)
    await scene.until_processed(orders)
    (await scene.ledger("from request to effect")).assert_clean()


async def test_a_202_whose_commit_fails_is_never_sent(scene: RedisScene, client: httpx2.AsyncClient) -> None:
    # Given a database that refuses the message at the commit, and not before
    await scene.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE integrity_constraint_violation; END $$"
    )
    await scene.sql(
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON outbox_message DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    (order,) = await scene.orders(1)
    # Then the request fails; with FastAPI's default scope it would have been accepted and lost (FA-01)
    assert (await client.post(f"/right/{order}")).status_code == 500
    assert (await client.post(f"/wrong/{order}")).status_code == 202
    assert await scene.sql("SELECT 1 FROM outbox_message") == []


async def test_broker_away_at_the_request(scene: RedisScene, client: httpx2.AsyncClient) -> None:
    # Given no relay and no broker: a request needs neither
    orders = await scene.orders(5)
    for order in orders:
        assert (await client.post(f"/right/{order}")).status_code == 202
        scene.accepted.append(order)
    # When they are there, later
    scene.worker("outbox_relay"), scene.worker()
    await scene.until_processed(orders)
    await eventually(lambda: scene.left() == 0, 20)
    (await scene.ledger("accepted while nothing was there to do it")).assert_clean()
