"""The Celery app, and what every process of it is checked for.

    REMAP_SIGTERM=SIGQUIT celery -A app.core.celery_app worker

A supervisor that starts the worker again when it ends is part of the deployment, as for every worker.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Iterable
from typing import Any

from celery import Celery, signals
from celery.loaders.app import AppLoader
from kombu import Exchange, Queue
from pydantic import ValidationError

from app.core.celery_settings import RESTORE_EVERY, CelerySettings, celery_settings, refusals
from app.core.celery_stop import bound
from app.core.outcomes import RefusedToStartError
from app.core.worker_settings import describe
from app.core.worker_settings import refusals as worker_refusals

FOLDER = "app.tasks"
EXIT_SETTINGS = 78
# RabbitMQ 4 drops a message of a quorum queue after 20 returns, and a rolling restart returns what is
# fetched. `app.core.celery_task` counts the starts of a task, which is what shows that it kills its worker.
RETURNS = 10_000
# For tasks that count their starts themselves: they go back to the queue at once when their process was lost
# or their time limit killed it, and nothing is lost on the way. Without a count of its own such a task would
# come back for ever.
COUNTED: dict[str, Any] = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "retry_on_worker_lost": False,
    "acks_on_timeout": False,
    "max_retries": None,
}
# The queues of tasks that have one of their own. (The attribute `queue` of a task is deprecated.)
ROUTES: dict[str, str] = {}


class Loader(AppLoader):
    """Imports the tasks, for a worker or a beat that is about to start."""

    def init_worker(self) -> None:
        """See Celery. A task that refuses ends the process in one line: a restart does not help."""
        try:
            super().init_worker()
        except RefusedToStartError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(EXIT_SETTINGS) from None


def build(settings: CelerySettings) -> Celery:
    """The app, configured."""
    app = Celery("app", broker=settings.url, loader=Loader, include=["app.core.celery_letters", *modules()])
    app.conf.update(common(settings))
    app.conf.update(redis(settings) if settings.uses_redis else rabbitmq(settings))
    return app


def common(settings: CelerySettings) -> dict[str, Any]:
    """What does not depend on the broker."""
    return {
        # What anybody may send must not be able to run code here.
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        # Acknowledged when done; what kills its process is tried again, bounded by the task's max_retries.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_retry_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": settings.celery_concurrency,
        "worker_max_memory_per_child": settings.celery_memory_limit_mb * 1024 or None,
        "worker_consumer": "app.core.celery_consumer:Consumer",
        # A task goes on when the connection is lost: what it does is committed together with the note that
        # it is done, so the copy that comes back finds nothing to do.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_soft_time_limit": settings.celery_soft_time_limit_seconds,
        "task_time_limit": settings.celery_time_limit_seconds,
        "worker_soft_shutdown_timeout": settings.celery_drain_seconds,
        "worker_enable_soft_shutdown_on_idle": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": settings.celery_publish_timeout_seconds,
        "broker_pool_acquire_timeout": settings.celery_publish_timeout_seconds,
        "broker_heartbeat": 30,
        "task_publish_retry": True,
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0.2, "interval_step": 0.2},
        "task_default_queue": settings.queues[0],
        "task_routes": (route,),
        "task_create_missing_queues": False,
        "worker_hijack_root_logger": False,
        "enable_utc": True,
    }


def redis(settings: CelerySettings) -> dict[str, Any]:
    """Redis: nothing waits for ever, and what a dead worker held comes back soon after its timeout."""
    timeout = settings.celery_publish_timeout_seconds
    return {
        # Direct: Celery then sends straight to the queue. Through another exchange it relies on bindings kept
        # in Redis, of which a sender does not notice that they are gone: it sends to nowhere.
        "task_default_exchange_type": "direct",
        "task_queues": [Queue(name, Exchange(name, type="direct"), name) for name in settings.queues],
        "broker_transport_options": {
            "global_keyprefix": settings.celery_key_prefix,
            "visibility_timeout": settings.celery_visibility_timeout_seconds,
            "unacked_restore_interval": RESTORE_EVERY,
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 1000,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
        },
    }


def rabbitmq(settings: CelerySettings) -> dict[str, Any]:
    """RabbitMQ: quorum queues, publishing waits for the confirmation, delays are the broker's business."""
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": RETURNS}
    timeout = settings.celery_publish_timeout_seconds
    return {
        # Topic exchanges: Celery's delayed delivery knows no other, and a delayed task would hold a worker.
        "task_default_exchange_type": "topic",
        "task_queues": [
            Queue(name, Exchange(name, type="topic"), name, queue_arguments=arguments)
            for name in settings.queues
        ],
        "task_default_queue_type": "quorum",
        "broker_transport_options": {
            "confirm_publish": True,
            "read_timeout": timeout,
            "write_timeout": timeout,
        },
    }


def route(name: str, *_: Any, **__: Any) -> dict[str, str] | None:
    """Where Celery sends a task, unless its caller says so."""
    return {"queue": ROUTES[name]} if name in ROUTES else None


def modules() -> list[str]:
    """The dotted names of the modules that define tasks; those that begin with an underscore are helpers."""
    spec = importlib.util.find_spec(FOLDER)
    if spec is None:
        return []
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return sorted(f"{FOLDER}.{module.name}" for module in found if not module.name.startswith("_"))


def load_tasks() -> None:
    """Import all tasks. A worker does it by itself; who sends needs it to know their queues."""
    celery_app.loader.import_default_modules()


def refuse(lines: Iterable[str]) -> None:
    """End the process when there are reasons: a restart does not help."""
    if found := list(lines):
        sys.stderr.write("\n".join(["settings refused:", *found]) + "\n")
        raise SystemExit(EXIT_SETTINGS)


def check_worker(**_: Any) -> None:
    """Before a worker starts: whether its settings fit together."""
    tasks = list(celery_app.tasks.values())
    if celery_settings().uses_redis:  # a message that comes again while its job runs finds nothing to start
        tasks = [task for task in tasks if not getattr(task, "starts_once", False)]
    own = [task.time_limit for task in tasks if isinstance(task.time_limit, int | float)]
    refuse([*worker_refusals(), *refusals(max(own, default=0)), *never_run(), *environment()])


def never_run() -> list[str]:
    """Tasks that Celery would count as done without having begun them."""
    names = sorted(name for name, task in celery_app.tasks.items() if inspect.iscoroutinefunction(task.run))
    return [f"task {name}: Celery cannot run `async def`, see app.core.celery_loop.run" for name in names]


def environment() -> list[str]:
    """What Celery reads from nowhere but the environment."""
    if os.environ.get("REMAP_SIGTERM") == "SIGQUIT":
        return []
    return ["REMAP_SIGTERM: SIGQUIT is needed in the environment, or SIGTERM waits for tasks without bound"]


def built() -> Celery:
    """The app; ends the process with a line for each setting that is wrong."""
    try:
        return build(celery_settings())
    except ValidationError as error:
        refuse(describe(error))
        raise


def bound_stop(**_: Any) -> None:
    """Once a worker works: its stop takes no longer than it may."""
    bound(celery_settings().celery_drain_seconds)


celery_app = built()
signals.celeryd_init.connect(check_worker, weak=False)
signals.worker_ready.connect(bound_stop, weak=False)
