"""Cron jobs that add_worker.py adds: their files, their text, and what is refused."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workerkit.brokers import NO_BROKER
from workerkit.record import NAME as RECORD

Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]
ROOT = Path(__file__).resolve().parents[2]
JOBS = ROOT / "templates" / "app" / "jobs"

USAGE, SERVICE, TAKEN = 2, 4, 5
EXPIRE = "app.services.orders:OrderService.expire_unpaid"
NIGHTLY = ("--schedule", "30 2 * * *", "--timezone", "Europe/Berlin")
YESTERDAY = ("--set", "day=yesterday")
WEEK = ("--catch-up", "all", "--within", "7d")
HEAD = """
from sqlalchemy.ext.asyncio import AsyncSession


class MadeService:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

"""


@pytest.fixture
def made(shop: Path, service: Callable[[str], Path], add_job: Script) -> Callable[..., str]:
    """Adds a job that calls a method with these parameters; its text."""

    def make(parameters: str, *options: str, imports: str = "") -> str:
        service(f"{imports}{HEAD}    async def run(self{parameters}) -> None: ...\n")
        calls = "app.services.made:MadeService.run"
        added = add_job(shop, "--every", "5m", *options, name="made_thing", calls=calls)
        assert added.code == 0, added.err
        text = (shop / "app" / "jobs" / "made_thing.py").read_text()
        ast.parse(text)
        return text

    return make


# -- files -------------------------------------------------------------------------------------------------


def test_first_job_brings_scheduler_command_table_and_tests(shop: Path, add_job: Script, tree: Tree) -> None:
    before = tree(shop)

    added = add_job(shop, *NIGHTLY, *YESTERDAY)

    assert added.code == 0, added.err
    after = tree(shop)
    new = after.keys() - before.keys()
    assert {name: after[name] for name in before} == before
    assert {
        "app/jobs/sales_report.py",
        "app/core/cron_scheduler.py",
        "app/core/interval.py",
        "app/models/cron_run.py",
        "app/workers/cron.py",
        "app/workers/run.py",
        "app/workers/scheduler.py",
        "tests/workers/conftest.py",
        "tests/workers/test_cron_sales_report.py",
    } <= new
    assert any(name.endswith("_cron_run.py") for name in new)
    foreign = ("inbox", "outbox", "redis", "rabbit", "consumer", "dead_letters", "api/", "lifespan")
    assert [name for name in new for word in foreign if word in name] == []


def test_what_lands_is_what_the_templates_import(shop: Path, add_job: Script, tree: Tree) -> None:
    add_job(shop, *NIGHTLY, *YESTERDAY)

    landed = tree(shop / "app")
    lines = [line for text in landed.values() for line in text.splitlines()]
    found = {line.split()[1].removeprefix("app.") for line in lines if line.startswith("from app.")}
    modules = {name.removesuffix(".py").replace("/", ".") for name in landed}
    assert found <= modules | {module.rpartition(".")[0] for module in modules}


def test_second_job_is_one_file_and_its_test(shop: Path, add_job: Script, tree: Tree) -> None:
    add_job(shop, *NIGHTLY, *YESTERDAY)
    before = tree(shop)

    added = add_job(shop, "--every", "5m", "--set", "older_than=24h", name="expire_orders", calls=EXPIRE)

    assert added.code == 0, added.err
    assert tree(shop).keys() - before.keys() == {
        "app/jobs/expire_orders.py",
        "tests/workers/test_cron_expire_orders.py",
    }


def test_second_run_changes_nothing(shop: Path, add_job: Script, script: Script, tree: Tree) -> None:
    options = (*NIGHTLY, *YESTERDAY, "--with", "cron-api", "--with", "lifespan")
    add_job(shop, *options)
    once = tree(shop)

    again = add_job(shop, *options, "--format", "json")

    assert (again.code, again.data["changed"], tree(shop) == once) == (0, False, True)
    assert script("diff", "--project", shop).code == 0


def test_extras_land_when_asked_for(shop: Path, add_job: Script, tree: Tree) -> None:
    add_job(shop, *NIGHTLY, *YESTERDAY)
    files = {"cron-api": "app/api/cron.py", "lifespan": "app/core/cron_lifespan.py"}
    assert files.keys() == NO_BROKER.extras.keys()
    for extra, file in files.items():
        before = tree(shop)
        added = add_job(shop, *NIGHTLY, *YESTERDAY, "--with", extra)
        assert (added.code, f"wire {extra}: " in added.out) == (0, True), added.err
        assert tree(shop).keys() - before.keys() == {file}


def test_cron_beside_a_consumer_of_the_same_name(
    shop: Path, add_job: Script, add_consumer: Script, script: Script, tree: Tree
) -> None:
    add_consumer(shop)
    before = {name: text for name, text in tree(shop).items() if name != RECORD}

    added = add_job(
        shop,
        "--every",
        "1h",
        "--set",
        "order_id=1",
        "--set",
        "payment_reference=x",
        name="order_paid",
        calls="app.services.orders:OrderService.mark_paid",
    )

    assert added.code == 0, added.err
    assert {name: text for name, text in tree(shop).items() if name in before} == before
    relay = script("outbox-relay", "--project", shop, "--format", "json")
    assert relay.data["broker"] == "redis", relay.err
    assert script("diff", "--project", shop).code == 0


def test_report_of_a_job(shop: Path, add_job: Script) -> None:
    data = add_job(shop, *NIGHTLY, *YESTERDAY, "--format", "json", "--dry-run").data
    text = add_job(shop, *NIGHTLY, *YESTERDAY).out

    assert data["run"] == "python -m app.workers.run scheduler"
    assert data["procfile"] == "scheduler: exec python -m app.workers.run scheduler"
    assert data["prove"] == "python -m pytest tests/workers/test_cron_sales_report.py"
    assert data["history"] == "python -m app.workers.cron history sales_report"
    assert data["schedule"] == "30 2 * * * Europe/Berlin"
    assert (data["type"], data["dead_letters"], data["environment"]) == (None, None, {})
    assert any("tzdata" in step for step in data["todo"])
    assert "due    30 2 * * * Europe/Berlin" in text


def test_tables_without_alembic_are_named(shop: Path, add_job: Script) -> None:
    (shop / "alembic.ini").unlink()

    todo = add_job(shop, *NIGHTLY, *YESTERDAY, "--format", "json").data["todo"]

    assert any("create the tables cron_job and cron_run of app.models.cron_run" in step for step in todo)


# -- text --------------------------------------------------------------------------------------------------


def test_jobs_of_the_templates_are_what_the_script_writes(shop: Path, add_job: Script) -> None:
    add_job(shop, *NIGHTLY, *YESTERDAY, *WEEK)
    older = ("--set", "older_than=24h")
    add_job(shop, "--every", "5m", "--deadline", "5m", *older, name="expire_orders", calls=EXPIRE)

    for name in ("sales_report.py", "expire_orders.py"):
        assert (shop / "app" / "jobs" / name).read_text() == (JOBS / name).read_text()


def test_cron_in_a_renamed_package(acme: Path, add_job: Script, tree: Tree) -> None:
    calls = "acme.services.reports:ReportService.daily_sales"
    added = add_job(acme, *NIGHTLY, *YESTERDAY, "--with", "cron-api", "--format", "json", calls=calls)

    assert added.code == 0, added.err
    files = tree(acme)
    assert "from acme.core.cron import Cron\n" in files["src/acme/jobs/sales_report.py"]
    for path in (file["path"] for file in added.data["files"]):
        assert "app.core" not in files[path], path
        assert "app.jobs" not in files[path], path


def test_values_are_passed_by_the_types_of_the_parameters(made: Callable[..., str]) -> None:
    text = made(
        ", day: dt.date, now: dt.datetime, *, patience: dt.timedelta | None, ratio: float, dry: bool"
        ", to: str, limit: int = 5, more: int = 1, idempotency_key: str",
        *("--set", "day=today", "--set", "patience=90s", "--set", "ratio=0.5", "--set", "dry=True"),
        *("--set", 'to=the "boss"', "--set", "limit=-7"),
        imports="import datetime as dt\n",
    )

    for line in (
        "day=tick.due_at.date(),",
        "now=tick.due_at,",
        "patience=timedelta(seconds=90),",
        "ratio=0.5,",
        "dry=True,",
        'to="the \\"boss\\"",',
        "limit=-7,",
        "idempotency_key=tick.idempotency_key,",
    ):
        assert f"        {line}\n" in text
    assert "more" not in text
    assert "import datetime as dt" not in text


def test_method_without_parameters(made: Callable[..., str]) -> None:
    text = made("")

    assert "    await MadeService(session).run()\n    return Done()\n" in text
    assert "schedule=Every(timedelta(minutes=5)),\n    run=run,\n)\n" in text
    assert "Cron(" not in text


def test_plain_function_gets_the_session_first(
    shop: Path, service: Callable[[str], Path], add_job: Script
) -> None:
    service(
        "from datetime import datetime\n"
        "from sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
        "async def touch(session: AsyncSession, now: datetime) -> None: ...\n"
    )

    added = add_job(shop, "--schedule", "@daily", "--timezone", "UTC", calls="app.services.made:touch")

    assert added.code == 0, added.err
    text = (shop / "app" / "jobs" / "sales_report.py").read_text()
    assert "    await touch(\n        session,\n        now=tick.due_at,\n    )\n" in text
    assert "timedelta" not in text


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "texts"),
    [
        ((), USAGE, ["--schedule", "--every 5m"]),
        ((*NIGHTLY, "--every", "5m"), USAGE, ["either"]),
        (NIGHTLY[:2], USAGE, ["--timezone is needed"]),
        (("--every", "5m", *NIGHTLY[2:]), USAGE, ["elapsed time"]),
        (("--every", "5"), USAGE, ["--every 5:", "24h"]),
        (("--schedule", "30 2 * *", *NIGHTLY[2:]), USAGE, ["five fields are needed"]),
        (("--schedule", "30 24 * * *", *NIGHTLY[2:]), USAGE, ["hour '24': 0 to 23"]),
        ((*NIGHTLY[:3], "Europe/Berli"), USAGE, ["Europe/Berli", "Europe/Berlin or UTC"]),
        (("--every", "5m", "--deadline", "soon"), USAGE, ["--deadline soon"]),
        (("--every", "5m"), SERVICE, ["day: date is needed", "--set day=today or yesterday"]),
        (("--every", "5m", "--set", "day=monday"), SERVICE, ["today or yesterday can be given"]),
        (("--every", "5m", "--set", "dya=today"), SERVICE, ["no parameter dya"]),
    ],
)
def test_jobs_that_make_no_sense(
    shop: Path, add_job: Script, *, options: tuple[str, ...], code: int, texts: list[str]
) -> None:
    run = add_job(shop, *options)

    assert (run.code, run.out, len(run.err.splitlines())) == (code, "", 1), run.err
    assert [text for text in texts if text not in run.err] == []
    assert not (shop / "app" / "jobs").exists()


@pytest.mark.parametrize(
    ("options", "code"),
    [(("--set", "day"), USAGE), (("--overlap", "queue"), USAGE), (("--with", "rpc"), USAGE)],
)
def test_options_that_are_none(shop: Path, add_job: Script, *, options: tuple[str, ...], code: int) -> None:
    assert add_job(shop, "--every", "5m", *YESTERDAY, *options).code == code


@pytest.mark.parametrize("name", ["class", "sales-report", "_sales_report"])
def test_names_that_are_no_jobs(shop: Path, add_job: Script, name: str) -> None:
    run = add_job(shop, *NIGHTLY, *YESTERDAY, name=name)

    assert run.code == USAGE
    assert name in run.err


def test_parameters_that_no_option_can_give(
    shop: Path, service: Callable[[str], Path], add_job: Script
) -> None:
    method = "    async def run(self, price: Decimal) -> None: ...\n"
    service(f"from decimal import Decimal\n{HEAD}{method}")

    run = add_job(shop, "--every", "5m", "--set", "price=1", calls="app.services.made:MadeService.run")

    assert run.code == SERVICE
    assert "Decimal is asked for; int, float, bool, str or timedelta can be given" in run.err


def test_cron_that_exists_with_other_content(shop: Path, add_job: Script, tree: Tree) -> None:
    add_job(shop, *NIGHTLY, *YESTERDAY)
    before = tree(shop)

    run = add_job(shop, "--every", "1h", *YESTERDAY)

    assert run.code == TAKEN
    assert "app/jobs/sales_report.py" in run.err
    assert tree(shop) == before
