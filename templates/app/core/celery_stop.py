"""A worker's stop ends.

Celery 5.7 stops inside its signal handler, on top of whatever the process was doing. Struck while it writes a
task to a child (`AsynPool._write_job`), it waits for that child for ever and keeps the messages that it has:
seen in one of a hundred stops under load. So a stop that takes `MARGIN` seconds longer than it may is cut
short: the children are killed, the process ends, and the broker gives what they had to others.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from billiard import active_children

MARGIN = 10.0  # connections are closed in it, see `app.core.celery_loop`; the platform's grace is longer
EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h
logger = logging.getLogger(__name__)


def bound(seconds: float) -> None:
    """From now on a SIGTERM or SIGQUIT is obeyed within `seconds` and `MARGIN`.

    Called in a worker's main process, when Celery's own handlers are in place.
    """
    # An alarm, as a thread would be in the way of the pool's forks; its handler runs while a call waits.
    signal.signal(signal.SIGALRM, _end)
    for number in (signal.SIGTERM, signal.SIGQUIT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, _timed(handler, seconds + MARGIN))


def stopping() -> bool:
    """Whether a stop has begun: its alarm is set."""
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _timed(handler: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """A handler that sets the alarm first."""
    main = os.getpid()

    def handle(number: int, frame: Any) -> None:
        if os.getpid() == main:  # a child has these handlers for a moment, and its parent's list of children
            signal.setitimer(signal.ITIMER_REAL, seconds)
        handler(number, frame)

    return handle


def _end(*_: Any) -> None:
    """End what is left."""
    logger.critical("the stop hangs: the process ends")
    for pid in filter(None, (child.pid for child in active_children())):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(EXIT_STUCK)
