"""A forked process is what a fresh interpreter would be."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support import forked
from support.wait import eventually_sync

TELL = """
import json, os, pathlib, random, signal, sys, time, __main__
facts = {
    "argv": sys.argv[1:], "main": __name__, "spec": __main__.__spec__.name, "path": sys.path,
    "environment": dict(os.environ), "cwd": os.getcwd(), "session": os.getsid(0) == os.getpid(),
    "child": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL, "zone": time.tzname[0],
    "modules": [name for name in sys.modules if name.split(".")[0] in ("app", "support")],
    "files": sorted(os.listdir("/proc/self/fd")), "given": sys.stdin.read(), "flags": list(sys.flags),
}
print(json.dumps(facts))
sys.stderr.write("bye\\n")
sys.exit(7)
"""
WAIT = "import signal; print('on'); signal.pause()"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with modules of `app` that are in nobody else's path."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "tell.py").write_text(TELL)
    (tmp_path / "app" / "hang.py").write_text(WAIT)
    return tmp_path


@pytest.mark.slow
def test_it_is_what_a_fresh_interpreter_is(project: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.tell", "one", "--two"]
    env = {**os.environ, "PYTHONPATH": str(project), "TZ": "Asia/Tokyo", "SAID": "ü"}
    fresh = subprocess.run(
        command,
        cwd=tmp_path,
        env=env,
        input="word",
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )

    ours = forked.run(command, cwd=tmp_path, env=env, given="word")

    assert (ours.returncode, ours.stderr) == (fresh.returncode, fresh.stderr) == (7, "bye\n")
    facts, expected = json.loads(ours.stdout), json.loads(fresh.stdout)
    assert facts == expected


def says(log: Path, wanted: str) -> bool:
    """Whether a process has said what is wanted of it; anything else is an error that tells what it was."""
    said = log.read_text()
    assert wanted.startswith(said)
    return said == wanted


@pytest.mark.slow
def test_it_is_killed_and_given_up(project: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.hang"]
    env = {**os.environ, "PYTHONPATH": str(project), "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "log").open("w+b") as log, Path(os.devnull).open("rb") as nothing:
        process = forked.Forked(command, cwd=tmp_path, env=env, streams=(nothing, log, log))
        # It is there, and what it writes is seen at once
        eventually_sync(lambda: says(tmp_path / "log", "on\n"), 30)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -9
    # Nothing is left of it, and a signal to it is a signal to nobody
    assert not psutil.pid_exists(process.pid)
    process.send_signal(signal.SIGKILL)
    # A command that does not end is killed
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(command, cwd=tmp_path, env=env, timeout=0.5)


def test_what_is_forked() -> None:
    assert forked.can_be([sys.executable, "-m", "app.workers.run", "order_paid"])
    assert forked.can_be([sys.executable, "-m", "uvicorn", "app.main:app"])
    assert not forked.can_be([sys.executable, "-m", "uvicorn", "app.main:app", "--workers", "2"])
    assert not forked.can_be([sys.executable, "-m", "celery", "-A", "app.core.celery_app", "worker"])
    assert not forked.can_be([sys.executable, "-c", "pass"])
