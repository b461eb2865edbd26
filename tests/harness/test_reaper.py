"""Whatever ends the test run, nothing that it started lives on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support import reaper
from support.wait import eventually_sync
from support.workers import ROOT

RUN = """
import sys, time
from support.servers import RedisServer
from support.workers import WorkerProcess
server = RedisServer().start()
worker = WorkerProcess("w", command=[sys.executable, "-c", "import signal; signal.pause()"]).start()
worker.pause()
print(server.pid, worker.pid, server.folder, worker.folder, flush=True)
sys.stdin.read()
"""


def start_run() -> tuple[subprocess.Popen[str], list[psutil.Process], list[Path]]:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    server, worker, *folders = run.stdout.readline().split()
    processes = [psutil.Process(int(server)), psutil.Process(int(worker))]
    return run, processes, [Path(folder) for folder in folders]


@pytest.mark.services
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_and_paused_workers_end_with_the_run(number: signal.Signals) -> None:
    run, processes, folders = start_run()
    with run:
        run.send_signal(number)
    eventually_sync(lambda: all(map(reaper.ended, processes)), 10, "all ended")
    eventually_sync(lambda: not any(folder.exists() for folder in folders), 10, "all removed")


@pytest.mark.services
def test_they_end_after_an_ordinary_end_too() -> None:
    run, processes, folders = start_run()
    run.communicate("")
    assert run.returncode == 0
    assert all(map(reaper.ended, processes))
    assert not any(folder.exists() for folder in folders)
