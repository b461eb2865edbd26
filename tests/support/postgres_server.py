"""PostgreSQL as a process of the tests."""

import asyncio
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import asyncpg

from support import chroot, generations, reaper
from support.server import Server, ServerError

SUPERUSER = "postgres"


def _account() -> str | None:
    """PostgreSQL refuses to run as root, so root hands it to another user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ServerError("PostgreSQL does not run as root and there is neither a user postgres nor nobody")


def _hand_over(folder: Path) -> None:
    """Give an empty folder to the account that PostgreSQL runs as; PostgreSQL insists on mode 0700."""
    account = _account()
    folder.mkdir(mode=0o700)
    if account is not None:
        shutil.chown(folder, account, pwd.getpwnam(account).pw_gid)


@functools.cache
def _new_cluster(folder_of_programs: Path) -> Path:
    """A fresh data folder, made once per run: initdb takes seconds, a copy of its result does not."""
    base = Path(tempfile.mkdtemp(prefix="postgres-template-"))
    base.chmod(0o755)
    reaper.watch_folder(base)
    cluster = base / "data"
    _hand_over(cluster)
    command = [str(folder_of_programs / "initdb"), "--pgdata", str(cluster), "--username", SUPERUSER]
    options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    start, account = chroot.launch([*command, *options], _account())
    result = subprocess.run(
        start,
        cwd=base,
        user=account,
        group=account,
        extra_groups=None if account is None else [],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise ServerError(f"initdb failed:\n{result.stdout}{result.stderr}")
    return cluster


class PostgresServer(Server):
    """A PostgreSQL cluster.

    `fsync=False` is quick and keeps every commit over a kill of the processes, since the kernel lives on;
    only a power failure would lose data. `options` are further settings (`-c name=value`). `cluster` is the
    data folder of another server, at rest, that this one starts from and falls back to in `restart_empty`.
    """

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions instead of waiting for them

    def __init__(
        self, *, fsync: bool = False, options: dict[str, str] | None = None, cluster: Path | None = None
    ) -> None:
        super().__init__()
        self._cluster = cluster
        self._programs = generations.postgres_folder()
        durable = "on" if fsync else "off"
        self._options = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "fsync": durable,
            "full_page_writes": durable,
            **(options or {}),
        }

    def account(self) -> str | None:
        return _account()

    def prepare(self) -> None:
        if not self.data.exists():
            # As root `cp -a` keeps the owner, which shutil.copytree would not.
            source = self._cluster or _new_cluster(self._programs)
            subprocess.run(["cp", "-a", str(source), str(self.data)], check=True)

    def command(self) -> list[str]:
        settings = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self.data), *settings]

    def answers(self) -> bool:
        """pg_isready tells a server that accepts sessions from one that still recovers."""
        command = [str(self._programs / "pg_isready"), "-q", "-t", "1", "-h", self.host, "-p", str(self.port)]
        start = chroot.launch(command).command
        return subprocess.run(start, check=False, capture_output=True).returncode == 0

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, database: str, driver: str = "postgresql+asyncpg") -> str:
        """SQLAlchemy URL of a database; `driver="postgresql"` gives the one of libpq and asyncpg."""
        return f"{driver}://{SUPERUSER}@{self.host}:{self.port}/{database}"

    async def execute(self, statement: str, database: str = "postgres") -> list[asyncpg.Record]:
        """Run one statement as superuser outside a transaction; return its rows."""
        connection = await asyncpg.connect(self.database_url(database, "postgresql"))
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()

    def execute_sync(self, statement: str, database: str = "postgres") -> list[asyncpg.Record]:
        """`execute` that blocks. In a thread of its own, so that it works while an event loop runs too."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self.execute(statement, database)).result()

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database as a copy of `template`, which nobody may be connected to; return its URL."""
        self.execute_sync(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and end the sessions that use it."""
        self.execute_sync(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
