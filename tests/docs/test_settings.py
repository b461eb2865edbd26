"""Settings, versions and numbers in the documents are those of the templates."""

import dataclasses
import re
from datetime import timedelta

import pytest
from pydantic import SecretStr

from app.core import failures, lifecycle, rabbit_topology, redis_stream, relay
from app.core.celery_settings import CelerySettings
from app.core.cron_job import CronJob
from app.core.job_settings import JobSettings
from app.core.llm_batch_settings import LlmBatchSettings
from app.core.llm_settings import LlmSettings
from app.core.outbox import LANES
from app.core.webhook_settings import WebhookSettings
from app.core.worker_settings import WorkerSettings
from docs.documents import ALL, CONSUMERS, CRON, QUEUE, REFERENCES, ROOT, Document, one_line, table_rows

SETTINGS = (WorkerSettings, CelerySettings, JobSettings, LlmSettings, LlmBatchSettings, WebhookSettings)
FIELDS = {name.upper(): field for settings in SETTINGS for name, field in settings.model_fields.items()}
UNITS = {
    "_SECONDS": "s",
    "_HOURS": "h",
    "_DAYS": "days",
    "_BYTES": "bytes",
    "_MB": "MB",
    "_PORT": "port",
    "_HOST": "address",
}


ROWS = [
    [name.strip("`"), *cells]
    for document in REFERENCES
    if "\n## Settings\n" in document.body
    for name, *cells in table_rows(document.section("Settings"))
]


def test_every_setting_is_documented_once() -> None:
    assert sorted(name for name, *_ in ROWS) == sorted(FIELDS)
    for setting in (name for name in FIELDS if name.startswith("OUTBOX_")):
        assert setting in QUEUE.section("Settings")


@pytest.mark.parametrize("name", FIELDS)
def test_defaults_and_units_are_right(name: str) -> None:
    ((_, default, unit, breaks),) = [row for row in ROWS if row[0] == name]
    expected = FIELDS[name].default
    if isinstance(expected, SecretStr):
        expected = expected.get_secret_value()
    assert default == str(expected)
    for ending, wanted in UNITS.items():
        if name.endswith(ending):
            assert unit == wanted
    assert len(breaks.split()) >= 3, "say what breaks"


@pytest.mark.parametrize("document", ALL, ids=lambda document: document.name)
def test_settings_that_are_named_exist(document: Document) -> None:
    assert set(
        re.findall(r"\b(?:WORKER|OUTBOX|RABBITMQ|CELERY|JOB|LLM|WEBHOOK)_[A-Z_]*[A-Z]\b", document.text)
    ) <= set(FIELDS)


@pytest.mark.parametrize("document", REFERENCES, ids=lambda document: document.name)
def test_versions_are_those_that_are_pinned(document: Document) -> None:
    pins = dict(
        re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements" / "test.txt").read_text(), re.MULTILINE)
    )
    (line,) = re.findall(r"^Tested with .+?\n\n?(?:.+\n)?\Z", document.text, re.MULTILINE | re.DOTALL)
    told = re.findall(r"([a-z][\w-]+) (\d+\.\d+\.\d+)", line)
    assert len(told) >= 4
    assert all(pins[name] == version for name, version in told), told


def test_numbers_are_those_of_the_code() -> None:
    queue, consumers = one_line(QUEUE.text), one_line(CONSUMERS.text)
    assert f"spread over {LANES} lanes" in queue
    assert f"{LANES} is the useful maximum" in queue
    assert f"a batch has {relay.STEP_TIMEOUT:g} s" in queue
    assert (relay.RECENT.total_seconds(), "the last minute" in queue) == (60, True)
    assert redis_stream.EVENT.decode() == "event"
    *most, last = map(str, sorted(failures.RETRYABLE_STATUS))
    assert f"HTTP {', '.join(most)} and {last}" in consumers
    policy = WorkerSettings().retry_policy
    longest = sum(min(policy.cap, policy.base * 2**n) for n in range(policy.attempts - 1))
    assert (policy.attempts, f"eight attempts last at most {longest:g} s" in consumers) == (8, True)
    codes = (lifecycle.EXIT_STOPPED, lifecycle.EXIT_FAILED, lifecycle.EXIT_SETTINGS)
    assert "Exit codes: {} stopped, {} a loop failed (restart), {} settings".format(*codes) in consumers


def test_policies_of_cron_jobs_are_those_of_the_code() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(CronJob)}
    defaults = next(line for line in CRON.text.splitlines() if line.startswith("Defaults: "))
    assert f'`overlap="{fields["overlap"]}"`, `catch_up="{fields["catch_up"]}"`' in defaults
    assert (fields["within"], "`within` a day" in defaults) == (timedelta(days=1), True)
    assert (fields["deadline"], "`deadline` an hour" in defaults) == (timedelta(hours=1), True)
    assert (fields["jitter"], "no `jitter`" in defaults) == (timedelta(), True)


def test_keys_are_those_of_the_code() -> None:
    group = redis_stream.StreamGroup("redis://127.0.0.1:1", "shop.order.paid", "order_paid")
    assert f"`{group.dead}`" in CONSUMERS.text
    queue = rabbit_topology.Queue("order_paid", "shop.order.paid")
    assert f"`{queue.dead}`" in CONSUMERS.text
    pause = rabbit_topology.pause_for(queue.exchange, 8)
    for name in (queue.exchange, queue.name, queue.dead, pause.name):
        assert f"| `{name}`" in QUEUE.text
    assert f"`{queue.dead_exchange}`" in QUEUE.text
