"""A RabbitMQ of the demo's own: a node that shares nothing with others on the machine and can be killed."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from demo.process import Process, free_port
from demo.stage import Stage

# Before the PATH: Debian's program there insists on the system's own node and user.
FOLDERS = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/opt/homebrew/opt/rabbitmq/sbin")
NO_BUSY_WAITING = "+sbwt none +sbwtdcpu none +sbwtdio none"


class RabbitNode:
    """Its name, data, ports, port mapper and cookie are its own, and stay the same over a kill."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._folder = stage.folder / "rabbitmq"
        self._port, self._mapping, self._distribution = free_port(), free_port(), free_port()
        self.process: Process | None = None
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def start(self) -> Process:
        """Start it with the data that are there. Raises DemoError."""
        if not self._folder.exists():
            self._make()
        self.process = self._stage.start(
            "rabbitmq",
            [str(server_program())],
            cwd=self._folder,
            env=self._environment(),
            server=True,
            stop_signal=signal.SIGKILL,
        )
        return self.process

    def _make(self) -> None:
        self._folder.mkdir()
        (self._folder / "demo.conf").write_text("disk_free_limit.absolute = 1MB\n")
        (self._folder / "plugins").write_text("[].\n")
        command = (str(port_mapper()), "-port", str(self._mapping), "-address", "127.0.0.1")
        self._stage.start("epmd", command, server=True, stop_signal=signal.SIGKILL)

    def kill(self) -> None:
        """End it with kill -9. What it has confirmed is on disk."""
        assert self.process is not None, "not started"
        self.process.kill()
        self._stage.forget(self.process)

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._folder),
            "ERL_EPMD_PORT": str(self._mapping),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"demo{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self._folder / "demo"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            # With these the script becomes the node, and no port mapper outlives it.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-start_epmd false {NO_BUSY_WAITING}",
        }


def installed() -> bool:
    """Whether the machine has what a node needs."""
    return server_program() is not None and port_mapper() is not None


def server_program() -> str | None:
    """The program that starts a node."""
    return shutil.which("rabbitmq-server", path=os.pathsep.join([*FOLDERS, os.environ.get("PATH", "")]))


def port_mapper() -> str | None:
    """Erlang's port mapper, which nodes register with."""
    places = [shutil.which("epmd"), *map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))]
    return next(filter(None, places), None)
