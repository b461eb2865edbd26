"""One connection through the fault proxy, and what may be done to it."""

import asyncio
import enum
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

PIECE = 65536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on with 0 seconds: close() sends RST instead of FIN


class Direction(enum.Enum):
    """Which way bytes go."""

    TO_SERVER = "to_server"
    TO_CLIENT = "to_client"


@dataclass
class Trigger:
    """Breaks a connection when `pattern` passes; at most `times` times."""

    pattern: bytes
    direction: Direction
    deliver: bool
    times: int
    fired: threading.Event

    def sees(self, direction: Direction, seen: bytes) -> bool:
        """Whether the connection is to be broken now."""
        if self.times <= 0 or direction is not self.direction or self.pattern not in seen:
            return False
        self.times -= 1
        self.fired.set()
        return True

    def rest(self, seen: bytes) -> bytes:
        """The end of what was seen that may be the beginning of the pattern."""
        return seen[-(len(self.pattern) - 1) :] if len(self.pattern) > 1 else b""


@dataclass
class Behaviour:
    """A mode of the proxy. The default is to forward."""

    held: bool = False
    drop_responses: bool = False
    delay_s: float = 0.0
    trigger: Trigger | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when another behaviour has taken over."""


class Broken(Exception):
    """The trigger broke the connection."""


class Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        target: tuple[str, int],
        behaviour: Callable[[], Behaviour],
    ) -> None:
        self._client = client
        self._target = target
        self._behaviour = behaviour
        self._writers = [client[1]]
        self._task: asyncio.Task[None] | None = None
        self.lost_answers = False

    async def run(self) -> None:
        """Carry bytes both ways until both sides have ended, one breaks, or `abort` is called."""
        self._task = asyncio.create_task(self._carry_both_ways())
        await asyncio.wait([self._task])
        for writer in self._writers:
            writer.close()

    def abort(self) -> None:
        """Reset (RST) both sides now."""
        if self._task is not None:
            self._task.cancel()
        self._reset_all()

    async def _carry_both_ways(self) -> None:
        try:
            await self._current()
            server = await asyncio.open_connection(*self._target)
            self._writers.append(server[1])
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(Direction.TO_SERVER, self._client[0], server[1]))
                group.create_task(self._carry(Direction.TO_CLIENT, server[0], self._client[1]))
        except* OSError:
            self._reset_all()
        except* Broken:
            # The server's side gets an ordinary end (FIN): a RST could throw away a delivered request.
            _reset(self._client[1])

    async def _carry(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        rest = b""
        while piece := await reader.read(PIECE):
            behaviour = await self._current()
            await asyncio.sleep(behaviour.delay_s)
            if behaviour.drop_responses and direction is Direction.TO_CLIENT:
                self.lost_answers = True
                continue
            trigger = behaviour.trigger
            if trigger and trigger.sees(direction, rest + piece):
                await _send(writer, piece if trigger.deliver else b"")
                raise Broken
            rest = trigger.rest(rest + piece) if trigger else b""
            await _send(writer, piece)
        await self._current()
        writer.write_eof()

    async def _current(self) -> Behaviour:
        """The behaviour in force, as soon as it lets anything pass."""
        while (behaviour := self._behaviour()).held:
            await behaviour.over.wait()
        return behaviour

    def _reset_all(self) -> None:
        for writer in self._writers:
            _reset(writer)


async def _send(writer: asyncio.StreamWriter, piece: bytes) -> None:
    writer.write(piece)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
