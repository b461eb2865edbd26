"""A migrated database, the shop's API without a socket, and a running stub of the outside world."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from app.core.config import settings
from app.core.database import engine as default_engine
from app.core.database import session_factory
from app.main import app
from app.models.orders import Order
from app.schemas.orders import OrderItemIn
from app.services.customers import CustomerService
from app.services.orders import OrderService
from world.client import World

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHOP = EXAMPLES / "shop"

Alembic = Callable[..., str]

# -P keeps the folder off the path, so that alembic.ini has to put it there, as for the command `alembic`.
ALEMBIC = [
    sys.executable,
    "-Pc",
    "import sys; from alembic.config import main; [main(line.split()) for line in sys.argv[1:]]",
]


def run_alembic(url: str, *command_lines: str, folder: Path = SHOP) -> str:
    """Run alembic's commands in the shop's folder, with nothing set but the database."""
    done = subprocess.run(
        [*ALEMBIC, *command_lines],
        cwd=folder,
        env={"DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def alembic() -> Alembic:
    return run_alembic


@pytest.fixture
async def empty_database(postgres_url: str) -> str:
    """A database without tables, beside the one that has them."""
    engine = create_async_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("DROP DATABASE IF EXISTS shop_empty WITH (FORCE)"))
        await connection.execute(text("CREATE DATABASE shop_empty"))
    return make_url(postgres_url).set(database="shop_empty").render_as_string(hide_password=False)


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of this test's event loop, also used by `get_session` and so by the API."""
    engine = create_async_engine(postgres_url)
    session_factory.configure(bind=engine)
    yield engine
    session_factory.configure(bind=default_engine)
    await engine.dispose()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session whose transaction the test ends itself, or leaves to be rolled back."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client


@pytest.fixture
async def order(session: AsyncSession) -> Order:
    """A placed order of 2 x 1.50, committed."""
    customer = await CustomerService(session).create("ann@example.com", "Ann")
    item = OrderItemIn(sku="tea", quantity=2, unit_price_cents=150)
    order = await OrderService(session).place(customer.id, [item])
    await session.commit()
    return order


@pytest.fixture(scope="session")
def world_url() -> Iterator[str]:
    """The stub as a process, started as its module says, on a port of the system's choice."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "uvicorn",
            "world.stub:app",
            "--port",
            "0",
            "--timeout-graceful-shutdown",
            "1",
        ],
        cwd=EXAMPLES,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    with process, process.stderr as log:
        for line in log:
            if found := re.search(r"running on (http://\S+)", line):
                break
        else:
            raise AssertionError("the stub did not start")
        yield found[1]
        process.terminate()
        log.read()


@pytest.fixture
async def world(world_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """The stub without memories, with the shop's settings pointing at it."""
    async with World(world_url) as world:
        await world.reset()
        for name, url in world.environment().items():
            monkeypatch.setattr(settings, name.lower(), url)
        yield world
        await world.reset()
