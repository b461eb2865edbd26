"""Processes of the templates, forked from one that has imported the libraries.

They differ from `python -m MODULE …` in that alone. Started afresh all the same: what lands in projects
(tests/scripts, tests/docs), the demo, Celery's workers, and commands whose start is what is tested.
"""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from support import reaper

SERVER = Path(__file__).with_name("fork_server.py")
INTERVAL_S = 0.02

_asking = threading.Lock()


def can_be(command: Sequence[str]) -> bool:
    """Whether `command` is one of those that are forked."""
    if tuple(command[:2]) != (sys.executable, "-m"):
        return False
    # uvicorn's processes start each other afresh, from the command line of the first
    return command[2].startswith("app.") or (command[2] == "uvicorn" and "--workers" not in command)


class Forked:
    """A process, with what the tests use of `subprocess.Popen`."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], streams: Sequence[IO[Any]]
    ) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._channel, theirs = socket.socketpair()
        self._taking = threading.Lock()
        asked = {"words": self.args[2:], "cwd": str(cwd), "env": dict(env)}
        with theirs, _asking:
            socket.send_fds(_server(), [b"!"], [theirs.fileno(), *(stream.fileno() for stream in streams)])
        self._channel.sendall(json.dumps(asked).encode() + b"\n")
        self._rest = b""
        self.pid = self._number()

    def _number(self) -> int:
        """The next line."""
        while b"\n" not in self._rest:
            got = self._channel.recv(64)
            if not got:
                raise RuntimeError(f"the process that forks has ended: {self.args}")
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        return int(line)

    def poll(self) -> int | None:
        """The exit code; minus the signal's number when a signal ended it; None while it runs."""
        with self._taking:
            if self.returncode is None:
                told = select.poll()
                told.register(self._channel, select.POLLIN)
                if self._rest or told.poll(0):
                    self.returncode = self._number()
                    self._channel.close()
            return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end; the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(INTERVAL_S)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is there."""
        if self.poll() is None:
            os.kill(self.pid, number)


def prepare() -> None:
    """Start the process that forks, so that the first test which needs it need not wait for its imports."""
    _server()


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], given: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does, with `given` as its standard input.

    Raises:
        subprocess.TimeoutExpired: it did not end; it is killed.
    """
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(given.encode())
        stdin.seek(0)
        process = Forked(command, cwd=cwd, env=env, streams=[stdin, stdout, stderr])
        reaper.watch(process.pid)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            reaper.kill_tree(process.pid)
            process.wait(10)
            raise
        finally:
            reaper.unwatch(process.pid)
        texts = []
        for written in (stdout, stderr):
            written.seek(0)
            texts.append(written.read().decode())
        return subprocess.CompletedProcess(list(command), code, *texts)


@functools.cache
def _server() -> socket.socket:
    """The end of the line to the process that forks; one for each process of pytest."""
    ours, theirs = socket.socketpair()
    # Unbuffered: a process has the streams of the server; what it has not written is lost when it is killed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONUNBUFFERED"] = "1"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, str(SERVER), str(theirs.fileno())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    reaper.watch(process.pid)
    atexit.register(_dismiss, ours, process)
    return ours


def _dismiss(line: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    line.close()
    process.wait(30)
    reaper.unwatch(process.pid)
