"""What a Celery worker takes from its machine and its project, and what a message of ours holds."""

import enum
import os
import subprocess
import sys
import uuid
from contextlib import nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import EncodeError
from kombu.serialization import dumps, loads
from pydantic import BaseModel, SecretStr

from app.core import job_celery
from app.core.celery_app import build
from app.core.celery_settings import CelerySettings
from app.core.envelope import Reader
from app.core.envelope import build as event
from support.workers import IMPORT_PATH

LOGGING = """
import logging
from celery import Celery
from celery.app.log import Logging
from app.core.celery_app import celery_app

for app in (celery_app, Celery("bare")):
    logging.getLogger().handlers = [projects := logging.NullHandler()]
    Logging._setup = False
    app.log.setup_logging_subsystem()
    print(projects in logging.getLogger().handlers)
"""


@pytest.mark.parametrize("url", ["redis://127.0.0.1/1", "amqp://127.0.0.1//"])
def test_the_number_of_processes_is_not_that_of_the_machines_processors(url: str) -> None:
    settings = CelerySettings(celery_broker_url=SecretStr(url))
    assert build(settings).conf.worker_concurrency == settings.celery_concurrency == 4
    # Celery's own default: as many as the host has, whatever the container may use
    assert not Celery("bare").conf.worker_concurrency


def test_the_projects_log_handlers_stay() -> None:
    path = os.pathsep.join(map(str, IMPORT_PATH))
    done = subprocess.run(
        [sys.executable, "-c", LOGGING],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # A bare app throws them away
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_the_message_of_a_job_is_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a job with a long prompt
    sent: list[tuple[str, list[Any]]] = []
    monkeypatch.setattr(job_celery, "put", lambda task, args, **_: sent.append((task, args)))
    monkeypatch.setattr(job_celery, "celery_app", SimpleNamespace(producer_or_acquire=nullcontext))
    row: Any = SimpleNamespace(id=uuid.uuid4(), queue="default", sends=1, payload={"prompt": "x" * 200_000})
    # Then it stays in its row
    assert job_celery.send([row]) == [None]
    assert sent == [(job_celery.RUN, [str(row.id)])]


class Colour(enum.Enum):
    """What JSON has no form for, nor Celery's."""

    RED = 1


class Rich(BaseModel):
    """A payload with more than JSON knows."""

    tags: set[str] = {"new", "used"}
    colour: Colour = Colour.RED
    total: Decimal = Decimal("1.10")
    at: datetime = datetime(2026, 11, 23, tzinfo=UTC)
    counts: dict[int, int] = {7: 1}


@pytest.mark.parametrize("name", ["tags", "colour"])
def test_celery_sends_no_such_argument(name: str) -> None:
    with pytest.raises(EncodeError):
        dumps([getattr(Rich(), name)], "json")


def test_a_payload_arrives_as_it_was() -> None:
    raw = event("shop.rich.v1", Rich(), source="/tests", id_="1").decode()
    content_type, encoding, body = dumps([raw], "json")
    (arrived,) = loads(body, content_type, encoding)
    envelope = Reader({"shop.rich.v1": Rich}).read(arrived.encode(), 10_000)
    assert envelope is not None
    assert envelope.data == Rich()
