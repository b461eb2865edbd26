"""The tests that land in a project, run as its developers do: they pass, and they notice what breaks."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.servers import PostgresServer, RedisServer

Script = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
STRICT = """
[tool.pytest.ini_options]
filterwarnings = ["error"]
asyncio_mode = "strict"
asyncio_default_fixture_loop_scope = "function"
"""


def run_tests(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest in the project, with nothing of this repository on the path."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/workers", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env={**own, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def ledgers(output: str) -> list[dict[str, int]]:
    """The accounts that the tests have printed."""
    lines = [line for line in output.splitlines() if line.startswith("LEDGER")]
    return [{name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)} for line in lines]


def given_servers(postgres: PostgresServer, redis_server: RedisServer) -> dict[str, str]:
    return {"TEST_DATABASE_URL": postgres.database_url("postgres"), "TEST_REDIS_URL": redis_server.url}


@pytest.mark.services
def test_they_pass_with_servers_out_of_packages(shop: Path, add_consumer: Script, script: Script) -> None:
    # Given a project that turns warnings into errors
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + STRICT)
    add_consumer(shop)
    script("outbox-relay", "--project", shop)

    # When its tests run without any server being given
    done = run_tests(shop)

    # Then all pass, and every account is printed and clean
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
    accounts = ledgers(done.stdout)
    assert len(accounts) == 10
    assert sum(account["lost"] for account in accounts) == 0
    assert sum(account["recovered"] for account in accounts) >= 4


def test_they_pass_in_a_renamed_package_with_servers_that_are_given(
    acme: Path, add_consumer: Script, script: Script, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    # Given another package below src/, a payload with parts, and one with an idempotency key
    add_consumer(acme, name="place_order", calls="acme.services.orders:OrderService.place")
    add_consumer(acme, name="capture", calls="acme.services.payments:PaymentService.capture")
    script("outbox-relay", "--project", acme)

    # When the tests run without pytest-asyncio and in another import mode
    servers = given_servers(postgres, redis_server)
    some = ("-k", "place_order or outbox_relay or test_one_message")
    done = run_tests(acme, "-p", "no:asyncio", "--import-mode=importlib", "-W", "error", *some, **servers)

    # Then all pass
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout


def test_service_that_is_a_plain_function_is_replaced_too(
    shop: Path,
    service: Callable[[str], Path],
    add_consumer: Script,
    postgres: PostgresServer,
    redis_server: RedisServer,
) -> None:
    service(
        "from sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
        "async def touch(session: AsyncSession, numbers: list[int]) -> None:\n    raise NotImplementedError\n"
    )
    add_consumer(shop, name="touched", calls="app.services.made:touch")

    done = run_tests(shop, "-k", "test_one_message", **given_servers(postgres, redis_server))

    assert done.returncode == 0, done.stdout + done.stderr


def test_they_touch_no_database_but_their_own(
    shop: Path, add_consumer: Script, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    # Given settings that take the address from another variable
    config = shop / "app" / "core" / "config.py"
    config.write_text(config.read_text().replace("    database_url: SecretStr =", "    dsn: SecretStr ="))
    database = shop / "app" / "core" / "database.py"
    database.write_text(database.read_text().replace("settings.database_url", "settings.dsn"))
    add_consumer(shop)

    # When the tests run
    done = run_tests(shop, "-x", **given_servers(postgres, redis_server))

    # Then they stop before anything is written, and say what to change
    assert done.returncode == 1
    assert "sessions go to shop, not to the test's database: see DATABASE_VARIABLE" in done.stdout


BREAKS = {
    "the session helper does not commit": (
        "core/database.py",
        "async with session_factory() as session, session.begin():",
        "async with session_factory() as session:",
        "test_one_message",
    ),
    "the handler opens a session of its own": (
        "consumers/order_paid.py",
        "    await OrderService(session).mark_paid(",
        """
    from app.core.database import get_session
    async with get_session() as session:
      await OrderService(session).mark_paid(""",
        "test_one_message",
    ),
    "the service has another signature than the handler thinks": (
        "services/orders.py",
        "async def mark_paid(self, order_id: int, payment_reference: str)",
        "async def mark_paid(self, order_id: int, reference: str)",
        "test_one_message",
    ),
    "a message is acknowledged whatever becomes of it": (
        "core/stream_consumer.py",
        "if isinstance(outcome, Done):",
        "if True:",
        "test_failure_that_passes",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_they_fail_when_a_joint_is_broken(
    shop: Path, add_consumer: Script, postgres: PostgresServer, redis_server: RedisServer, what: str
) -> None:
    # Given a project in which one joint is broken
    add_consumer(shop)
    file, old, new, noticed_by = BREAKS[what]
    path = shop / "app" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    # a shorter patience: the messages will never be done
    conftest = shop / "tests" / "workers" / "conftest.py"
    conftest.write_text(conftest.read_text().replace("DEADLINE = 20.0", "DEADLINE = 6.0"))

    # When the tests run
    done = run_tests(shop, "-k", noticed_by, **given_servers(postgres, redis_server))

    # Then they fail, and not for want of a server
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout, done.stdout


@pytest.mark.slow
def test_what_lands_passes_the_linter_and_the_type_checker(
    acme: Path, add_consumer: Script, script: Script
) -> None:
    services = {"place_order": "orders:OrderService.place", "capture": "payments:PaymentService.capture"}
    for name, calls in services.items():
        add_consumer(acme, name=name, calls=f"acme.services.{calls}")
    script("outbox-relay", "--project", acme)
    config = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]

    lint = ["ruff", "check", *config, "--config", f'src = ["{acme}/src"]', "--output-format=concise", "."]
    form = ["ruff", "format", *config, "--check", "."]
    types = [
        "mypy",
        "--strict",
        "--explicit-package-bases",
        "--config-file=",
        "--cache-dir",
        os.devnull,
        "src",
        "tests",
    ]
    for command in (lint, form, types):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=acme,
            env={**os.environ, "MYPYPATH": "src"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
