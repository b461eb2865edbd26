"""The demo's folder and its processes: started, watched, and ended by their process ids."""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from demo.errors import DemoError
from demo.guard import Guard

# What the person's shell says about other databases and workers is none of the demo's business.
FOREIGN = ("PG", "WORKER_", "OUTBOX_", "DATABASE_", "DB_", "REDIS_", "MAIL_", "PAYMENT_", "LLM_", "PYTHON")
LONGEST_BASE = 60  # the path of a socket may have about a hundred characters
PATIENCE = 5.0


class Process:
    """A process with a process group and a log of its own."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path, *, server: bool) -> None:
        self.name, self.log, self.server = name, log, server
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._popen.pid

    @property
    def stop_signal(self) -> signal.Signals:
        """What asks it to end."""
        return signal.SIGINT if self.server else signal.SIGTERM

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


class Stage:
    """A temporary folder and all processes of the demo. `close` ends them and removes the folder."""

    def __init__(self) -> None:
        base = "/tmp" if len(tempfile.gettempdir()) > LONGEST_BASE else None  # noqa: S108  # mkdtemp below
        self.folder = Path(tempfile.mkdtemp(prefix="workers-demo-", dir=base)).resolve()
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self._keep = False
        self.environment = {k: v for k, v in os.environ.items() if not k.upper().startswith(FOREIGN)}
        self._processes: list[Process] = []
        self._guard = Guard()
        self._guard.tell("folder", self.folder)
        self._closed = False
        atexit.register(self.close)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        account: str | None = None,
        server: bool = False,
        output: Path | None = None,
    ) -> Process:
        """Start a process; `output` takes its standard output out of the log. A `server` ends after all
        others, by SIGINT, which makes PostgreSQL end open sessions. Raises DemoError.
        """
        log = self.logs / f"{name.replace('/', '-')}.log"
        try:
            with log.open("ab") as stderr, (output or log).open("ab") as stdout:
                popen = subprocess.Popen(
                    [str(part) for part in command],
                    cwd=cwd or self.folder,
                    env={**self.environment, "PYTHONUNBUFFERED": "1", **(env or {})},
                    user=account,
                    group=None if account is None else primary_group(account),
                    extra_groups=None if account is None else [],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                )
        except OSError as error:
            raise DemoError(f"{name} could not be started: {error}") from error
        process = Process(name, popen, log, server=server)
        self._guard.tell("run", popen.pid, int(process.stop_signal))
        self._processes.append(process)
        return process

    async def run(self, name: str, command: Sequence[str | Path], **options: object) -> str:
        """Run a command to its end; its standard output. Raises DemoError when it fails."""
        output = self.logs / f"{name}.out"
        process = self.start(name, command, output=output, **options)  # type: ignore[arg-type]
        while process.code is None:
            await asyncio.sleep(0.02)
        self.forget(process)
        if process.code != 0:
            raise DemoError(f"{name} failed ({process.code}): {process.last_words()}")
        return output.read_text()

    def forget(self, process: Process) -> None:
        """The process has ended, its pid may soon be another's."""
        self._processes.remove(process)
        self._guard.tell("gone", process.pid)

    def keep(self) -> None:
        """Leave the folder where it is at the end."""
        self._keep = True
        self._guard.tell("keep", self.folder)

    def close(self) -> None:
        """End what still runs, and remove the folder unless it is to be kept."""
        if self._closed:
            return
        self._closed = True
        for server in (False, True):
            end([process for process in self._processes if process.server is server])
        for process in list(self._processes):
            self.forget(process)
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._guard.dismiss()


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
    import pwd  # not on every system, and needed by root alone

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
