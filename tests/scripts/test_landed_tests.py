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
from workerkit.brokers import BROKERS, CELERY_REDIS, LLM

Script = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
FUTURE = "from __future__ import annotations\n\n"
NIGHTLY = ("--schedule", "30 2 * * *", "--timezone", "Europe/Berlin", "--set", "day=yesterday")
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


Servers = Callable[[str], dict[str, str]]


@pytest.fixture
def servers(request: pytest.FixtureRequest, postgres: PostgresServer) -> Servers:
    """Gives the variables that lead the tests to the servers of this run, those of one broker."""

    def given(broker: str) -> dict[str, str]:
        database = {"TEST_DATABASE_URL": postgres.database_url("postgres")}
        if broker == "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            return {**database, "TEST_REDIS_URL": server.url}
        return {**database, "TEST_RABBITMQ_URL": request.getfixturevalue("rabbit_url")}

    return given


@pytest.mark.services
@pytest.mark.parametrize(("broker", "library"), [("redis", "aio_pika"), ("rabbitmq", "redis")])
def test_they_pass_with_servers_of_their_own(
    shop: Path, add_consumer: Script, script: Script, *, broker: str, library: str
) -> None:
    # Given a project that turns warnings into errors, and has not got what only the other broker needs
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + STRICT)
    missing = shop.parent / "missing" / f"{library}.py"
    missing.parent.mkdir()
    missing.write_text(f"raise ImportError('no {library} here')")
    add_consumer(shop, broker=broker)
    script("outbox-relay", "--project", shop)

    # When its tests run without any server being given
    done = run_tests(shop, PYTHONPATH=str(missing.parent))

    # Then all pass, and every account is printed and clean
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout
    accounts = ledgers(done.stdout)
    assert len(accounts) == 11
    assert sum(account["lost"] for account in accounts) == 0
    assert sum(account["recovered"] for account in accounts) >= 4


def test_they_say_what_to_set_where_there_is_no_server(shop: Path, add_consumer: Script) -> None:
    # Given a machine without RabbitMQ
    add_consumer(shop, broker="rabbitmq")
    lab = shop / "tests" / "workers" / "rabbit_lab.py"
    text = lab.read_text()
    assert text.count("/usr/lib/rabbitmq/bin") == 1
    lab.write_text(text.replace("/usr/lib/rabbitmq/bin", "/nowhere"))

    done = run_tests(shop, "-k", "test_one_message", PATH="/nowhere")

    # Then the test fails, it is not skipped
    assert done.returncode == 1
    assert "1 error" in done.stdout
    assert "set TEST_RABBITMQ_URL to the address of one for tests, or install rabbitmq-server" in done.stdout


