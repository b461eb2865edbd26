"""The interpreter of each contestant: this one, or one of its own for a peer that wants other packages."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "faststream": "faststream",
    "taskiq": "taskiq_redis",
    "saq": "saq",
    "rabbit_faststream": "faststream.rabbit",
    "rabbit_taskiq": "taskiq_aio_pika",
    "rabbit_celery": "celery",
    "rabbit_dramatiq": "dramatiq.brokers.rabbitmq",
    "cron_apscheduler": "apscheduler",
    "cron_celery_beat": "celery",
    "cron_procrastinate": "procrastinate",
    "cron_redbeat": "redbeat",
    "cron_saq": "saq",
    "tasks_dramatiq": "dramatiq.brokers.redis",
    "tasks_procrastinate": "procrastinate",
    "tasks_sync": "psycopg",
    "tasks_guide": "psycopg",
    "llm_prefork": "celery",
    "llm_threads": "celery",
}
CHECK = """
import importlib.util, sys

def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False

missing = [name for name in sys.argv[1:] if not there(name)]
sys.exit(f"{', '.join(missing)} not installed" if missing else 0)
"""
# SAQ's extra for Redis wants an older client than the templates.
SEPARATE = {"saq": "bench-saq", "cron_saq": "bench-saq"}


class PeerMissingError(RuntimeError):
    """A peer cannot be measured here; the text says what to do about it."""


@functools.cache
def python_of(contestant: str) -> str:
    """The interpreter to run `contestant` with. Makes an environment when there is none.

    Raises PeerMissingError.
    """
    module = MODULES.get(contestant)
    if module is None:
        return sys.executable
    group = SEPARATE.get(contestant)
    python = chosen(group) if group else sys.executable
    command = [python, "-c", CHECK, module, "sqlalchemy", "asyncpg", "pydantic_settings"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise PeerMissingError(f"{found.stderr.strip()}: see requirements/{group or 'bench'}.txt")
    return python


def chosen(group: str) -> str:
    """BENCH_SAQ_PYTHON and the like, else what `make bench` made, else one of our own in the cache folder."""
    variable = f"{group.upper().replace('-', '_')}_PYTHON"
    made = ROOT / f".venv-{group}" / "bin" / "python"
    if variable in os.environ:
        return os.environ[variable]
    return str(made if made.exists() else cached(ROOT / "requirements" / f"{group}.txt"))


def cached(requirements: Path) -> Path:
    """An environment with exactly `requirements`, made once for this version of them and of Python."""
    content = requirements.read_bytes() + sys.version.encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "python-async-workers"
    folder = cache / f"{requirements.stem}-{hashlib.sha256(content).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for command in commands(folder, python, requirements):
            run(command)
        (folder / "complete").touch()
    return python


def commands(folder: Path, python: Path, requirements: Path) -> list[list[str]]:
    """How to make an environment: with uv where there is one, else with what Python brings."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        install = [
            uv,
            "pip",
            "sync",
            "--quiet",
            "--require-hashes",
            "--python",
            str(python),
            str(requirements),
        ]
        return [[uv, "venv", "--quiet", "--python", sys.executable, str(folder)], install]
    install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(requirements)]
    return [[sys.executable, "-m", "venv", str(folder)], install]


def run(command: list[str]) -> None:
    """Run one step. Raises PeerMissingError when it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PeerMissingError(f"{' '.join(command[:4])} failed: {result.stderr.strip()[-500:]}")
