"""What add_worker.py writes into a project, and what it leaves alone."""

import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workerkit import dependencies, write
from workerkit.brokers import BROKERS
from workerkit.errors import WriteError
from workerkit.record import NAME as RECORD

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"
Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]


def test_first_consumer_brings_its_core_its_table_and_its_tests(
    shop: Path, add_consumer: Script, tree: Tree
) -> None:
    before = tree(shop)

    added = add_consumer(shop)

    assert added.code == 0, added.err
    after = tree(shop)
    new = after.keys() - before.keys()
    assert {name: after[name] for name in before} == before
    assert {
        "app/consumers/order_paid.py",
        "app/core/inbox.py",
        "app/models/inbox_message.py",
        "app/workers/dead_letters.py",
        "app/workers/run.py",
        "tests/workers/conftest.py",
        "tests/workers/consumer_kit.py",
        "tests/workers/lab.py",
        "tests/workers/replica.py",
        "tests/workers/test_worker_order_paid.py",
    } <= new
    assert not any("outbox" in name for name in new)
    # And the report has a line for each but the copies, which it counts
    listed = {name for name in new if name in added.out}
    lines = [line.split() for line in added.out.splitlines() if line.endswith("copies")]
    folders = Counter(f"{name.rpartition('/')[0]}/" for name in new - listed)
    assert {words[0]: int(words[1]) for words in lines} == folders
    assert set(folders) == {"app/core/", "app/workers/"}


@pytest.mark.parametrize("broker", BROKERS)
def test_what_lands_is_what_the_templates_import(
    shop: Path, add_consumer: Script, tree: Tree, broker: str
) -> None:
    # Given the templates of the consumer on the one hand
    add_consumer(shop, broker=broker)
    landed = tree(shop / "app")

    # Then every import from the package is there on the other
    found = [
        line.split()[1]
        for text in landed.values()
        for line in text.splitlines()
        if line.startswith("from app.")
    ]
    modules = {name.removesuffix(".py").replace("/", ".") for name in landed}
    packages = {module.rpartition(".")[0] for module in modules}
    assert {name.removeprefix("app.") for name in found} <= modules | packages


def test_second_run_changes_nothing(shop: Path, add_consumer: Script, script: Script, tree: Tree) -> None:
    add_consumer(shop)
    script("outbox-relay", "--project", shop)
    once = tree(shop)

    again = add_consumer(shop, "--format", "json")
    relay = script("outbox-relay", "--project", shop, "--format", "json")

    assert tree(shop) == once
    assert (again.code, relay.code) == (0, 0)
    assert not again.data["changed"]
    assert not relay.data["changed"]
    assert {file["state"] for file in again.data["files"]} == {"same"}


def test_second_consumer_is_one_file_and_its_test(shop: Path, add_consumer: Script, tree: Tree) -> None:
    add_consumer(shop)
    before = tree(shop)

    add_consumer(shop, name="order_cancelled", calls="app.services.orders:OrderService.cancel")

    assert tree(shop).keys() - before.keys() == {
        "app/consumers/order_cancelled.py",
        "tests/workers/test_worker_order_cancelled.py",
    }


def test_dry_run_shows_all_and_writes_nothing(shop: Path, add_consumer: Script, tree: Tree) -> None:
    before = tree(shop)

    shown = add_consumer(shop, "--dry-run", "--format", "json")

    assert tree(shop) == before
    assert shown.data["dry_run"]
    written = add_consumer(shop, "--format", "json")
    paths = [
        (file["path"], file["state"]) for file in written.data["files"] if "versions" not in file["path"]
    ]
    assert [(f["path"], f["state"]) for f in shown.data["files"] if "versions" not in f["path"]] == paths


def test_edited_core_file_is_kept_and_named(shop: Path, add_consumer: Script) -> None:
    # Given a first worker, and the user's own errors in the core file that asks for them
    add_consumer(shop)
    failures = shop / "app" / "core" / "failures.py"
    edited = failures.read_text() + "\n# ours\n"
    failures.write_text(edited)

    # When a second worker is added
    second = add_consumer(shop, name="order_cancelled", calls="app.services.orders:OrderService.cancel")

    # Then the edit stays
    assert second.code == 0
    assert failures.read_text() == edited
    assert "app/core/failures.py: kept" in second.err


