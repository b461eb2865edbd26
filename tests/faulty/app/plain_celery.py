"""The Celery app without the tasks that run jobs: their time limits are long, these scenes are short.

With FAULTY_STOP=hang its workers hang in their stop, as Celery's do when the signal comes at a wrong moment.
SIGUSR2 blocks the main process for good.
"""

import os
import signal
import threading
from typing import Any

from celery import signals

from app.core.celery_app import celery_app

TASKS = ("faulty", "invoice_email", "daily_digest")
celery_app.conf.include = ["app.core.celery_letters", *(f"app.tasks.{name}" for name in TASKS)]


def hang(sender: Any, **_: Any) -> None:
    """The pool never stops."""
    sender.pool.stop = threading.Event().wait


def block(*_: Any) -> None:
    """The main process is stuck, as in a library that waits without a limit."""
    threading.Event().wait()


signal.signal(signal.SIGUSR2, block)
if os.environ.get("FAULTY_STOP") == "hang":
    signals.worker_ready.connect(hang)
