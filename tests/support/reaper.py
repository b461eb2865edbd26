"""Ends what the tests started, however the test run ends.

A normal end, an error and Ctrl-C run the fixtures' own clean-up. SIGKILL of pytest runs nothing, and
servers and workers are sessions of their own, so they would live on. Hence one small process beside the
run: it holds the reading end of a pipe, is told the pids and the temporary folders, and acts when the pipe
closes, which the kernel does in every case. (PR_SET_PDEATHSIG would not do: it is Linux only, fires when the
*thread* that started the child ends, and PostgreSQL's and Erlang's own children do not inherit it.)
"""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from support.wait import eventually_sync

TESTS = Path(__file__).resolve().parents[1]


def tree(pid: int) -> list[psutil.Process]:
    """The process `pid` and its descendants, parents first; empty when it is gone.

    A process group would not do: every PostgreSQL backend and Erlang's helpers are groups of their own.
    """
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def pause_tree(pid: int) -> None:
    """SIGSTOP `pid` and its descendants, those included that it starts while they are being stopped."""
    stopped: set[psutil.Process] = set()
    while fresh := [process for process in tree(pid) if process not in stopped]:
        _send(fresh, signal.SIGSTOP)
        stopped.update(fresh)


def resume_tree(pid: int) -> None:
    """SIGCONT `pid` and its descendants."""
    _send(tree(pid), signal.SIGCONT)


def kill_tree(pid: int) -> None:
    """SIGKILL `pid` and its descendants, and wait until they are gone.

    They are stopped first: a parent that sees its child die may start another one meanwhile.
    """
    pause_tree(pid)
    processes = tree(pid)
    _send(processes, signal.SIGKILL)
    eventually_sync(lambda: all(map(ended, processes)), 10, f"process {pid} and its descendants are gone")


def ended(process: psutil.Process) -> bool:
    """Whether a process is gone; one that only waits for its parent to take notice is."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_orphans(pid: int) -> None:
    """SIGKILL what is left of the session of `pid`, which has ended: children that it did not take along.

    While one of them lives the kernel gives the number `pid` to nobody else, so a process that has it now is
    a stranger, and there are no orphans.
    """
    if psutil.pid_exists(pid):
        return
    _send([process for process in psutil.process_iter() if _session(process) == pid], signal.SIGKILL)


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def watch(pid: int) -> None:
    """Have the tree of `pid` killed if this process ends without `unwatch`."""
    _tell("pid", str(pid))


def unwatch(pid: int) -> None:
    """`pid` has ended and been waited for."""
    _tell("no-pid", str(pid))


def watch_folder(path: Path) -> None:
    """Have `path` removed when this process ends."""
    _tell("folder", str(path))


def _tell(kind: str, value: str) -> None:
    pipe = _helper().stdin
    assert pipe is not None
    pipe.write(f"{kind} {value}\n")
    pipe.flush()


@functools.cache
def _helper() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "support.reaper"],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    atexit.register(_dismiss, process)
    return process


def _dismiss(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def main() -> None:
    """Remember what is told on standard input; clean up when it ends."""
    pids: dict[str, psutil.Process] = {}
    folders: list[str] = []
    for line in sys.stdin:
        kind, _, value = line.rstrip("\n").partition(" ")
        if kind == "pid":
            with suppress(psutil.NoSuchProcess):
                pids[value] = psutil.Process(int(value))
        elif kind == "no-pid":
            pids.pop(value, None)
        elif kind == "folder":
            folders.append(value)
    for process in pids.values():
        if not ended(process):  # which knows a stranger with a reused pid by the time of its start
            kill_tree(process.pid)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
