"""The life of a worker process: start, signals, drain, exit code.

Exit codes: 0 stopped on request, 1 a loop failed (the supervisor restarts it), 78 the settings are refused
(EX_CONFIG of sysexits.h: a restart does not help).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Sequence
from typing import Protocol

from app.core.gate import close_connections
from app.core.health import Health
from app.core.outcomes import RefusedToStartError, WorkerError
from app.core.worker_settings import WorkerSettings

EXIT_STOPPED, EXIT_FAILED, EXIT_SETTINGS = 0, 1, 78
logger = logging.getLogger(__name__)


class Worker(Protocol):
    """What a process can run."""

    name: str

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain and return."""

    def problems(self) -> list[str]:
        """Why it is not working; empty when it is. Called from another thread."""


class EndedError(WorkerError):
    """A worker returned although nobody asked it to."""


async def supervise(workers: Sequence[Worker], settings: WorkerSettings) -> int:
    """Run `workers` until SIGTERM or SIGINT; the exit code. A second signal ends the process at once."""
    stop = asyncio.Event()
    catch_signals(stop)
    gc.freeze()  # what is imported stays; collections need not look at it again
    health = Health(settings, lambda: [problem for worker in workers for problem in worker.problems()])
    try:
        health.start()
    except OSError as error:
        logger.critical("%s", error)
        return EXIT_FAILED
    code = EXIT_STOPPED
    beat = asyncio.ensure_future(health.beat())
    try:
        async with asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(run_to_the_end(worker, stop), name=worker.name)
    except* RefusedToStartError as refused:
        for line in refused.exceptions:
            logger.critical("%s", line)
        code = EXIT_SETTINGS
    except* Exception as failed:
        logger.critical("a worker failed, the process ends", exc_info=failed)
        code = EXIT_FAILED
    finally:
        beat.cancel()
        health.stop()
        await close_connections()
    return code


async def run_to_the_end(worker: Worker, stop: asyncio.Event) -> None:
    """Run `worker`; raises EndedError when it ends early: a process that does nothing must not look well."""
    await worker.run(stop)
    if not stop.is_set():
        raise EndedError(f"{worker.name} ended without being asked")


def catch_signals(stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT set `stop`; the second one ends the process without draining."""

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        logger.info("%s: draining", signal.Signals(number).name)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
