"""Errors of add_worker.py: one line, an exit code of its class, and nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]

USAGE, PROJECT, SERVICE, TAKEN = 2, 3, 4, 5
HEAD = "from sqlalchemy.ext.asyncio import AsyncSession\nfrom sqlalchemy.orm import Session\n\n\n"
CLASS = f"{HEAD}class MadeService:\n    def __init__(self, session: AsyncSession) -> None: ...\n\n    "

RUN = "async def run(self) -> None: ...\n"


def refused(run: Any, code: int, *texts: str) -> None:
    """One line of error, the right exit code, and no data."""
    assert run.code == code, (run.code, run.err)
    assert run.out == ""
    assert len(run.err.splitlines()) == 1
    for text in texts:
        assert text in run.err


@pytest.mark.parametrize(
    ("calls", "code", "text"),
    [
        ("app.services.orders.OrderService.mark_paid", USAGE, "write package.module:Class.method"),
        ("app.services.nothing:OrderService.mark_paid", SERVICE, "no module app.services.nothing"),
        ("app.services.orders:Nothing.mark_paid", SERVICE, "app/services/orders.py: no class Nothing"),
        ("app.services.orders:OrderService.nothing", SERVICE, "class OrderService has no method nothing"),
        ("app.services.orders:nothing", SERVICE, "no function nothing"),
        ("app.services.orders:AsyncSession.get", SERVICE, "no class AsyncSession"),
        ("acme.services.orders:OrderService.mark_paid", SERVICE, "did you mean app.services.orders?"),
    ],
)
def test_services_that_are_not_there(
    shop: Path, add_consumer: Script, *, calls: str, code: int, text: str
) -> None:
    refused(add_consumer(shop, calls=calls), code, text)
    assert not (shop / "app" / "consumers").exists()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (CLASS + "async def run(self, *items: int) -> None: ...\n", "takes *items"),
        (CLASS + "async def run(self, **items: int) -> None: ...\n", "takes **items"),
        (CLASS + "async def run(self, number) -> None: ...\n", "parameter number has no type hint"),
        (CLASS + "async def run(self, x: 'no type') -> None: ...\n", "'no type' is no type hint"),
        (CLASS + "async def run(self, x: Missing) -> None: ...\n", "Missing is not defined"),
        (CLASS + "def run(self, number: int) -> None: ...\n", "is a `def`"),
        (CLASS + "@staticmethod\n    async def run(number: int) -> None: ...\n", "is a staticmethod"),
        (CLASS + "async def run(self):\n        yield 1\n", "is a generator"),
        (CLASS + "async def run(self, _x: int) -> None: ...\n", "parameter _x"),
        (
            "from app.models.orders import Order\n" + CLASS + "async def run(self, x: Order): ...\n",
            "database model",
        ),
        (
            "from datetime import date\n" + CLASS + "async def run(self, date: date = date.min): ...\n",
            "hides the type",
        ),
        (f"{HEAD}class MadeService:\n    async def run(self) -> None: ...\n", "must take a session"),
        (CLASS.replace(": AsyncSession", ": Session") + RUN, "session is a Session"),
        (CLASS.replace("AsyncSession)", "AsyncSession, mail: str)") + RUN, "it takes: session, mail"),
        ("class MadeService(\n", "not valid Python"),
    ],
)
def test_services_that_no_worker_can_call(
    shop: Path, service: Callable[[str], Path], add_consumer: Script, *, source: str, text: str
) -> None:
    service(source)

    run = add_consumer(shop, name="made", calls="app.services.made:MadeService.run")

    refused(run, PROJECT if "not valid" in text else SERVICE, text)
    assert not (shop / "app" / "consumers").exists()


@pytest.mark.parametrize("name", ["class", "order-paid", "OrderPaid", "1st", "order.paid", "é"])
def test_names_that_are_no_modules(shop: Path, add_consumer: Script, name: str) -> None:
    refused(add_consumer(shop, name=name), USAGE, name)


@pytest.mark.parametrize("name", ["run", "outbox_relay", "dead_letters"])
def test_names_that_are_taken(shop: Path, add_consumer: Script, name: str) -> None:
    refused(add_consumer(shop, name=name), TAKEN, "is taken")


@pytest.mark.parametrize("type_", ["shop.order.paid", "shop order.v1", "shop.order.v"])
def test_types_without_a_version(shop: Path, add_consumer: Script, type_: str) -> None:
    refused(add_consumer(shop, "--type", type_), USAGE, type_)


def test_worker_that_exists_with_other_content(shop: Path, add_consumer: Script, tree: Tree) -> None:
    add_consumer(shop)
    (shop / "app" / "consumers" / "order_paid.py").write_text("# something else\n")
    before = tree(shop)

    refused(add_consumer(shop), TAKEN, "app/consumers/order_paid.py", "--force")
    assert tree(shop) == before


def test_core_file_that_is_something_else(shop: Path, add_consumer: Script, tree: Tree) -> None:
    (shop / "app" / "core" / "health.py").write_text("def ping(): ...\n")
    before = tree(shop)

    refused(add_consumer(shop), TAKEN, "app/core/health.py", "lacks", "Health")
    assert tree(shop) == before


def test_folder_without_a_package(script: Script, tmp_path: Path) -> None:
    refused(script("outbox-relay", "--project", tmp_path), PROJECT, "no package")
    refused(script("outbox-relay", "--project", tmp_path / "nothing"), PROJECT, "no such folder")


def test_package_itself_instead_of_the_project(script: Script, shop: Path) -> None:
    refused(script("outbox-relay", "--project", shop / "app"), PROJECT, "give the folder above")


def test_project_without_a_session_helper(script: Script, shop: Path) -> None:
    database = shop / "app" / "core" / "database.py"
    database.write_text(database.read_text().replace("get_session", "make_session"))

    refused(script("outbox-relay", "--project", shop, "--home", "app"), PROJECT, "lacks get_session")


def test_session_helper_that_is_a_fastapi_dependency(script: Script, shop: Path) -> None:
    database = shop / "app" / "core" / "database.py"
    database.write_text(database.read_text().replace("@asynccontextmanager\n", ""))

    relay = script("outbox-relay", "--project", shop, "--home", "app")
    refused(relay, PROJECT, "get_session is no @asynccontextmanager")


def test_project_without_a_base_of_the_models(script: Script, shop: Path) -> None:
    (shop / "app" / "models" / "base.py").unlink()

    relay = script("outbox-relay", "--project", shop, "--home", "app")
    refused(relay, PROJECT, "no module app.models.base", "Base")


def test_two_kinds_of_relay_for_one_outbox(script: Script, shop: Path, tree: Tree) -> None:
    script("outbox-relay", "--project", shop, "--broker", "redis")
    before = tree(shop)

    run = script("outbox-relay", "--project", shop, "--broker", "rabbitmq")

    refused(run, TAKEN, "app/workers/outbox_relay.py: sends to Redis", "--force")
    assert tree(shop) == before


def test_relay_in_a_project_of_both_brokers(script: Script, shop: Path, add_consumer: Script) -> None:
    add_consumer(shop)
    add_consumer(shop, broker="rabbitmq", name="other")

    refused(script("outbox-relay", "--project", shop), USAGE, "Redis and RabbitMQ", "--broker")


@pytest.mark.parametrize("extra", ["rpc", "priority"])
def test_extra_that_the_broker_has_not(shop: Path, add_consumer: Script, extra: str) -> None:
    refused(add_consumer(shop, "--with", extra), USAGE, extra, "not for Redis", "publisher, batch, in-order")


def test_support_of_tests_from_before_there_were_two_brokers(shop: Path, add_consumer: Script) -> None:
    (shop / "tests" / "workers").mkdir(parents=True)
    (shop / "tests" / "workers" / "conftest.py").write_text("def consumer_lab(): ...\n")

    refused(add_consumer(shop), TAKEN, "tests/workers/conftest.py", "lacks labs", "--force")


def test_unknown_command_and_missing_options(script: Script, add_consumer: Script, shop: Path) -> None:
    assert script("celery").code == USAGE
    assert script("redis-consumer", "name", "--project", shop).code == USAGE
    assert script("outbox-relay", "--project", shop, "--broker", "kafka").code == USAGE
    assert add_consumer(shop, "--with", "kafka").code == USAGE
