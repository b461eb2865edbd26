"""A worker of the templates as a real process: started, watched, killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from support import forked, reaper
from support.ports import free_port
from support.wait import DeadlinePassed, eventually, eventually_sync

ROOT = Path(__file__).resolve().parents[2]
IMPORT_PATH = (ROOT / "templates", ROOT / "examples" / "shop", ROOT / "tests")

started: list["WorkerProcess"] = []
"""Workers of the test that runs; its failure report shows their logs."""


class WorkerEnded(RuntimeError):
    """The worker's process ended when it should have gone on; the end of its log is in the message."""


class WorkerProcess:
    """`python -m app.workers.run NAME…` as a process of its own, with its own log and health port.

    `env` is added to the environment of the test run (DATABASE_URL, REDIS_URL, WORKER_…). `command` replaces
    the whole command, for Celery or uvicorn. `import_path` replaces PYTHONPATH, for a generated project.
    """

    def __init__(
        self,
        name: str,
        env: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] | None = None,
        import_path: Sequence[Path] = IMPORT_PATH,
    ) -> None:
        self.name = name
        self.health_port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="worker-"))
        reaper.watch_folder(self.folder)
        self.log = self.folder / "worker.log"
        self._command = list(command or (sys.executable, "-m", "app.workers.run", *name.split()))
        self._env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(path) for path in import_path),
            "PYTHONUNBUFFERED": "1",
            "WORKER_HEALTH_PORT": str(self.health_port),
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | forked.Forked | None = None
        self._last_log = ""

    def start(self) -> Self:
        """Start the process; `wait_ready` says when it works."""
        # The folder is not the repository's, so that no .env is picked up.
        with self.log.open("ab") as log, Path(os.devnull).open("rb") as nothing:
            if forked.can_be(self._command):
                streams = (nothing, log, log)
                self._process = forked.Forked(self._command, cwd=self.folder, env=self._env, streams=streams)
            else:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self.folder,
                    env=self._env,
                    stdin=nothing,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        reaper.watch(self.pid)
        started.append(self)
        return self

    @property
    def pid(self) -> int:
        """Process id."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code; minus the signal's number when a signal ended it; None while it runs."""
        return self._started().poll()

    def ready(self, url: str | None = None) -> bool:
        """Whether GET /ready (or `url`) answers 200 now."""
        return self._ask(url)[0] == HTTPStatus.OK

    def problems(self) -> str:
        """What /ready answers now, red or green; empty when nobody answers."""
        return self._ask(None)[1]

    def _ask(self, url: str | None) -> tuple[int, str]:
        """Status and body of GET /ready (or `url`); 0 and nothing when nobody answers."""
        try:
            with urllib.request.urlopen(
                url or f"http://127.0.0.1:{self.health_port}/ready", timeout=2
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, deadline_s: float = 30.0, url: str | None = None) -> Self:
        """Block until the worker is ready.

        Raises:
            WorkerEnded: it ended, or was not ready in time.
        """
        try:
            eventually_sync(lambda: not self.running or self.ready(url), deadline_s, f"{self.name} is ready")
        except DeadlinePassed as error:
            raise WorkerEnded(f"{error}\n{self.problems()}\n{self.log_tail()}") from error
        return self._still_running()

    async def until_ready(self, deadline_s: float = 30.0, url: str | None = None) -> Self:
        """`wait_ready` for async tests."""
        try:
            await eventually(lambda: not self.running or self.ready(url), deadline_s, f"{self.name} is ready")
        except DeadlinePassed as error:
            raise WorkerEnded(f"{error}\n{self.problems()}\n{self.log_tail()}") from error
        return self._still_running()

    def _still_running(self) -> Self:
        if not self.running:
            raise WorkerEnded(f"{self.name} ended with {self.returncode}\n{self.log_tail()}")
        return self

    def kill9(self) -> None:
        """SIGKILL the worker and all its children, as the kernel does when memory is short."""
        reaper.kill_tree(self.pid)
        self.wait(10)

    def sigterm(self, timeout: float = 30.0) -> int:
        """Ask the worker to end; return its exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the worker's main process only."""
        self._started().send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end; return the exit code."""
        process = self._started()
        code = process.wait(timeout)
        reaper.unwatch(process.pid)
        return code

    def pause(self) -> None:
        """SIGSTOP: the worker keeps its connections and leases and does nothing, as in a long freeze."""
        reaper.pause_tree(self.pid)

    def resume(self) -> None:
        """Let a paused worker go on."""
        reaper.resume_tree(self.pid)

    def log_text(self) -> str:
        """All that the worker has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else self._last_log

    def log_tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def close(self) -> None:
        """Kill the worker if it still runs, and remove its folder; the log stays readable."""
        if self.running:
            self.kill9()
        if self._process is not None:
            reaper.kill_orphans(self._process.pid)
        self._last_log = self.log_text()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _started(self) -> subprocess.Popen[bytes] | forked.Forked:
        if self._process is None:
            raise WorkerEnded(f"{self.name} was not started")
        return self._process

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
