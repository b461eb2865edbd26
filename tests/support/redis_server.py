"""Redis as a process of the tests."""

import socket
from pathlib import Path
from typing import ClassVar

from support import generations
from support.server import Server, ServerError


class RedisServer(Server):
    """A Redis. With `appendonly` it keeps what it confirmed over kill and restart, else it forgets all.

    `maxmemory` is in Redis' notation ("32mb") and goes with the policy noeviction, so that writes fail when
    it is full. `binary` picks another version; `options` are further `--name value` pairs.
    """

    name: ClassVar[str] = "redis"

    def __init__(
        self,
        *,
        appendonly: bool = True,
        maxmemory: str | None = None,
        binary: Path | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._binary = binary or generations.redis_server()
        self._options = {
            "port": str(self.port),
            "bind": self.host,
            "dir": str(self.data),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always" if appendonly else "no",
            **({"maxmemory": maxmemory, "maxmemory-policy": "noeviction"} if maxmemory else {}),
            **(options or {}),
        }

    def command(self) -> list[str]:
        pairs = [part for name, value in self._options.items() for part in (f"--{name}", value)]
        return [str(self._binary), *pairs]

    def answers(self) -> bool:
        """PING is answered with PONG; while data is loaded it is answered with an error."""
        try:
            return self._ask(b"PING").startswith(b"+PONG")
        except OSError:
            return False

    def flush(self) -> None:
        """Remove all keys of all databases."""
        answer = self._ask(b"FLUSHALL")
        if not answer.startswith(b"+OK"):
            raise ServerError(f"FLUSHALL: {answer!r}")

    def _ask(self, command: bytes) -> bytes:
        with socket.create_connection((self.host, self.port), timeout=1) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(256)

    @property
    def url(self) -> str:
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """URL of one of the 16 databases."""
        return f"redis://{self.host}:{self.port}/{number}"
