"""A worker process is started, asked, paused, ended and killed; a stand-in serves as the worker."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support import reaper
from support.wait import eventually, eventually_sync
from support.workers import WorkerEnded, WorkerProcess

STAND_IN = """
import http.server, os, signal, subprocess, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()
        self.wfile.write(b'{"consumer": "consuming"}')
    def log_message(self, *arguments):
        pass

def end(*arguments):
    print("draining")
    sys.exit(int(os.environ.get("EXIT_CODE", "0")))

child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("child", child.pid)
signal.signal(signal.SIGTERM, end)
http.server.HTTPServer(("127.0.0.1", int(os.environ["WORKER_HEALTH_PORT"])), Ready).serve_forever()
"""


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    with stand_in() as worker:
        yield worker.wait_ready()


def stand_in(env: dict[str, str] | None = None, code: str = STAND_IN) -> WorkerProcess:
    return WorkerProcess("stand-in", env, command=[sys.executable, "-c", code])


def child_of(worker: WorkerProcess) -> psutil.Process:
    (child,) = psutil.Process(worker.pid).children()
    return child


def test_readiness_is_what_the_health_port_says(worker: WorkerProcess) -> None:
    assert worker.ready()
    assert not worker.ready(f"http://127.0.0.1:{worker.health_port}/other")
    assert worker.problems() == '{"consumer": "consuming"}'
    worker.kill9()
    assert not worker.ready()
    assert worker.problems() == ""


async def test_an_async_test_can_wait_for_it() -> None:
    with stand_in() as worker:
        assert (await worker.until_ready()).ready()


def test_sigterm_gives_the_exit_code_and_the_log_is_kept() -> None:
    with stand_in({"EXIT_CODE": "7"}) as worker:
        worker.wait_ready()
        assert worker.sigterm() == 7
    assert worker.log_text().endswith("draining\n")
    assert not worker.folder.exists()


def test_a_worker_that_ignores_sigterm_is_a_timeout_and_is_killed_at_the_end() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on'); signal.pause()"
    with stand_in(code=code) as worker:
        eventually_sync(lambda: "on" in worker.log_text(), 10, "the worker ignores SIGTERM")
        with pytest.raises(subprocess.TimeoutExpired):
            worker.sigterm(timeout=0.2)
    assert not worker.running


def test_a_child_that_the_worker_left_behind_is_killed_at_the_end() -> None:
    with stand_in() as worker:
        child = child_of(worker.wait_ready())
        worker.sigterm()
        assert not reaper.ended(child)
    eventually_sync(lambda: reaper.ended(child), 5, "the child has ended")


def test_kill9_takes_the_children_along(worker: WorkerProcess) -> None:
    child = child_of(worker)
    worker.kill9()
    assert worker.returncode == -9
    assert reaper.ended(child)


async def test_a_paused_worker_is_there_and_does_nothing(worker: WorkerProcess) -> None:
    worker.pause()
    await eventually(lambda: child_of(worker).status() == psutil.STATUS_STOPPED, 5, "the child stands still")
    assert worker.running
    assert not worker.ready()
    worker.resume()
    await eventually(worker.ready, 5, "the worker goes on")


def test_a_worker_that_ends_at_once_shows_its_log() -> None:
    failure = pytest.raises(WorkerEnded, match="ended with 1\nno DATABASE_URL")
    with stand_in(code="raise SystemExit('no DATABASE_URL')") as worker, failure:
        worker.wait_ready()


def test_a_worker_that_never_gets_ready_shows_its_log() -> None:
    with stand_in(code="import signal; print('waiting for the broker'); signal.pause()") as worker:
        eventually_sync(lambda: "waiting" in worker.log_text(), 10, "the worker is up")
        with pytest.raises(WorkerEnded, match="waiting for the broker"):
            worker.wait_ready(0.2)


def test_the_templates_the_shop_and_the_tests_can_be_imported() -> None:
    code = "import app.core.config, app.core.outcomes, support; print('imported')"
    with stand_in(code=code) as worker:
        assert worker.wait(30) == 0, worker.log_text()


def test_it_runs_outside_the_repository(worker: WorkerProcess) -> None:
    assert Path(psutil.Process(worker.pid).cwd()) == worker.folder.resolve()
