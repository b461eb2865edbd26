"""A real server process that a test can start, kill, pause and empty."""

import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from support import chroot, reaper
from support.ports import free_port
from support.wait import DeadlinePassed, eventually_sync


class ServerError(RuntimeError):
    """A server did not do what was asked; the end of its log is in the message."""


class Server(ABC):
    """One server on a port of 127.0.0.1 with its data in a temporary folder.

    The port stays the same over kill, stop and restart, so that clients can come back. The methods block: an
    async test that has connections open in its own loop calls `await asyncio.to_thread(server.restart)`.
    """

    name: ClassVar[str]
    host: ClassVar[str] = "127.0.0.1"
    start_deadline_s: ClassVar[float] = 30.0
    stop_deadline_s: ClassVar[float] = 20.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.folder.chmod(0o755)
        reaper.watch_folder(self.folder)
        self.data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The command that runs the server in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server does its work now, asked over its own protocol."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    def environment(self) -> dict[str, str]:
        """Environment of the process."""
        return dict(os.environ)

    def account(self) -> str | None:
        """The user to run as; None for the present one."""
        return None

    def prepare(self) -> None:
        """Make the data folder. Called before each start, so it leaves existing data alone."""
        self.data.mkdir(exist_ok=True)

    @property
    def pid(self) -> int:
        """Process id of the server's main process."""
        if self._process is None:
            raise ServerError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start with the data that is there, and wait until the server answers."""
        if self.running:
            raise ServerError(f"{self.name} runs already")
        self.prepare()
        command, account = chroot.launch(self.command(), self.account())
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(),
                user=account,
                group=account,
                extra_groups=None if account is None else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        reaper.watch(self.pid)
        return self.wait_ready()

    def wait_ready(self, deadline_s: float | None = None) -> Self:
        """Wait until the server answers.

        Raises:
            ServerError: the process ended, or did not answer in time.
        """
        deadline_s = self.start_deadline_s if deadline_s is None else deadline_s
        try:
            eventually_sync(lambda: not self.running or self.answers(), deadline_s, f"{self.name} answers")
        except DeadlinePassed as error:
            raise ServerError(f"{error}\n{self.log_tail()}") from error
        if not self.running:
            raise ServerError(f"{self.name} ended while it started\n{self.log_tail()}")
        return self

    def stop(self) -> None:
        """End the server in order; its data stays. Kill it when it takes longer than `stop_deadline_s`."""
        if self._process is None:
            return
        self.resume()
        with suppress(ProcessLookupError):
            self._process.send_signal(self.stop_signal)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self.stop_deadline_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the server and all its children; its data stays as the crash leaves it."""
        if self._process is None:
            return
        reaper.kill_tree(self._process.pid)
        self._process.wait()
        reaper.unwatch(self._process.pid)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP the server and its children: connections stay open, nothing answers any more."""
        reaper.pause_tree(self.pid)

    def resume(self) -> None:
        """Let a paused server go on. Does nothing to one that runs."""
        reaper.resume_tree(self.pid)

    def restart(self) -> Self:
        """Stop in order and start again with the same data."""
        self.stop()
        return self.start()

    def restart_empty(self) -> Self:
        """Start again as on the first day: all data is gone, the port is the same."""
        self.kill()
        self.wipe()
        return self.start()

    def wipe(self) -> None:
        """Remove all data of a server that does not run."""
        shutil.rmtree(self.data, ignore_errors=True)

    def close(self) -> None:
        """End the server for good and remove its folder."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> Path:
        """What the server writes to its standard output and error."""
        return self.folder / "server.log"

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
