"""When the shop commits: once, at the end, and before the response (trap FA-01)."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.dependencies import SessionDep
from app.core.database import get_session, session_dependency
from app.main import app as shop
from app.models.customers import Customer
from app.services.customers import CustomerService

DefaultScope = Annotated[AsyncSession, Depends(session_dependency)]
ANN = {"email": "ann@example.com", "name": "Ann"}


async def count_customers(engine: AsyncEngine) -> int:
    """Count on a connection of its own, which sees only what is committed."""
    async with engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(Customer)) or 0


class SeenAtResponse:
    """Middleware that counts the customers at the moment when the response starts to be sent."""

    def __init__(self, app: ASGIApp, engine: AsyncEngine) -> None:
        self.app, self.engine, self.seen = app, engine, -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def look_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.seen = await count_customers(self.engine)
            await send(message)

        await self.app(scope, receive, look_and_send)


def careless_shop() -> FastAPI:
    """A shop that uses the session in FastAPI's default scope: the mistake that FA-01 is about."""
    careless = FastAPI()

    @careless.post("/customers", status_code=201)
    async def create(
        body: dict[str, str], session: Annotated[AsyncSession, Depends(session_dependency)]
    ) -> None:
        await CustomerService(session).create(**body)

    return careless


async def post(app: ASGIApp, path: str, body: dict[str, Any]) -> httpx2.Response:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.post(path, json=body)


@pytest.fixture
async def failing_commit(engine: AsyncEngine) -> AsyncIterator[None]:
    """Let every transaction that inserts a customer fail at its commit, and not before."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE integrity_constraint_violation; END $$"
            )
        )
        await connection.execute(
            text(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON customer DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP FUNCTION refuse CASCADE"))


@pytest.mark.usefixtures("failing_commit")
async def test_commit_that_fails_is_never_answered_with_success(engine: AsyncEngine) -> None:
    # When the commit fails behind a handler that succeeded
    response = await post(shop, "/customers", ANN)

    # Then the caller learns it, and nothing is stored
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert await count_customers(engine) == 0


@pytest.mark.usefixtures("failing_commit")
async def test_default_scope_would_have_answered_with_success() -> None:
    # The control: the same failure behind the default scope, so the test above can fail.
    assert (await post(careless_shop(), "/customers", ANN)).status_code == 201


async def test_row_is_there_when_the_response_starts(engine: AsyncEngine) -> None:
    watched = SeenAtResponse(shop, engine)
    assert (await post(watched, "/customers", ANN)).status_code == 201
    assert watched.seen == 1


async def test_default_scope_would_have_answered_before_the_row_was_there(engine: AsyncEngine) -> None:
    watched = SeenAtResponse(careless_shop(), engine)
    assert (await post(watched, "/customers", ANN)).status_code == 201
    assert watched.seen == 0


def all_dependants(dependant: Dependant) -> list[Dependant]:
    return [dependant, *(inner for child in dependant.dependencies for inner in all_dependants(child))]


def test_every_route_uses_the_session_in_function_scope() -> None:
    scopes = {
        dependant.scope
        for route in iter_route_contexts(shop.routes)
        if isinstance(route.original_route, APIRoute)
        for dependant in all_dependants(route.dependant)
        if dependant.call is session_dependency
    }
    assert scopes == {"function"}


async def test_error_in_a_handler_rolls_back(engine: AsyncEngine) -> None:
    failing = FastAPI()

    @failing.post("/customers")
    async def create_and_fail(body: dict[str, str], session: SessionDep) -> None:
        await CustomerService(session).create(**body)
        raise RuntimeError

    assert (await post(failing, "/customers", ANN)).status_code == 500
    assert await count_customers(engine) == 0


async def test_get_session_commits_on_success_and_rolls_back_on_error(engine: AsyncEngine) -> None:
    async def create_and_fail() -> None:
        async with get_session() as session:
            await CustomerService(session).create(**ANN)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await create_and_fail()
    assert await count_customers(engine) == 0

    async with get_session() as session:
        await CustomerService(session).create(**ANN)
    assert await count_customers(engine) == 1
