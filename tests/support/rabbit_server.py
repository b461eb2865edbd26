"""RabbitMQ as a process of the tests."""

import json
import os
import socket
import subprocess
from typing import ClassVar

from support import chroot, generations, reaper
from support.ports import free_port
from support.server import Server, ServerError
from support.wait import eventually_sync

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"
# No port mapper that outlives the node; no busy waiting of idle schedulers, which two cores feel.
NODE_ARGUMENTS = "-start_epmd false +sbwt none +sbwtdcpu none +sbwtdio none"


class RabbitServer(Server):
    """A RabbitMQ node of its own: name, cookie, port mapper, folders and ports; no plugins.

    The user is guest with password guest. A start takes about ten seconds, most of it Erlang loading code, so
    share one node where the test allows and give each test a virtual host (`create_vhost`). `config` are
    further lines of rabbitmq.conf.
    """

    name: ClassVar[str] = "rabbitmq"
    start_deadline_s: ClassVar[float] = 90.0

    def __init__(self, *, config: dict[str, str] | None = None) -> None:
        super().__init__()
        self._program = generations.rabbitmq_server()
        self._node = f"test{self.port}@localhost"
        self._dist_port = free_port()
        self._epmd_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        lines = {"loopback_users": "none", "disk_free_limit.absolute": "1MB", **(config or {})}
        (self.folder / "rabbitmq.conf").write_text("".join(f"{k} = {v}\n" for k, v in lines.items()))
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "home").mkdir()

    def command(self) -> list[str]:
        return [str(self._program)]

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        return inherited | {
            "HOME": str(self.folder / "home"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": self.host,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            # The start script then becomes the node instead of staying as a shell that catches signals.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": NODE_ARGUMENTS,
        }

    def prepare(self) -> None:
        super().prepare()
        epmd = [str(generations.epmd()), "-port", str(self._epmd_port), "-address", self.host]
        if self._epmd is None or self._epmd.poll() is not None:
            self._epmd = subprocess.Popen(
                chroot.launch(epmd).command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            reaper.watch(self._epmd.pid)
        eventually_sync(self._epmd_forgot_node, 10, "the port mapper has forgotten the former node")

    def _epmd_forgot_node(self) -> bool:
        """A node that starts while its former self is still registered gives up."""
        request = b"\x00\x01n"  # NAMES_REQ of Erlang's distribution protocol: length, then the letter n
        try:
            with socket.create_connection((self.host, self._epmd_port), timeout=1) as connection:
                connection.sendall(request)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False
        return self._node.partition("@")[0].encode() not in answer

    def answers(self) -> bool:
        """The node greets a client. It listens only after its queues are recovered."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(PROTOCOL_HEADER)
                return connection.recv(1) == METHOD_FRAME
        except OSError:
            return False

    @property
    def url(self) -> str:
        return self.vhost_url("")

    def vhost_url(self, vhost: str) -> str:
        """AMQP URL of a virtual host; the empty name is the default one."""
        return f"amqp://guest:guest@{self.host}:{self.port}/{vhost}"

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run RabbitMQ's own tool against this node (about a second) and return what it prints.

        For example `list_queues name messages`, `close_all_connections reason`, `stop_app`, `start_app`.
        """
        program = str(self._program.with_name("rabbitmqctl"))
        result = subprocess.run(
            chroot.launch([program, "--quiet", "-n", self._node, *arguments]).command,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise ServerError(f"rabbitmqctl {' '.join(arguments)}: {result.stdout}{result.stderr}")
        return result.stdout

    def create_vhost(self, name: str) -> str:
        """Create an empty virtual host that guest may use; return its URL."""
        definitions = self.folder / f"vhost-{name}.json"
        permissions = {"user": "guest", "vhost": name, "configure": ".*", "write": ".*", "read": ".*"}
        definitions.write_text(json.dumps({"vhosts": [{"name": name}], "permissions": [permissions]}))
        self.rabbitmqctl("import_definitions", str(definitions))
        return self.vhost_url(name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with its queues and end its connections."""
        self.rabbitmqctl("delete_vhost", name)

    def kill(self) -> None:
        """See Server. Waits until RabbitMQ has noted all its queues on disk.

        It does that half a second later (ra_directory.erl, auto_save). A queue that it forgets is there after
        the restart, empty and without a leader, and takes no messages and no consumer any more.
        """
        if self.running:
            eventually_sync(self._queues_on_disk, 20, "RabbitMQ has noted its queues")
        super().kill()

    def _queues_on_disk(self) -> bool:
        for names in self.data.glob("*/quorum/*/names.dets"):
            known = names.read_bytes()
            queues = [folder.name for folder in names.parent.iterdir() if folder.is_dir()]
            if not all(name.encode() in known for name in queues):
                return False
        return True

    def close(self) -> None:
        super().kill()
        super().close()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            reaper.unwatch(self._epmd.pid)
