"""The skill as installers leave it: some drop README.md and names that begin with `_` or `.`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.documents import ROOT
from docs.installing import WAYS, by_npx
from support.servers import PostgresServer
from support.workers import WorkerProcess

NEEDED = ("templates", "examples", "scripts", "references")
GENERATED = {"__pycache__"}
ORDERS = "app.services.orders:OrderService"
CONSUMER = f"redis-consumer order_paid --calls {ORDERS}.mark_paid"
COMMANDS = (
    CONSUMER,
    "outbox-relay",
    f"cron-job expire_orders --calls {ORDERS}.expire_unpaid --every 5m --set older_than=24h",
    "celery-task capture --calls app.services.payments:PaymentService.capture --tracked --with jobs-api",
)
WAY = [pytest.param(name, marks=pytest.mark.registry if name == "npx" else ()) for name in WAYS]


@pytest.mark.parametrize("folder", NEEDED)
def test_no_name_that_installers_drop(folder: str) -> None:
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*"))
    odd = [path for path in paths if path.name.startswith(("_", ".")) and not GENERATED & set(path.parts)]
    assert not [path for path in odd if not path.name.endswith("_cache")]


def test_no_import_of_a_private_module() -> None:
    for folder in ("templates", "scripts", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            own = re.findall(
                r"^\s*from (?:app|workerkit|world)[\w.]* import _\w+$", path.read_text(), re.MULTILINE
            )
            assert not own, path


def add(skill: Path, project: Path, command: str) -> None:
    script = skill / "scripts" / "add_worker.py"
    words = [sys.executable, "-B", str(script), *command.split(), "--project", str(project)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def result_of(skill: Path, project: Path) -> dict[str, str]:
    """Add workers to a copy of the skill's shop; all files of the project."""
    shutil.copytree(skill / "examples" / "shop", project, ignore=shutil.ignore_patterns("_*", "README.md"))
    for command in COMMANDS:
        add(skill, project, command)
    files = (path for path in sorted(project.rglob("*")) if path.is_file())
    # A migration is named after the minute it was made in.
    name = re.compile(r"(?<=versions/)\d{8}_\d{4}(?!_shop)")
    return {
        name.sub("", path.relative_to(project).as_posix()): without_time(path.read_text()) for path in files
    }


def without_time(text: str) -> str:
    lines = (
        line
        for line in text.splitlines()
        if not re.match(r"(?:Create Date|Revision|Revises|(?:down_)?revision)", line)
    )
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAY)
def test_an_installed_copy_adds_the_same_workers(way: str, tmp_path: Path) -> None:
    installed = WAYS[way](tmp_path)

    assert result_of(installed, tmp_path / "theirs") == result_of(ROOT, tmp_path / "ours")


@pytest.mark.registry
def test_what_an_installed_copy_adds_runs(tmp_path: Path, postgres: PostgresServer, redis_url: str) -> None:
    # Given the skill from npm's installer, and a copy of the shop; nothing of this repository is on the path
    skill, shop = by_npx(tmp_path), tmp_path / "shop"
    shutil.copytree(skill / "examples" / "shop", shop, ignore=shutil.ignore_patterns("_*"))
    add(skill, shop, CONSUMER)
    database = postgres.create_database("installed")
    env = {"PYTHONPATH": str(shop), "DATABASE_URL": database, "REDIS_URL": redis_url}

    # When the commands run that the script prints
    def run(*words: str, **more: str) -> str:
        given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | env
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=shop,
            env=given | more,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("alembic", "upgrade", "head")
    run("alembic", "check")
    servers = {"TEST_DATABASE_URL": postgres.database_url("postgres"), "TEST_REDIS_URL": redis_url}
    proof = run("pytest", "tests/workers", "-k", "test_one_message or test_worker_killed", **servers)

    # Then its tests pass with a clean account, and the worker runs and ends in order
    assert "2 passed" in proof
    accounts = re.findall(r"^LEDGER .*lost=(\d+) duplicated=(\d+)", proof, re.MULTILINE)
    assert accounts == [("0", "0")] * 2
    with WorkerProcess("order_paid", env, import_path=[shop]) as worker:
        worker.wait_ready(60)
        run("app.core.health", "ready", WORKER_HEALTH_PORT=str(worker.health_port))
        assert worker.sigterm() == 0
