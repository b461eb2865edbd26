"""The demo's folder and all that runs in it: started here, and ended by process ids."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.errors import DemoError
from demo.guard import Guard
from demo.process import Process, end, primary_group

# What the person's shell says about other databases and workers is none of the demo's business.
FOREIGN = (
    *("PG", "WORKER_", "OUTBOX_", "DATABASE_", "DB_", "REDIS_", "RABBITMQ_", "ERL_"),
    *("MAIL_", "PAYMENT_", "LLM_", "PYTHON"),
)
LONGEST_BASE = 60  # the path of a socket may have about a hundred characters


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
        stop_signal: signal.Signals = signal.SIGTERM,
        output: Path | None = None,
    ) -> Process:
        """Start a process; `output` takes its standard output out of the log. A `server` ends after all
        others. Raises DemoError.
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
        process = Process(name, popen, log, server=server, stop_signal=stop_signal)
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
