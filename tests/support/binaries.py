"""Where the servers' programs are on this machine, and those of the tests' clients: a browser and Node.js.

Standard library only: `make services` runs it before anything is installed
(`python3 tests/support/binaries.py` prints what is missing and exits 1).

Debian keeps PostgreSQL's programs off the PATH, and its `rabbitmq-server` on the PATH is a wrapper that
insists on the system's own node and user, so the real ones are looked for first.
"""

import os
import re
import shutil
import sys
from pathlib import Path


class MissingServer(RuntimeError):
    """A server program is not installed."""

    def __init__(self, service: str, variable: str) -> None:
        super().__init__(f"{service} is not installed: run `make services`, or set {variable} to where it is")


def _version(path: Path) -> tuple[int, ...]:
    """Numbers in a path, to prefer the newest of several installed versions."""
    return tuple(int(number) for number in re.findall(r"\d+", str(path)))


def _newest(patterns: tuple[str, ...]) -> Path | None:
    found = [path for pattern in patterns for path in Path("/").glob(pattern) if os.access(path, os.X_OK)]
    return max(found, key=_version, default=None)


def _program(service: str, variable: str, name: str, patterns: tuple[str, ...]) -> Path:
    chosen = os.environ.get(variable)
    if chosen:
        return Path(chosen)
    on_path = shutil.which(name)
    found = _newest(patterns) or (Path(on_path) if on_path else None)
    if found is None:
        raise MissingServer(service, variable)
    return found


def redis_server() -> Path:
    """The program `redis-server`."""
    return _program("Redis", "TEST_REDIS_SERVER", "redis-server", ())


def rabbitmq_server() -> Path:
    """The start script of RabbitMQ; `rabbitmqctl` lies beside it."""
    patterns = (
        "usr/lib/rabbitmq/bin/rabbitmq-server",
        "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
        "opt/rabbitmq/sbin/rabbitmq-server",
        "opt/rabbitmq_server-*/sbin/rabbitmq-server",
        "opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    )
    return _program("RabbitMQ", "TEST_RABBITMQ_SERVER", "rabbitmq-server", patterns)


def postgres_folder() -> Path:
    """The folder that holds `initdb`, `postgres` and `pg_isready`."""
    patterns = (
        "usr/lib/postgresql/*/bin/initdb",
        "usr/pgsql-*/bin/initdb",
        "opt/homebrew/opt/postgresql@*/bin/initdb",
    )
    chosen = os.environ.get("TEST_POSTGRES_BIN")
    if chosen:
        return Path(chosen)
    return _program("PostgreSQL", "TEST_POSTGRES_BIN", "initdb", patterns).resolve().parent


def epmd() -> Path:
    """Erlang's port mapper, which RabbitMQ's nodes register with."""
    patterns = ("usr/lib/erlang/erts-*/bin/epmd", "usr/local/lib/erlang/erts-*/bin/epmd")
    return _program("Erlang's epmd", "TEST_EPMD", "epmd", patterns)


def chromium() -> Path:
    """The browser."""
    return _program("Chromium", "TEST_CHROMIUM", "chromium", ())


def node() -> Path:
    """What runs JavaScript outside of a browser."""
    return _program("Node.js", "TEST_NODE", "node", ())


def missing() -> list[str]:
    """Names of what is not installed."""
    absent = []
    for name, find in (
        ("PostgreSQL", postgres_folder),
        ("Redis", redis_server),
        ("RabbitMQ", rabbitmq_server),
        ("Chromium", chromium),
        ("Node.js", node),
    ):
        try:
            find()
        except MissingServer:
            absent.append(name)
    return absent


if __name__ == "__main__":
    names = missing()
    sys.stdout.write("".join(f"{name}\n" for name in names))
    sys.exit(1 if names else 0)