def test_those_of_an_ordered_worker_pass(shop: Path, add_consumer: Script, servers: Servers) -> None:
    add_consumer(shop, "--with", "in-order")

    done = run_tests(shop, **servers("redis"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    assert [account["lost"] + account["duplicated"] for account in ledgers(done.stdout)] == [0] * 6


@pytest.mark.parametrize(
    ("broker", "some", "number"),
    [
        ("redis", "place_order or outbox_relay or test_one_message", 12),
        ("rabbitmq", "outbox_relay or test_one_message or do_not_fit", 8),
    ],
)
def test_they_pass_in_a_renamed_package_with_servers_that_are_given(
    acme: Path, add_consumer: Script, script: Script, servers: Servers, *, broker: str, some: str, number: int
) -> None:
    # Given another package below src/, a payload with parts, and one with an idempotency key
    add_consumer(acme, broker=broker, name="place_order", calls="acme.services.orders:OrderService.place")
    add_consumer(acme, broker=broker, name="capture", calls="acme.services.payments:PaymentService.capture")
    script("outbox-relay", "--project", acme)

    # When the tests run without pytest-asyncio and in another import mode
    options = ("-p", "no:asyncio", "--import-mode=importlib", "-W", "error", "-k", some)
    done = run_tests(acme, *options, **servers(broker))

    # Then all pass
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{number} passed" in done.stdout


def test_consumers_of_both_brokers_are_tested_together(
    shop: Path, add_consumer: Script, servers: Servers
) -> None:
    add_consumer(shop)
    add_consumer(shop, broker="rabbitmq", name="cancel", calls="app.services.orders:OrderService.cancel")

    done = run_tests(shop, "-k", "test_one_message", **(servers("redis") | servers("rabbitmq")))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_queue_of_the_users_own_is_found(shop: Path, add_consumer: Script, servers: Servers) -> None:
    # Given a consumer whose queue has another name and is bound to an exchange of its own
    add_consumer(shop, broker="rabbitmq")
    worker = shop / "app" / "consumers" / "order_paid.py"
    text = worker.read_text().replace(
        "return RabbitConsumer(consumer)",
        'return RabbitConsumer(consumer, queue=Queue("paid", "shop.order.*", "shop", single_active=True))',
    )
    worker.write_text(f"from app.core.rabbit_topology import Queue\n{text}".replace(FUTURE, ""))

    some = ("-k", "test_one_message or do_not_fit")
    done = run_tests(shop, *some, **servers("rabbitmq"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_service_that_is_a_plain_function_is_replaced_too(
    shop: Path,
    service: Callable[[str], Path],
    add_consumer: Script,
    servers: Servers,
) -> None:
    service(
        "from sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
        "async def touch(session: AsyncSession, numbers: list[int]) -> None:\n    raise NotImplementedError\n"
    )
    add_consumer(shop, name="touched", calls="app.services.made:touch")

    done = run_tests(shop, "-k", "test_one_message", **servers("redis"))

    assert done.returncode == 0, done.stdout + done.stderr


def test_they_touch_no_database_but_their_own(shop: Path, add_consumer: Script, servers: Servers) -> None:
    # Given settings that take the address from another variable than the tests set
    add_consumer(shop)
    config = shop / "app" / "core" / "config.py"
    config.write_text(config.read_text().replace("    database_url: SecretStr =", "    dsn: SecretStr ="))
    database = shop / "app" / "core" / "database.py"
    database.write_text(database.read_text().replace("settings.database_url", "settings.dsn"))

    # When the tests run
    done = run_tests(shop, "-x", **servers("redis"))

    # Then they stop before anything is written, and say what to change
    assert done.returncode == 1
    assert "sessions go to shop, not to the test's database: see DATABASE_VARIABLE" in done.stdout


def break_joint(shop: Path, file: str, old: str, new: str) -> None:
    """Replace code, and shorten the tests' patience: what they wait for will never be."""
    path = shop / "app" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    for path in (shop / "tests" / "workers").glob("*.py"):
        brief = path.read_text().replace("CELERY_DEADLINE = 60.0", "CELERY_DEADLINE = 8.0")
        path.write_text(brief.replace("\nDEADLINE = 20.0", "\nDEADLINE = 6.0"))


BREAKS = {
    "the session helper does not commit": (
        "redis",
        "core/database.py",
        "async with session_factory() as session, session.begin():",
        "async with session_factory() as session:",
        "test_one_message",
    ),
    "the handler opens a session of its own": (
        "redis",
        "consumers/order_paid.py",
        "    await OrderService(session).mark_paid(",
        """
    from app.core.database import get_session
    async with get_session() as session:
      await OrderService(session).mark_paid(""",
        "test_one_message",
    ),
    "the service has another signature than the handler thinks": (
        "redis",
        "services/orders.py",
        "async def mark_paid(self, order_id: int, payment_reference: str)",
        "async def mark_paid(self, order_id: int, reference: str)",
        "test_one_message",
    ),
    "a message is acknowledged whatever becomes of it": (
        "redis",
        "core/message_worker.py",
        "if isinstance(outcome, Done):",
        "if True:",
        "test_failure_that_passes",
    ),
    "nothing is acknowledged": (
        "rabbitmq",
        "core/rabbit_queue.py",
        "tags = [arrival.tag for arrival in arrivals if self.has(arrival)]",
        "tags: list[int] = []",
        "test_what_is_done_is_acknowledged",
    ),
    "the copy for a retry is not sent": (
        "rabbitmq",
        "core/rabbit_queue.py",
        "            await self._copies.publish(copy, key, exchange)\n",
        "            pass\n",
        "test_failure_that_passes",
    ),
    "dead letters are not kept as they came": (
        "rabbitmq",
        "core/rabbit_queue.py",
        "        message.body,\n        headers=",
        "        b'',\n        headers=",
        "test_messages_that_do_not_fit",
    ),
    "the relay never looks whether the broker was emptied": (
        "rabbitmq",
        "core/rabbit_broker.py",
        "return Loss.ALL",
        "return Loss.NONE",
        "test_messages_that_the_broker_has_lost",
    ),
}


@pytest.mark.services
def test_those_of_a_cron_job_pass_with_a_database_of_their_own(shop: Path, add_job: Script) -> None:
    # Given a project without any broker, which turns warnings into errors
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + STRICT)
    add_job(shop, *NIGHTLY)

    # When its tests run without any server being given
    done = run_tests(shop)

    # Then all pass, and every account is clean
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    accounts = ledgers(done.stdout)
    assert [account["lost"] + account["duplicated"] for account in accounts] == [0] * 5
    assert sum(account["recovered"] for account in accounts) >= 3


def test_those_of_a_cron_job_pass_in_a_renamed_package(acme: Path, add_job: Script, servers: Servers) -> None:
    add_job(acme, *NIGHTLY, calls="acme.services.reports:ReportService.daily_sales")
    options = ("-p", "no:asyncio", "--import-mode=importlib", "-W", "error", "-k", "test_each_tick")

    done = run_tests(acme, *options, **servers("redis"))

    assert done.returncode == 0, done.stdout + done.stderr


CRON_BREAKS = {
    "the run is not noted in the transaction of its effect": (
        "core/cron_attempt.py",
        "if (await session.execute(FINISH, {",
        "if False and (await session.execute(FINISH, {",
        "test_each_tick",
    ),
    "runs of a dead scheduler are left to it": (
        "core/cron_store.py",
        "r.state = 'running' AND r.lease_until < now()",
        "r.state = 'running' AND r.lease_until < now() - interval '1 h'",
        "test_scheduler_killed",
    ),
}


@pytest.mark.parametrize("what", CRON_BREAKS)
def test_those_of_a_cron_job_fail_when_a_joint_is_broken(
    shop: Path, add_job: Script, servers: Servers, what: str
) -> None:
    file, old, new, noticed_by = CRON_BREAKS[what]
    add_job(shop, *NIGHTLY)
    break_joint(shop, file, old, new)

    done = run_tests(shop, "-k", noticed_by, **servers("redis"))

    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout, done.stdout


@pytest.mark.services
def test_those_of_celery_tasks_pass_with_servers_of_their_own(
    shop: Path, add_task: Script, add_tracked: Script
) -> None:
    # Given a project that turns warnings into errors, with a plain and a tracked task
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + STRICT)
    add_task(shop)
    add_tracked(shop)

    # When its tests run without any server being given
    done = run_tests(shop)

    # Then all pass, and every account is clean
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout
    accounts = ledgers(done.stdout)
    assert [account["lost"] + account["duplicated"] for account in accounts] == [0] * 12
    assert sum(account["recovered"] for account in accounts) >= 6


def test_those_of_celery_tasks_pass_in_a_renamed_package_over_rabbitmq(
    acme: Path, add_task: Script, add_tracked: Script, servers: Servers
) -> None:
    # Given a project without the client of Redis, and a job that uses what its service returns
    missing = acme.parent / "missing" / "redis.py"
    missing.parent.mkdir()
    missing.write_text("raise ImportError('no redis here')")
    add_task(acme, "--broker", "rabbitmq", calls="acme.services.emails:EmailService.send")
    add_tracked(acme, calls="acme.services.payments:PaymentService.capture")
    task = acme / "src" / "acme" / "tasks" / "process_payment.py"
    text = task.read_text().replace(" -> None:", " -> dict[str, str]:")
    text = text.replace("    await PaymentService", "    payment = await PaymentService")
    task.write_text(f'{text}    return {{"reference": payment.reference}}\n')
    test = acme / "tests" / "workers" / "test_job_process_payment.py"
    given = 'RETURNS: dict[str, Any] | None = {"reference": "r1"}'
    test.write_text(test.read_text().replace("RETURNS: dict[str, Any] | None = None", given))

    # When the most telling tests run, without pytest-asyncio and in another import mode
    some = "committed or do_not_fit or failure_that_passes or killed"
    options = ("-p", "no:asyncio", "--import-mode=importlib", "-W", "error", "-k", some)
    done = run_tests(acme, *options, PYTHONPATH=str(missing.parent), **servers("rabbitmq"))

    # Then all pass
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


CELERY_BREAKS = {
    "a failed message is not sent again": (
        False,
        "core/celery_task.py",
        "            send_again(arrival, delivery + 1, pause)\n",
        "            pass\n",
        "test_failure_that_passes",
    ),
    "jobs of a dead worker are left to it": (
        True,
        "core/job_upkeep.py",
        "r.state IN {HELD} AND r.lease_until < now()",
        "r.state IN {HELD} AND r.lease_until < now() - interval '1 h'",
        "test_worker_killed",
    ),
}


@pytest.mark.parametrize("what", CELERY_BREAKS)
def test_those_of_celery_tasks_fail_when_a_joint_is_broken(
    shop: Path, add_task: Script, add_tracked: Script, servers: Servers, what: str
) -> None:
    tracked, file, old, new, noticed_by = CELERY_BREAKS[what]
    (add_tracked if tracked else add_task)(shop)
    break_joint(shop, file, old, new)

    done = run_tests(shop, "-k", noticed_by, **servers("redis"))

    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout, done.stdout


@pytest.mark.services
def test_those_of_an_llm_job_pass_with_a_database_of_their_own(shop: Path, add_llm: Script) -> None:
    # Given a project without any broker, which turns warnings into errors
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + STRICT)
    add_llm(shop)

    # When its tests run without any server being given
    done = run_tests(shop)

    # Then all pass, and every account is clean
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    accounts = ledgers(done.stdout)
    assert [account["lost"] + account["duplicated"] for account in accounts] == [0] * 5


def test_those_of_an_llm_job_pass_in_a_renamed_package_and_for_openai(
    acme: Path, add_llm: Script, servers: Servers
) -> None:
    add_llm(acme, calls="acme.services.documents:DocumentService.store_summary")
    kit = acme / "tests" / "workers" / "llm_kit.py"
    kit.write_text(kit.read_text().replace("LLM_SETTINGS = {", 'LLM_SETTINGS = {"LLM_WIRE": "openai", '))
    options = ("-p", "no:asyncio", "--import-mode=importlib", "-W", "error", "-k", "test_what_is_committed")

    done = run_tests(acme, *options, **servers("redis"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_those_of_webhooks_pass(shop: Path, script: Script, servers: Servers) -> None:
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + STRICT)
    for kind in ("webhook-sender", "webhook-receiver"):
        script(kind, "--project", shop)

    done = run_tests(shop, **servers("redis"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout
    accounts = ledgers(done.stdout)
    assert [account["lost"] + account["duplicated"] for account in accounts] == [0] * 5


def test_those_of_a_receiver_of_webhooks_fail_when_it_stores_them_again(
    shop: Path, script: Script, servers: Servers
) -> None:
    script("webhook-receiver", "--project", shop)
    break_joint(shop, "api/webhook_in.py", ".first() is not None:", ".first() or True:")

    done = run_tests(shop, **servers("redis"))

    assert done.returncode == 1, done.stdout
    assert "1 failed, 2 passed" in done.stdout, done.stdout


BATCHED = ("--batch", "--type", "shop.document.summarise.overnight.v1")


def test_those_of_a_batched_job_pass(shop: Path, add_llm: Script, servers: Servers) -> None:
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + STRICT)
    add_llm(shop, *BATCHED, name="summarise_overnight")

    done = run_tests(shop, **servers("redis"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    accounts = ledgers(done.stdout)
    assert [account["lost"] + account["duplicated"] for account in accounts] == [0] * 3


def test_those_of_a_batched_job_fail_when_nobody_looks_for_an_accepted_batch(
    shop: Path, add_llm: Script, servers: Servers
) -> None:
    add_llm(shop, *BATCHED, name="summarise_overnight")
    break_joint(shop, "core/llm_batch_worker.py", "if id_ is not None:", "if False:")

    done = run_tests(shop, "-k", "test_worker_killed_before_it_knows", **servers("redis"))

    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout, done.stdout


LLM_BREAKS = {
    "an answer that was paid for is not looked for": (
        "core/llm_call.py",
        "if context.attempt > 1 and",
        "if False and",
        "test_answer_that_could_not",
    ),
    "a provider that is busy uses up attempts": (
        "core/llm_provider.py",
        "BUSY = frozenset({429, 529})",
        "BUSY = frozenset({529})",
        "test_provider_that_is_busy",
    ),
}


@pytest.mark.parametrize("what", LLM_BREAKS)
def test_those_of_an_llm_job_fail_when_a_joint_is_broken(
    shop: Path, add_llm: Script, servers: Servers, what: str
) -> None:
    file, old, new, noticed_by = LLM_BREAKS[what]
    add_llm(shop)
    break_joint(shop, file, old, new)

    done = run_tests(shop, "-k", noticed_by, **servers("redis"))

    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout, done.stdout


@pytest.mark.slow
def test_what_lands_with_llm_jobs_and_webhooks_passes_the_linter_and_the_type_checker(
    acme: Path, add_llm: Script, script: Script
) -> None:
    extras = [word for extra in LLM.extras for word in ("--with", extra)]
    calls = "acme.services.documents:DocumentService.store_summary"
    for name in ("brief", "summarise_the_documents_of_a_customer"):
        add_llm(acme, *extras, "--deadline", "1h", "--timeout", "1m", name=name, calls=calls)
    add_llm(acme, "--batch", name="overnight", calls=calls)
    for kind in ("webhook-sender", "webhook-receiver"):
        script(kind, "--project", acme)
    check_style(acme)


@pytest.mark.parametrize("what", BREAKS)
def test_they_fail_when_a_joint_is_broken(
    shop: Path, add_consumer: Script, script: Script, servers: Servers, what: str
) -> None:
    # Given a project in which one joint is broken
    broker, file, old, new, noticed_by = BREAKS[what]
    add_consumer(shop, broker=broker)
    script("outbox-relay", "--project", shop)
    break_joint(shop, file, old, new)

    # When the tests run
    done = run_tests(shop, "-k", noticed_by, **servers(broker))

    # Then they fail, and not for want of a server
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("broker", BROKERS)
def test_what_lands_passes_the_linter_and_the_type_checker(
    acme: Path, add_consumer: Script, add_job: Script, script: Script, broker: str
) -> None:
    extras = [word for extra in BROKERS[broker].extras for word in ("--with", extra)]
    services = {"place_order": "orders:OrderService.place", "capture": "payments:PaymentService.capture"}
    for name, calls in services.items():
        add_consumer(acme, *extras, broker=broker, name=name, calls=f"acme.services.{calls}")
    script("outbox-relay", "--project", acme)
    some = ("--with", "cron-api", "--with", "lifespan")
    add_job(acme, *NIGHTLY, *some, calls="acme.services.reports:ReportService.daily_sales")
    check_style(acme)


@pytest.mark.slow
def test_what_lands_with_celery_passes_the_linter_and_the_type_checker(
    acme: Path, add_task: Script, add_tracked: Script, add_job: Script
) -> None:
    add_task(acme, calls="acme.services.emails:EmailService.send")
    add_job(acme, *NIGHTLY, calls="acme.services.reports:ReportService.daily_sales")
    extras = [word for extra in CELERY_REDIS.extras for word in ("--with", extra)]
    calls = "acme.services.payments:PaymentService.capture"
    for name in ("capture", "capture_the_payment_of_an_order_that_was_placed"):
        add_tracked(acme, *extras, "--deadline", "1h", "--timeout", "1m", name=name, calls=calls)
    check_style(acme)


def check_style(acme: Path) -> None:
    """Linter, formatter and type checker find nothing."""
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
