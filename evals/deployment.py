"""The platform of the grader: runs a project's Procfile, restarts what ends, kills, and deploys."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from evals import procfile
from support.ports import free_port
from support.workers import WorkerProcess

RELEASE_SECONDS = 120
GRACE_SECONDS = 30.0
RESTARTS = 400  # of all processes together: a crash loop ends, but one that waits for a server may go on
RESTART_SECONDS = 1.0  # between two of them
EXEC = re.compile(r"(?:\w+=\S*\s+)*exec\s")


class DeploymentError(Exception):
    """The project cannot be run; the message says what failed."""


class Deployment:
    """The processes of a project, `copies` of each but the web."""

    def __init__(self, project: Path, environment: Mapping[str, str], *, copies: int = 1) -> None:
        self.project = project
        self.port = free_port()
        source = project / "src"
        self._path = [source] if source.is_dir() else [project]
        self._env = {
            **environment,
            "PORT": str(self.port),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        try:
            self._lines = procfile.read(project)
        except (OSError, ValueError) as error:
            raise DeploymentError(str(error)) from error
        self.web: WorkerProcess | None = None
        self.workers: list[WorkerProcess] = []
        self.exit_codes: list[int] = []
        self.restarts = 0
        self._next_restart = 0.0
        for name, line in self._lines.items():
            if name == procfile.WEB:
                self.web = self._process(name, line)
            elif name != procfile.RELEASE:
                self.workers += [self._process(name, line) for _ in range(copies)]

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def processes(self) -> list[WorkerProcess]:
        """All of them."""
        return [*([self.web] if self.web else []), *self.workers]

    def _process(self, name: str, line: str) -> WorkerProcess:
        # exec: the signal of a deploy reaches the program and not a shell in front of it.
        command = line if EXEC.match(line) else f"exec env {line}"
        # WorkerProcess sets a variable of the skill's templates, which no other project knows of.
        shell = f"unset WORKER_HEALTH_PORT; cd {shlex.quote(str(self.project))} && {command}"
        return WorkerProcess(name, self._env, command=["/bin/sh", "-c", shell], import_path=self._path)

    def release(self) -> None:
        """Run the line `release`. DeploymentError when it fails."""
        line = self._lines.get(procfile.RELEASE)
        if line is None:
            return
        path = os.pathsep.join(map(str, self._path))
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.project,
            env={**os.environ, **self._env, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=RELEASE_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise DeploymentError(f"release: {line}\n{(done.stdout + done.stderr)[-2000:]}")

    def start(self) -> None:
        """Start what does not run, and wait until the API answers. DeploymentError when it does not."""
        for process in self.processes:
            if not process.running:
                process.start()
        if self.web is not None:
            try:
                self.web.wait_ready(60, url=f"{self.url}/health")
            except RuntimeError as error:
                raise DeploymentError(str(error)) from error

    def keep_up(self) -> None:
        """Restart what has ended by itself, all at once and not without end."""
        if time.monotonic() < self._next_restart or self.restarts >= RESTARTS:
            return
        for process in self.processes:
            if not process.running:
                self.restarts += 1
                self._next_restart = time.monotonic() + RESTART_SECONDS
                process.start()

    def kill(self, *, web: bool = True) -> None:
        """SIGKILL every process, or every one but the web."""
        for process in self.processes if web else self.workers:
            if process.running:
                process.kill9()

    def redeploy(self) -> list[int]:
        """SIGTERM to all, SIGKILL to what still runs after the grace period; then start again.

        The exit codes of the workers, without the web's; they are also added to `exit_codes`.
        """
        before = len(self.exit_codes)
        ending = [process for process in self.processes if process.running]
        for process in ending:
            process.send(signal.SIGTERM)
        for process in ending:
            self._end(process)
        self.start()
        return self.exit_codes[before:]

    def _end(self, process: WorkerProcess) -> None:
        try:
            code = process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill9()
            code = -signal.SIGKILL
        if process is not self.web:
            self.exit_codes.append(code)

    def logs(self, lines: int = 15) -> str:
        """The end of each log."""
        return "\n".join(f"--- {process.name}\n{process.log_tail(lines)}" for process in self.processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.close()