def test_force_replaces_and_shows_the_difference(shop: Path, add_consumer: Script) -> None:
    add_consumer(shop)
    worker = shop / "app" / "consumers" / "order_paid.py"
    original = worker.read_text()
    worker.write_text(original.replace("return Done()", "return None"))

    shown = add_consumer(shop, "--force", "--dry-run")
    forced = add_consumer(shop, "--force")

    assert "-    return None" in shown.out
    assert "+    return Done()" in shown.out
    assert forced.code == 0
    assert worker.read_text() == original


def test_package_with_init_files_gets_them_in_new_folders(shop: Path, add_consumer: Script) -> None:
    for folder in (shop / "app", *(path for path in (shop / "app").iterdir() if path.is_dir())):
        (folder / "__init__.py").touch()

    added = add_consumer(shop)

    assert added.code == 0, added.err
    assert (shop / "app" / "consumers" / "__init__.py").read_text() == ""
    assert (shop / "app" / "workers" / "__init__.py").exists()


def test_json_names_commands_lines_and_what_is_left(shop: Path, add_consumer: Script) -> None:
    data = add_consumer(shop, "--format", "json").data

    assert data["run"] == "python -m app.workers.run order_paid"
    assert data["prove"] == "python -m pytest tests/workers/test_worker_order_paid.py"
    assert data["procfile"] == "order_paid: exec python -m app.workers.run order_paid"
    assert data["type"] == "shop.order.paid.v1"
    assert data["environment"] == {"REDIS_URL": "redis://host:6379/0"}
    assert data["lines"]["worker"] > 0
    assert any("redis[hiredis]>=" in step for step in data["todo"])
    assert "alembic upgrade head" in data["todo"]


def test_dependencies_that_are_named_are_not_asked_for(shop: Path, add_consumer: Script) -> None:
    (shop / "requirements.txt").write_text("redis==8.1.0\nPixeltable_PGServer\nredislite\npytest>=9\n")

    todo = " ".join(add_consumer(shop, "--format", "json").data["todo"])

    assert "redis" not in todo
    assert "pytest" not in todo


