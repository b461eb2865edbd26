"""Copies of the shop to add workers to, one of them with another package, and ways to run the script."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import add_worker

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop"
LAYERS = "api|core|main|models|repositories|schemas|services"
MARK_PAID = "app.services.orders:OrderService.mark_paid"
SEND = "app.services.emails:EmailService.send"
CAPTURE = "app.services.payments:PaymentService.capture"
STORE_SUMMARY = "app.services.documents:DocumentService.store_summary"
# What edits do to files that exist is shown in test_edits.py.
KEEP = "--no-edit"
DAILY_SALES = "app.services.reports:ReportService.daily_sales"


class Run:
    """What one run of the script gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def data(self) -> Any:
        """The output as JSON."""
        return json.loads(self.out)


Script = Callable[..., Run]


def copy_shop(folder: Path) -> Path:
    """A fresh copy of the shop."""
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def rename_package(project: Path, package: str, below: str) -> None:
    """Make the shop's package `app` the package `package` in the folder `below`, in all its files."""
    target = project / below / package
    target.parent.mkdir(parents=True, exist_ok=True)
    (project / "app").rename(target)
    word = re.compile(rf"\bapp(?=\.(?:{LAYERS})\b)")
    for path in project.rglob("*.py"):
        path.write_text(word.sub(package, path.read_text()))
    ini = project / "alembic.ini"
    ini.write_text(
        ini.read_text().replace("prepend_sys_path = %(here)s", f"prepend_sys_path = %(here)s/{below}")
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A copy of the shop; its package is `app`."""
    return copy_shop(tmp_path / "shop")


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """A copy of the shop whose package is `src/acme`."""
    project = copy_shop(tmp_path / "acme-shop")
    rename_package(project, "acme", "src")
    return project


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs add_worker.py in this process."""

    def run(*arguments: str | Path) -> Run:
        capsys.readouterr()
        try:
            code = add_worker.main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run


@pytest.fixture
def add_consumer(script: Script) -> Script:
    """Adds a consumer; broker, name and service are those of the template unless given."""

    def add(
        project: Path,
        *options: str,
        broker: str = "redis",
        name: str = "order_paid",
        calls: str = MARK_PAID,
    ) -> Run:
        return script(f"{broker}-consumer", name, "--calls", calls, "--project", project, KEEP, *options)

    return add


@pytest.fixture
def add_job(script: Script) -> Script:
    """Adds a cron job; name and service are those of the template unless given."""

    def add(project: Path, *options: str, name: str = "sales_report", calls: str = DAILY_SALES) -> Run:
        return script("cron-job", name, "--calls", calls, "--project", project, KEEP, *options)

    return add


@pytest.fixture
def add_task(script: Script) -> Script:
    """Adds a plain Celery task; name and service are those of the template unless given."""

    def add(project: Path, *options: str, name: str = "invoice_email", calls: str = SEND) -> Run:
        return script("celery-task", name, "--calls", calls, "--project", project, KEEP, *options)

    return add


@pytest.fixture
def add_tracked(add_task: Script) -> Script:
    """Adds a tracked Celery task; name and service are those of the template unless given."""

    def add(project: Path, *options: str, name: str = "process_payment", calls: str = CAPTURE) -> Run:
        added: Run = add_task(project, "--tracked", *options, name=name, calls=calls)
        return added

    return add


@pytest.fixture
def add_llm(script: Script) -> Script:
    """Adds an LLM job; name and service methods are those of the template unless given."""

    def add(
        project: Path,
        *options: str,
        name: str = "summarise_document",
        calls: str = STORE_SUMMARY,
        prompt: str = "summary_prompt",
    ) -> Run:
        given = ("--calls", calls, "--prompt", prompt, "--project", project, "--no-readme")
        return script("llm-job", name, *given, *options)

    return add


@pytest.fixture
def tree() -> Callable[[Path], dict[str, str]]:
    """Reads all files below a folder."""

    def read(folder: Path) -> dict[str, str]:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_text() for path in files}

    return read


@pytest.fixture
def service(shop: Path) -> Callable[[str], Path]:
    """Writes a service module `app.services.made` with the given source."""

    def write(source: str) -> Path:
        path = shop / "app" / "services" / "made.py"
        path.write_text(source)
        return path

    return write
