"""Nothing is found in the project's own code, nor in what `add_worker.py` makes of a user's project."""

import shutil
from pathlib import Path

import pytest

import add_worker
from checkkit.run import check

ROOT = Path(__file__).resolve().parents[2]
SEND = "app.services.emails:EmailService.send"
PAID = "app.services.orders:OrderService.mark_paid"
CAPTURE = "app.services.payments:PaymentService.capture"
SUMMARY = "app.services.documents:DocumentService.store_summary"
REPORT = "app.services.reports:ReportService.daily_sales"
WORKERS = {
    "redis": [
        ["redis-consumer", "order_paid", "--calls", PAID, "--with", "batch"],
        ["outbox-relay", "--broker", "redis"],
    ],
    "rabbitmq": [
        ["rabbitmq-consumer", "order_paid", "--calls", PAID, "--with", "rpc", "--with", "priority"],
        ["outbox-relay", "--broker", "rabbitmq", "--with", "publisher"],
    ],
    "celery": [
        ["celery-task", "invoice_email", "--calls", SEND],
        ["celery-task", "process_payment", "--calls", CAPTURE, "--tracked", "--with", "jobs-api"],
    ],
    "llm": [
        [
            *("llm-job", "summarise_document", "--calls", SUMMARY, "--prompt", "summary_prompt"),
            *("--with", "jobs-api", "--with", "events-api"),
        ],
    ],
    "cron": [
        [
            *("cron-job", "sales_report", "--calls", REPORT, "--schedule", "30 2 * * *"),
            *("--timezone", "Europe/Berlin", "--set", "day=yesterday", "--with", "cron-api"),
        ],
    ],
}


@pytest.mark.parametrize("folder", ["templates", "examples", "scripts", "demo", "tools"])
def test_own_code_is_clean(folder: str) -> None:
    assert check(ROOT / folder).found == []


@pytest.mark.parametrize("name", WORKERS)
def test_shop_with_workers_is_clean(name: str, tmp_path: Path) -> None:
    # Given the shop, with the versions that the templates are locked to
    shop = tmp_path / "shop"
    shutil.copytree(ROOT / "examples" / "shop", shop, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements" / "templates.txt", shop / "requirements.txt")

    # When workers are added
    for arguments in WORKERS[name]:
        assert add_worker.main([*arguments, "--project", str(shop)]) == 0

    # Then nothing is wrong with it
    report = check(shop)
    assert report.found == []
    assert report.files > 45
