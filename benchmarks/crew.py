"""The processes of a worker, as many as it has, looked at from outside: what is done, time, memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.counter import counted
from benchmarks.match import MatchError, Side, side
from benchmarks.spec import Spec

LOOK_EVERY_S = 0.01
PATIENCE_S = 60.0
COUNTS = "BENCH_COUNTS"


class Crew:
    """A worker: `processes` of them are started, which may start others. `cores` are those it may use."""

    def __init__(
        self,
        spec: Spec,
        env: Mapping[str, str],
        python: str,
        *,
        processes: int = 1,
        cores: Sequence[int] | None = None,
    ) -> None:
        self._spec, self._env, self._python = spec, env, python
        self._processes, self._cores = processes, cores
        self._ending = ExitStack()
        self._sides: list[Side] = []

    def __enter__(self) -> Self:
        try:
            self.folder = Path(self._ending.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            env = {**self._env, COUNTS: str(self.folder)}
            for _ in range(self._processes):
                one = side("serve", self._spec, env, self._python)
                self._ending.enter_context(one)
                self._sides.append(one)
            self._ending.callback(
                self._kill_children
            )  # before their parents, whose children they then are not
            for one in self._sides:
                one.hear()
                if self._cores is not None and hasattr(psutil.Process, "cpu_affinity"):
                    psutil.Process(one.pid).cpu_affinity(list(self._cores))
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    def go(self) -> None:
        """Let it work."""
        for one in self._sides:
            one.go()

    def _kill_children(self) -> None:
        for one in self._sides:
            with suppress(psutil.NoSuchProcess):
                main = psutil.Process(one.pid)
                main.suspend()  # or it would replace them
                for child in main.children(recursive=True):
                    child.kill()

    def until(self, number: int, done: Callable[[], int] | None = None, every_s: float = LOOK_EVERY_S) -> int:
        """Wait until so many tasks are done; how many are. Raises MatchError when that takes too long."""
        ends = time.monotonic() + PATIENCE_S
        while True:
            found = done() if done is not None else counted(self.folder)
            if found >= number:
                return found
            for one in self._sides:
                one.check()
            if time.monotonic() > ends:
                raise MatchError(f"{self._spec.contestant}: {found} of {number} tasks are done")
            time.sleep(every_s)

    def members(self) -> list[psutil.Process]:
        """All processes, those that were started first."""
        found = [psutil.Process(one.pid) for one in self._sides]
        return found + [child for one in found for child in one.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Processor time of those that are there."""
        times = [one.cpu_times() for one in self.members()]
        return sum(one.user + one.system for one in times)

    def memory_mb(self) -> list[float]:
        """What each process has; what they share is divided among them, where the system says how much."""
        found = []
        for one in self.members():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                info = one.memory_full_info()
                found.append(getattr(info, "pss", info.rss) / 1e6)
        return found
