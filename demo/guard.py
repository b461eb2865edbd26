"""Ends the demo's processes when the demo was killed and could not do so itself.

A normal end, an error and Ctrl-C run `Stage.close`. SIGKILL runs nothing, and every process of the demo is a
session of its own, so PostgreSQL and the workers would live on. Hence one small process beside the demo: it
reads what was started from a pipe and acts when the pipe closes, which the kernel does in every case.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 5.0


class Guard:
    """The demo's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo.guard"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # the terminal's Ctrl-C is for the demo alone
        )

    def tell(self, *words: object) -> None:
        """`run PID SIGNAL` (the signal asks the process to end), `gone PID`, `folder PATH`, `keep PATH`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # without its guard the demo still ends what it started
            self._process.stdin.write(" ".join(map(str, words)) + "\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Close the pipe: what was not reported as gone is ended, folders are removed."""
        with suppress(BrokenPipeError, ValueError):
            self._process.communicate(timeout=2 * PATIENCE)


def watch(orders: Iterable[str]) -> tuple[dict[psutil.Process, int], list[Path]]:
    """What is left to end and to remove when `orders` come to their end."""
    left: dict[psutil.Process, int] = {}
    folders: list[Path] = []
    for order in orders:
        kind, _, value = order.rstrip("\n").partition(" ")
        if kind == "run":
            pid, number = map(int, value.split())
            with suppress(psutil.NoSuchProcess):
                left[psutil.Process(pid)] = number  # which remembers the start time: no pid is mistaken
        elif kind == "gone":
            left = {process: number for process, number in left.items() if process.pid != int(value)}
        elif kind == "folder":
            folders.append(Path(value))
        elif kind == "keep":
            folders.remove(Path(value))
    return left, folders


def end(processes: dict[psutil.Process, int]) -> None:
    """Ask them to end, the newest first, then kill what is left of their groups."""
    for process, number in reversed(processes.items()):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            process.resume()  # one that was stopped would not hear it
    _, stubborn = psutil.wait_procs(list(processes), timeout=PATIENCE)
    for process in stubborn:
        if process.is_running():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Listen until the pipe closes, then clean up."""
    left, folders = watch(sys.stdin)
    end(left)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