def test_failed_write_leaves_nothing_behind(
    shop: Path, add_consumer: Script, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a disk that fills up in the middle
    before = tree(shop)
    moved = 0
    move = os.replace

    def fails(source: Path, target: Path) -> None:
        nonlocal moved
        moved += 1
        if moved == 6:
            raise OSError(28, "No space left on device", str(target))
        move(source, target)

    monkeypatch.setattr("workerkit.write.os.replace", fails)

    # When a worker is added
    failed = add_consumer(shop)

    # Then the project is as it was, and the error says so
    assert failed.code == 7
    assert "No space left on device; nothing was written" in failed.err
    assert tree(shop) == before
    assert not (shop / "app" / "consumers").exists()


def test_project_that_cannot_be_written(
    shop: Path, add_consumer: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*, prefix: str, dir: Path) -> str:  # noqa: A002  # as tempfile.mkdtemp
        raise OSError(30, "Read-only file system", str(dir / prefix))

    monkeypatch.setattr("workerkit.write.tempfile.mkdtemp", fails)

    failed = add_consumer(shop)

    assert failed.code == 7
    assert "Read-only file system; nothing was written" in failed.err


def test_failed_write_restores_what_it_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("old")
    move = os.replace

    def fails(source: Path, target: Path) -> None:
        if target == second:
            raise OSError(13, "Permission denied", str(target))
        move(source, target)

    monkeypatch.setattr("workerkit.write.os.replace", fails)

    with pytest.raises(WriteError):
        write.write_all(tmp_path, {first: "new", second: "new"})

    assert first.read_text() == "old"
    assert list(tmp_path.iterdir()) == [first]


def test_file_where_a_folder_should_be_is_an_error_of_writing(
    shop: Path, add_consumer: Script, tree: Tree
) -> None:
    (shop / "app" / "consumers").write_text("a file")
    before = tree(shop)

    failed = add_consumer(shop)

    assert failed.code == 7
    assert "app/consumers" in failed.err
    assert tree(shop) == before


def test_script_runs_without_packages_and_from_any_folder(shop: Path, tmp_path: Path) -> None:
    # -I -S: no site-packages, no environment, nothing of this test run's path
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            str(ROOT / "scripts" / "add_worker.py"),
            "outbox-relay",
            "--project",
            str(shop),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert (shop / "app" / "workers" / "outbox_relay.py").exists()


def test_no_file_of_the_scripts_has_a_name_that_installers_drop() -> None:
    names = [path.name for folder in ("scripts", "templates") for path in (ROOT / folder).rglob("*")]
    assert [name for name in names if name.startswith((".", "_")) and name != "__pycache__"] == []


def test_list_names_the_kinds(script: Script) -> None:
    listed = script("list", "--format", "json")

    kinds = ["redis-consumer", "rabbitmq-consumer", "outbox-relay", "cron-job", "celery-task", "llm-job"]
    kinds += ["webhook-sender", "webhook-receiver"]
    assert [kind["kind"] for kind in listed.data] == kinds
    assert {name for kind in listed.data for name in kind["extras"]} == {"redis", "rabbitmq", "none"}
    assert "outbox-relay" in script("list").out


def test_help_has_examples_and_exit_codes(script: Script) -> None:
    helped = script("--help")

    assert helped.code == 0
    assert "--calls app.services.orders:OrderService.mark_paid" in helped.out
    assert "Exit codes: 0 done" in helped.out


def test_lower_bounds_are_those_that_are_tested() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    tested = {entry for group in ("templates", "test") for entry in groups[group] if isinstance(entry, str)}

    # pydantic comes with pydantic-settings and has no bound of its own
    servers = {package for broker in BROKERS.values() for package in broker.test_packages}
    asked = {*dependencies.RUNTIME.values(), *dependencies.TESTS} - {dependencies.RUNTIME["pydantic"]}
    assert asked | servers <= tested


EXTRA_FILES = [
    ("redis", "publisher", {"publisher", "redis_publisher", "redis_broker"}),
    ("redis", "batch", {"batch"}),
    ("redis", "in-order", {"in_order", "stream_in_order"}),
    ("rabbitmq", "publisher", {"publisher", "rabbit_publisher", "rabbit_broker"}),
    ("rabbitmq", "batch", {"batch"}),
    ("rabbitmq", "in-order", {"in_order", "rabbit_in_order"}),
    ("rabbitmq", "priority", {"rabbit_priority"}),
    ("rabbitmq", "rpc", {"rabbit_rpc", "rabbit_rpc_server"}),
]


@pytest.mark.parametrize(("broker", "extra", "files"), EXTRA_FILES)
def test_extras_land_when_asked_for(
    shop: Path, add_consumer: Script, script: Script, tree: Tree, *, broker: str, extra: str, files: set[str]
) -> None:
    add_consumer(shop, broker=broker)
    before = tree(shop)

    replaces = ["--force"] if extra == "in-order" else []  # its worker is another one
    added = add_consumer(shop, "--with", extra, *replaces, broker=broker)

    assert added.code == 0, added.err
    new = tree(shop).keys() - before.keys()
    assert {f"app/core/{name}.py" for name in files} <= new
    assert all(name.startswith("app/core/") for name in new)
    assert script("diff", "--project", shop).code == 0


@pytest.mark.parametrize(("broker", "worker"), [("redis", "Stream"), ("rabbitmq", "Rabbit")])
def test_in_order_is_what_the_worker_is(shop: Path, add_consumer: Script, broker: str, worker: str) -> None:
    added = add_consumer(shop, "--with", "in-order", broker=broker)

    # Then it is the ordered one, and no test expects two workers to be active
    assert added.code == 0, added.err
    own = (shop / "app" / "consumers" / "order_paid.py").read_text()
    assert f"def worker() -> Ordered{worker}Consumer:" in own
    assert f"return Ordered{worker}Consumer(consumer)" in own
    tests = (shop / "tests" / "workers" / "test_worker_order_paid.py").read_text()
    assert "two_workers_at_once" not in tests
    assert tests.count("def test_") == 6


def test_all_extras_are_tested() -> None:
    known = {(broker.name, extra) for broker in BROKERS.values() for extra in broker.extras}
    assert {(broker, extra) for broker, extra, _ in EXTRA_FILES} == known


# -- two brokers ---------------------------------------------------------------------------------------------

OTHER = {"redis": re.compile(r"rabbit|aio_pika|aiormq"), "rabbitmq": re.compile("redis|app.core.stream")}


@pytest.mark.parametrize("broker", BROKERS)
def test_a_broker_brings_nothing_of_the_other(
    shop: Path, add_consumer: Script, script: Script, tree: Tree, broker: str
) -> None:
    before = tree(shop)
    consumer = add_consumer(shop, "--with", "publisher", "--format", "json", broker=broker)
    relay = script("outbox-relay", "--project", shop, "--format", "json", "--broker", broker)

    # Then neither a file nor an import nor a requirement is that of the other broker
    new = {name: text for name, text in tree(shop).items() if name not in before}
    imports = [
        line
        for text in new.values()
        for line in text.splitlines()
        if line.lstrip().startswith(("from ", "import "))
    ]
    asked = [*consumer.data["todo"], *relay.data["todo"], *consumer.data["environment"]]
    for line in [*new, *imports, *asked]:
        assert not OTHER[broker].search(line.lower()), line


def test_report_of_a_rabbitmq_consumer(shop: Path, add_consumer: Script) -> None:
    data = add_consumer(shop, "--format", "json", "--dry-run", broker="rabbitmq").data
    text = add_consumer(shop, broker="rabbitmq").out

    assert (data["kind"], data["broker"]) == ("rabbitmq-consumer", "rabbitmq")
    assert data["environment"] == {"RABBITMQ_URL": "amqp://user:password@host:5672/"}
    assert data["dead_letters"] == "python -m app.workers.dead_letters order_paid list"
    assert any("aio-pika>=" in step for step in data["todo"])
    assert any("TEST_RABBITMQ_URL" in step for step in data["todo"])
    assert "(RabbitMQ queue order_paid, bound to shop.order.paid)" in text


def test_consumers_of_both_brokers_share_what_is_no_brokers(
    shop: Path, add_consumer: Script, script: Script, tree: Tree
) -> None:
    add_consumer(shop)
    before = {name: text for name, text in tree(shop).items() if name != RECORD}

    added = add_consumer(
        shop, broker="rabbitmq", name="order_cancelled", calls="app.services.orders:OrderService.cancel"
    )

    assert added.code == 0, added.err
    new = tree(shop).keys() - before.keys() - {RECORD}
    assert {name for name in new if not name.startswith("app/core/rabbit")} == {
        "app/consumers/order_cancelled.py",
        "tests/workers/rabbit_lab.py",
        "tests/workers/test_worker_order_cancelled.py",
    }
    assert "app/core/rabbit_consumer.py" in new
    assert {name: tree(shop)[name] for name in before} == before
    assert script("diff", "--project", shop).code == 0


def test_what_platform_and_other_programs_have_to_know(
    shop: Path, add_consumer: Script, script: Script
) -> None:
    consumer, given = (
        " ".join(add_consumer(shop, "--format", "json", "--dry-run", *options, broker=broker).data["todo"])
        for broker, options in (("redis", ()), ("rabbitmq", ("--type", "billing.paid.v2")))
    )
    relay = " ".join(script("outbox-relay", "--project", shop, "--dry-run", "--format", "json").data["todo"])

    assert all("WORKER_DRAIN_SECONDS (20)" in todo for todo in (consumer, given, relay))
    assert "--type with the type that it gives them, not shop.order.paid.v1" in consumer
    assert "before the first one, for it declares" in given
    assert "another program" not in relay
    assert "--type" not in given
    assert "declares" not in consumer


@pytest.mark.parametrize("broker", BROKERS)
def test_a_relay_goes_where_the_consumers_are(
    shop: Path, add_consumer: Script, script: Script, broker: str
) -> None:
    add_consumer(shop, broker=broker)

    relay = script("outbox-relay", "--project", shop, "--format", "json")

    assert relay.data["broker"] == broker
    text = (shop / "app" / "workers" / "outbox_relay.py").read_text()
    assert f"import {'RedisBroker' if broker == 'redis' else 'RabbitBroker'}" in text
    assert "`python -m app.workers.run outbox_relay` runs" in text
    test = (shop / "tests" / "workers" / "test_worker_outbox_relay.py").read_text()
    assert f'BROKER = "{broker}"' in test


def test_a_relay_stays_with_its_broker(shop: Path, add_consumer: Script, script: Script) -> None:
    # Given a relay for RabbitMQ, and consumers of both
    script("outbox-relay", "--project", shop, "--broker", "rabbitmq")
    add_consumer(shop)

    # When it is added again, then nothing changes
    again = script("outbox-relay", "--project", shop, "--format", "json")
    assert again.code == 0, again.err
    assert not again.data["changed"]

    # Unless it is to be another one
    forced = script("outbox-relay", "--project", shop, "--broker", "redis", "--force", "--format", "json")
    assert forced.code == 0, forced.err
    replaced = {file["path"] for file in forced.data["files"] if file["state"] == "replaced"}
    assert replaced == {"app/workers/outbox_relay.py", "tests/workers/test_worker_outbox_relay.py"}
    assert script("diff", "--project", shop).code == 0
