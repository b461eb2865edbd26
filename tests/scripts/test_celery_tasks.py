"""Celery tasks that add_worker.py adds: their files, their text, and what is refused."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workerkit.brokers import CELERY, CELERY_REDIS
from workerkit.record import NAME as RECORD

Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]
ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "templates" / "app" / "tasks"

USAGE, SERVICE, TAKEN = 2, 4, 5
MAIL = ("--type", "mail.invoice.v1")
PAY = ("--type", "shop.payment.process.v1", "--deadline", "1h")
MARK_PAID = "app.services.orders:OrderService.mark_paid"
CELERY_LINE = "env REMAP_SIGTERM=SIGQUIT celery -A app.core.celery_app worker --loglevel INFO"


def tables(names: set[str]) -> list[str]:
    """The tables of new migrations, in their order."""
    files = sorted(name for name in names if name.startswith("migrations/"))
    return [re.sub(r".*/\d{8}_\d{4}_(.*)\.py", r"\1", name) for name in files]


# -- files -------------------------------------------------------------------------------------------------


def test_first_plain_task_brings_app_relay_tables_and_tests(shop: Path, add_task: Script, tree: Tree) -> None:
    before = tree(shop)

    added = add_task(shop, *MAIL)

    assert added.code == 0, added.err
    after = tree(shop)
    new = after.keys() - before.keys()
    assert {name: after[name] for name in before} == before
    assert {
        "app/tasks/invoice_email.py",
        "app/core/celery_app.py",
        "app/core/celery_letters.py",
        "app/core/celery_task.py",
        "app/workers/dead_letters.py",
        "app/workers/outbox_relay.py",
        "app/workers/run.py",
        "tests/workers/conftest.py",
        "tests/workers/celery_kit.py",
        "tests/workers/redis_lab.py",
        "tests/workers/test_task_invoice_email.py",
    } <= new
    assert tables(new) == ["inbox_message", "outbox_message", "dead_letter", "task_start"]
    foreign = ("cron_", "stream_", "rabbit", "job", "redis_broker", "api/")
    assert [name for name in new for word in foreign if word in name] == []


def test_first_tracked_task_brings_dispatcher_table_and_no_outbox(
    shop: Path, add_tracked: Script, tree: Tree
) -> None:
    before = tree(shop)

    added = add_tracked(shop, *PAY)

    assert added.code == 0, added.err
    new = tree(shop).keys() - before.keys()
    assert {
        "app/tasks/process_payment.py",
        "app/tasks/jobs.py",
        "app/core/celery_app.py",
        "app/core/celery_letters.py",
        "app/core/job.py",
        "app/core/job_dispatcher.py",
        "app/workers/job_dispatcher.py",
        "tests/workers/test_job_process_payment.py",
    } <= new
    assert tables(new) == ["job", "dead_letter"]
    foreign = ("cron_", "stream_", "rabbit", "celery_task", "outbox_relay", "inbox", "api/")
    assert [name for name in new for word in foreign if word in name] == []


def test_what_celery_loads_by_name_has_landed(shop: Path, add_tracked: Script, tree: Tree) -> None:
    add_tracked(shop)

    text = (shop / "app" / "core" / "celery_app.py").read_text()
    files = tree(shop)
    named = set(re.findall(r'"(app\.core\.\w+)[:"]', text))
    assert named == {"app.core.celery_letters", "app.core.celery_consumer"}
    assert [name for name in named if f"{name.replace('.', '/')}.py" not in files] == []


@pytest.mark.parametrize("tracked", [False, True])
def test_next_task_is_one_file_and_its_test(
    shop: Path, add_task: Script, tree: Tree, *, tracked: bool
) -> None:
    options = ("--tracked",) if tracked else ()
    add_task(shop, *options)
    before = tree(shop)

    added = add_task(shop, *options, name="note_payment", calls=MARK_PAID)

    assert added.code == 0, added.err
    assert tree(shop).keys() - before.keys() == {
        "app/tasks/note_payment.py",
        f"tests/workers/test_{'job' if tracked else 'task'}_note_payment.py",
    }


@pytest.mark.parametrize("broker", [broker.name for broker in CELERY])
def test_second_run_changes_nothing(
    shop: Path, add_task: Script, add_tracked: Script, script: Script, tree: Tree, *, broker: str
) -> None:
    # Given both kinds of tasks, of which only the first is told the broker
    add_task(shop, "--broker", broker)
    add_tracked(shop, *PAY, "--with", "jobs-api")
    once = tree(shop)

    again = add_task(shop, "--format", "json")
    tracked = add_tracked(shop, *PAY, "--with", "jobs-api", "--format", "json")

    assert (again.code, again.data["changed"], again.data["broker"]) == (0, False, broker)
    assert (tracked.code, tracked.data["changed"], tracked.data["broker"]) == (0, False, broker)
    assert tree(shop) == once
    assert script("diff", "--project", shop).code == 0


def test_extras_land_when_asked_for(shop: Path, add_tracked: Script, tree: Tree) -> None:
    add_tracked(shop)
    files = {
        "jobs-api": {"api/jobs.py", "api/job_accept.py", "api/job_shown.py", "api/worker_answers.py"},
        "job-flow": {"core/job_flow.py"},
    }
    assert files.keys() == CELERY_REDIS.extras.keys()
    for extra, wanted in files.items():
        before = tree(shop)
        added = add_tracked(shop, "--with", extra)
        assert (added.code, "wire jobs-api: " in added.out) == (0, extra == "jobs-api"), added.err
        assert tree(shop).keys() - before.keys() == {f"app/{name}" for name in wanted}


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_tracked_tasks_beside_consumers_and_their_relay(
    shop: Path, add_consumer: Script, add_tracked: Script, script: Script, tree: Tree, *, broker: str
) -> None:
    add_consumer(shop, broker=broker, name="process_payment", calls=MARK_PAID)
    script("outbox-relay", "--project", shop)
    before = {name: text for name, text in tree(shop).items() if name != RECORD}

    added = add_tracked(shop)

    assert added.code == 0, added.err
    assert {name: text for name, text in tree(shop).items() if name in before} == before
    assert script("outbox-relay", "--project", shop, "--format", "json").data["broker"] == broker
    assert script("diff", "--project", shop).code == 0


def test_reports(shop: Path, add_task: Script, add_tracked: Script) -> None:
    plain = add_task(shop, *MAIL, "--format", "json", "--dry-run").data
    tracked = add_tracked(shop, *PAY, "--broker", "rabbitmq", "--format", "json", "--dry-run").data

    assert plain["run"] == tracked["run"] == CELERY_LINE
    relay, dispatcher = ("outbox_relay", "job_dispatcher")
    for data, beside in ((plain, relay), (tracked, dispatcher)):
        assert data["procfile"].splitlines() == [
            f"celery: exec {CELERY_LINE}",
            f"{beside}: exec python -m app.workers.run {beside}",
        ]
    assert plain["environment"].keys() == {"CELERY_BROKER_URL", "OUTBOX_SOURCE"}
    assert tracked["environment"] == {"CELERY_BROKER_URL": "amqp://user:password@host:5672/"}
    assert plain["prove"] == "python -m pytest tests/workers/test_task_invoice_email.py"
    assert tracked["prove"] == "python -m pytest tests/workers/test_job_process_payment.py"
    assert (plain["type"], tracked["type"]) == ("mail.invoice.v1", "shop.payment.process.v1")
    assert any("celery[redis]>=5.7, redis[hiredis]>=8.1" in step for step in plain["todo"])
    assert any(step.endswith(": celery>=5.7") for step in tracked["todo"])
    assert any("aio-pika" in step and "TEST_REDIS_URL" not in step for step in tracked["todo"])
    text = add_tracked(shop, *PAY).out
    assert "kind of job   shop.payment.process.v1\n" in text
    assert "message type  mail.invoice.v1   (Celery task mail.invoice)" in add_task(shop, *MAIL).out


def test_tables_without_alembic_are_named(shop: Path, add_task: Script) -> None:
    (shop / "alembic.ini").unlink()

    todo = add_task(shop, "--format", "json").data["todo"]

    for table in ("inbox_message", "outbox_message", "dead_letter", "task_start"):
        assert any(f"create the table {table} of app.models.{table}" in step for step in todo)


# -- text --------------------------------------------------------------------------------------------------


def test_tasks_of_the_templates_are_what_the_script_writes(
    shop: Path, add_task: Script, add_tracked: Script
) -> None:
    add_task(shop, *MAIL)
    add_tracked(shop, *PAY)

    for name in ("invoice_email.py", "process_payment.py"):
        assert (shop / "app" / "tasks" / name).read_text() == (TASKS / name).read_text()


def test_tasks_in_a_renamed_package(acme: Path, add_task: Script, add_tracked: Script, tree: Tree) -> None:
    plain = add_task(acme, "--format", "json", calls="acme.services.emails:EmailService.send")
    calls = "acme.services.payments:PaymentService.capture"
    tracked = add_tracked(acme, "--with", "jobs-api", "--format", "json", calls=calls)

    files = tree(acme)
    assert '"acme.core.celery_letters"' in files["src/acme/core/celery_app.py"]
    assert 'FOLDER = "acme.tasks"' in files["src/acme/core/celery_app.py"]
    assert "-A acme.core.celery_app worker" in plain.data["run"]
    assert '@job("shop.process.payment.v1"' in files["src/acme/tasks/process_payment.py"]
    for path in (file["path"] for data in (plain.data, tracked.data) for file in data["files"]):
        assert re.findall(r"\bapp\.(?:core|tasks|workers|api)\.", files[path]) == [], path


def test_limits_and_long_names_of_a_job(shop: Path, add_tracked: Script) -> None:
    name = "capture_the_payment_of_an_order_that_was_placed"
    add_tracked(shop, "--deadline", "2d", "--timeout", "5m", name=name)
    add_tracked(shop, name="brief")

    text = (shop / "app" / "tasks" / f"{name}.py").read_text()
    ast.parse(text)
    assert "    deadline=timedelta(days=2),\n    timeout=timedelta(minutes=5),\n)\n" in text
    assert max(map(len, text.splitlines())) <= 110
    assert "timedelta" not in (shop / "app" / "tasks" / "brief.py").read_text()


def test_method_without_parameters_and_a_plain_function(
    shop: Path, service: Callable[[str], Path], add_task: Script, add_tracked: Script
) -> None:
    service(
        "from sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
        "async def touch(session: AsyncSession) -> None: ...\n"
    )

    for add, name in ((add_task, "plainly"), (add_tracked, "tracked")):
        added = add(shop, name=name, calls="app.services.made:touch")
        assert added.code == 0, added.err
        text = (shop / "app" / "tasks" / f"{name}.py").read_text()
        ast.parse(text)
        assert "    await touch(\n        session,\n    )\n" in text


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--deadline", "1h"), USAGE, "--deadline: only with --tracked"),
        (("--with", "jobs-api"), USAGE, "--with jobs-api: for jobs"),
        (("--tracked", "--timeout", "soon"), USAGE, "--timeout soon: write a length of time"),
        (("--type", "mail"), USAGE, "--type mail: write it as <name>.v<number>"),
    ],
)
def test_tasks_that_make_no_sense(
    shop: Path, add_task: Script, *, options: tuple[str, ...], code: int, text: str
) -> None:
    run = add_task(shop, *options)

    assert (run.code, run.out, len(run.err.splitlines())) == (code, "", 1), run.err
    assert text in run.err
    assert not (shop / "app" / "tasks").exists()


@pytest.mark.parametrize(
    ("name", "code"), [("class", USAGE), ("_mail", USAGE), ("jobs", TAKEN), ("celery", TAKEN)]
)
def test_names_that_are_no_tasks(shop: Path, add_task: Script, name: str, code: int) -> None:
    run = add_task(shop, name=name)

    assert run.code == code
    assert name in run.err


def test_one_outbox_has_one_relay(
    shop: Path, add_task: Script, add_tracked: Script, script: Script, tree: Tree
) -> None:
    # Given an outbox whose messages go to Redis
    script("outbox-relay", "--project", shop)
    before = tree(shop)

    # Then a plain task, which would need them to go to Celery, is refused, and a tracked one is not
    run = add_task(shop)
    assert (run.code, "sends to Redis" in run.err, "--tracked needs none" in run.err) == (TAKEN, True, True)
    assert tree(shop) == before
    assert add_tracked(shop).code == 0


def test_the_relay_to_celery_is_not_replaced(
    shop: Path, add_task: Script, script: Script, tree: Tree
) -> None:
    add_task(shop)
    before = tree(shop)

    run = script("outbox-relay", "--project", shop)

    assert (run.code, "sends to Celery" in run.err) == (TAKEN, True)
    assert tree(shop) == before


def test_task_that_exists_as_the_other_kind(
    shop: Path, add_task: Script, add_tracked: Script, tree: Tree
) -> None:
    add_task(shop)
    before = tree(shop)

    run = add_tracked(shop, name="invoice_email")

    assert (run.code, "app/tasks/invoice_email.py" in run.err) == (TAKEN, True)
    assert tree(shop) == before
