"""Processes of the demo, and waiting for them."""

from __future__ import annotations

import asyncio
import os
import pwd
import random
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from demo.errors import DemoError

PATIENCE = 5.0


class Process:
    """A process with a process group and a log of its own."""

    def __init__(
        self,
        name: str,
        popen: subprocess.Popen[bytes],
        log: Path,
        *,
        server: bool,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name, self.log, self.server = name, log, server
        self.stop_signal = stop_signal
        """What asks it to end."""
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """Exit code, minus the signal's number after a signal; None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process; nothing happens when it has ended."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it with kill -9, its children too, and wait for the end."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(PATIENCE)

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1].strip() if lines else "it wrote nothing"


def end(processes: Sequence[Process]) -> None:
    """Ask all to end, the newest first, and kill those that take too long."""
    for process in reversed(processes):
        process.send(process.stop_signal)
        process.send(signal.SIGCONT)  # one that a fault has paused would not hear it
    ends = time.monotonic() + PATIENCE
    while any(process.code is None for process in processes) and time.monotonic() < ends:
        time.sleep(0.02)
    for process in processes:
        process.kill()


async def until(
    condition: Callable[[], Awaitable[bool]], seconds: float, what: str, process: Process | None = None
) -> None:
    """Wait until `condition` holds. Raises DemoError when it is late or `process` has ended."""
    ends = time.monotonic() + seconds
    while not await condition():
        if process is not None and process.code is not None:
            raise DemoError(f"{process.name} ended with {process.code}: {process.last_words()}")
        if time.monotonic() > ends:
            raise DemoError(f"waited {seconds:g} s in vain: {what}")
        await asyncio.sleep(0.03)


def primary_group(account: str) -> int:
    """The group id of a user."""
    return pwd.getpwnam(account).pw_gid


def free_port() -> int:
    """A port below the range that the kernel hands out to clients: a client that keeps trying to reach a
    server that is away could otherwise be given the very port, and connect to itself.
    """
    while True:
        port = random.randint(20_000, 31_999)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
