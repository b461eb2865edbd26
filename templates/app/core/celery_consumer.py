"""The worker's main process: it shows that it works, and keeps what Celery cannot read or does not know."""

from __future__ import annotations

import base64
import json
import logging
from functools import partial
from typing import Any

from celery.worker import consumer as celery_consumer

from app.core.celery_app import EXIT_SETTINGS
from app.core.celery_broker import put, refuse_eviction
from app.core.celery_health import CeleryHealth
from app.core.failures import describe
from app.core.health import PULSE
from app.core.outcomes import RefusedToStartError

KEEP = "app.keep_letter"
EXIT_FAILED = 1
PAUSE = 5.0
OF_THE_MACHINE: tuple[type[Exception], ...] = (OSError, MemoryError)
logger = logging.getLogger(__name__)


class Consumer(celery_consumer.Consumer):
    """The worker's consumer. It runs in the main process, which has no database: it sends what it cannot use
    to a task, which keeps it, and acknowledges it then.
    """

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]
    health: CeleryHealth
    timer: Any

    def start(self) -> None:
        """See Celery. The children have been forked, so that the first of them never saw a thread."""
        self.health = CeleryHealth(self)
        try:
            self.health.start()
        except OSError as error:
            logger.critical("%s", error)
            raise SystemExit(EXIT_FAILED) from None
        super().start()

    def connect(self) -> Any:
        """See Celery: it waits for the broker. A Redis that deletes messages is refused."""
        connection = super().connect()
        self.health.pulse()  # the loop has not turned since it lost the connection before
        if self.init_callback is not None:  # it has not worked yet
            try:
                refuse_eviction(connection)
            except RefusedToStartError as error:
                logger.critical("%s", error)
                raise SystemExit(EXIT_SETTINGS) from None
            except Exception:
                connection.close()
                raise
        return connection

    def register_with_event_loop(self, hub: Any) -> None:
        """See Celery, which forgets it together with the connection."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(PULSE, self.health.pulse)

    def apply_eta_task(self, task: Any) -> None:
        """See Celery. The pool `solo` works off all that are due before the loop turns again."""
        self.health.pulse()
        super().apply_eta_task(task)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002  # Celery's
        """A task that this version of the application does not have."""
        self.keep(message, f"unknown task {message.headers.get('task')!r}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002  # Celery's
        """Pickle, for example."""
        self.keep(message, f"refused: {describe(exc)}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Bytes that are not what their content type says."""
        self.keep(message, f"not readable: {describe(exc)}")

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002  # Celery's
        """Something that is no task."""
        self.keep(message, "not a Celery message")

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """A message that Celery trips over would end the worker, and the next one that gets it."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            self.health.pulse()
            try:
                handle(message)
            except (*self.connection_errors, *self.channel_errors, *OF_THE_MACHINE):
                raise
            except Exception as error:  # headers may be anything, and lead to anything
                self.keep(message, f"not a Celery message: {describe(error)}")

        return on_task_received

    def keep(self, message: Any, reason: str) -> None:
        """Send a message to where it is kept. When that fails it goes back to the queue."""
        headers = dict(message.headers or {})
        source, id_ = str(headers.get("task") or "celery"), str(headers.get("id") or "")
        logger.error("%s %s set aside: %s", source, id_, reason)
        letter = {
            "source": source,
            "id": id_,
            "body": base64.b64encode(as_bytes(message.body)).decode(),
            "reason": reason,
            "content_type": str(message.content_type),
            "content_encoding": str(message.content_encoding),
            "headers": headers,
        }
        try:
            put(KEEP, [letter], task_id=KEEP)  # the id that it came with may be too long for a property
        except Exception:  # whatever it is: not returned, it would hold a place of this worker's prefetch
            logger.exception("%s %s could not be set aside, it will come back", source, id_)
            give_back = partial(message.reject_log_error, requeue=True)
            self.timer.call_after(PAUSE, give_back, (logger, self.connection_errors))
        else:
            message.ack_log_error(logger, self.connection_errors)


def as_bytes(body: Any) -> bytes:
    """A message's body, which on Redis may be anything that JSON knows."""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body, default=str)
    return text.encode(errors="surrogatepass")
