"""One consumer group on one Redis stream, as calls that either happened as a whole or not at all."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from app.core import stream_scripts as scripts
from app.core.redis_memory import check_memory

EVENT = b"event"
BLOCK_SECONDS = 1.0
REDIS_FAILURES = (RedisError, OSError)


@dataclass(slots=True)
class Entry:
    """An entry of a stream in our hands. `count` is the number of this delivery and the fencing token."""

    id: bytes
    fields: Mapping[bytes, bytes]
    count: int = 1


class Script(Protocol):
    """A script registered with a client."""

    async def __call__(self, keys: list[bytes | str], args: list[Any]) -> Any: ...


def connect(url: str, *, socket_timeout: float, max_connections: int = 100) -> Redis:
    """A client without hidden retries and with a timeout that fits its commands.

    redis-py 8 gives up a read after 5 s, which ends a longer BLOCK, and `Redis(host=…)` repeats any command
    that timed out: an XADD is then added twice, and entries of a repeated XREADGROUP reach nobody.
    """
    ours: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": 3,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": max_connections,
        "decode_responses": False,
    }
    # Over the URL's own options, which `from_url` would prefer: `?socket_timeout=1` would end every wait, and
    # `?protocol=3` changes the shape of the answers.
    options: dict[str, Any] = {**parse_url(url), **ours}
    options.pop("protocol", None)
    return Redis.from_pool(ConnectionPool(**options))


async def refuse_eviction(client: Redis) -> None:
    """Raises RefusedToStartError for a Redis that deletes messages; one that may not tell is taken."""
    with suppress(ResponseError):
        check_memory(await client.info("memory"))


def say(error: BaseException) -> str:
    """One line about a failure. redis-py quotes the whole command of a pipeline, the message included."""
    return f"{type(error).__name__}: {str(error).rpartition('caused error: ')[2][:200]}"


def is_missing_group(error: BaseException) -> bool:
    """Whether Redis has lost the stream or the group: it came back empty, or someone deleted them."""
    text = str(error)
    return isinstance(error, ResponseError) and ("NOGROUP" in text or "no such key" in text.lower())


class StreamGroup:
    """Group `group` on `stream`, seen by one consumer with a name of its own.

    Keys: `{stream}:retry:<group>` holds the due times of parked entries, `{stream}:dead:<group>` the dead
    letters.
    """

    def __init__(self, url: str, stream: str, group: str, connections: int = 20) -> None:
        self.stream, self.group = stream, group
        self.retries = f"{{{stream}}}:retry:{group}"
        self.dead = f"{{{stream}}}:dead:{group}"
        # New for each process: a restarted worker must not pass for the one that died.
        self.me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.reader = connect(url, socket_timeout=BLOCK_SECONDS + 4)
        self.client = connect(url, socket_timeout=4, max_connections=connections)
        self._scripts: dict[str, Any] = {}
        self._accepted = False

    async def _run(self, source: str, keys: list[str], *args: Any) -> Any:
        script = self._scripts.get(source)
        if script is None:
            script = self._scripts[source] = self.client.register_script(source)
        return await script(keys=keys, args=list(args))

    async def ensure(self) -> None:
        """Create stream and group where they are missing. The group starts at the first entry, not at the
        end: what was sent before the first consumer started is work too, and repeats are harmless.

        Raises RefusedToStartError, the first time, for a Redis that deletes messages.
        """
        if not self._accepted:
            await refuse_eviction(self.client)
            self._accepted = True
        try:
            await self.client.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def read(self, count: int, *, wait: bool) -> list[Entry]:
        """Up to `count` entries that no consumer has had; waits up to a second for the first one."""
        block = int(BLOCK_SECONDS * 1000) if wait else None
        answer: Any = await self.reader.xreadgroup(
            self.group, self.me, {self.stream: ">"}, count=count, block=block
        )
        return [Entry(id_, fields or {}) for _, entries in answer or () for id_, fields in entries]

    async def due(self, count: int) -> list[Entry]:
        """Up to `count` parked entries whose time has come, now ours, their delivery counted."""
        return entries(await self._run(scripts.DUE, [self.stream, self.retries], self.group, self.me, count))

    async def take_over(self, lease: float, room: int, suspect_from: int, suspects: int) -> list[Entry]:
        """Entries of consumers that were silent for `lease` seconds, now ours, their delivery counted."""
        return entries(
            await self._run(
                scripts.TAKE_OVER,
                [self.stream, self.retries],
                self.group,
                self.me,
                int(lease * 1000),
                room,
                suspect_from,
                suspects,
            )
        )

    async def renew(self, held: Iterable[Entry]) -> set[bytes]:
        """Tell Redis that we are at work on `held`; the ids of those that are somebody else's now."""
        pairs = [value for entry in held for value in (entry.id, entry.count)]
        return (
            set(await self._run(scripts.RENEW, [self.stream], self.group, self.me, *pairs))
            if pairs
            else set()
        )

    async def ack(self, ids: Iterable[bytes]) -> None:
        """Acknowledge entries whose effect is committed. Right even when we lost them meanwhile."""
        await self.client.xack(self.stream, self.group, *ids)

    async def park(self, entry: Entry, delay: float, *, counted: bool) -> bool:
        """Give `entry` up for `delay` seconds; with `counted` false its delivery is taken back.

        False: it is ours no longer and nothing was changed.
        """
        goes_on = entry.count if counted else max(0, entry.count - 1)
        args = (self.group, self.me, entry.id, entry.count, goes_on, max(0, int(delay * 1000)))
        return bool(await self._run(scripts.PARK, [self.stream, self.retries], *args))

    async def bury(self, entry: Entry, reason: str) -> bool:
        """Move `entry` to the dead letters, fields as they came, and acknowledge it. False as in `park`."""
        note: dict[bytes, bytes | str | int] = {
            b"dead.reason": reason,
            b"dead.entry": entry.id,
            b"dead.stream": self.stream,
            b"dead.group": self.group,
            b"dead.deliveries": entry.count,
        }
        flat = [part for pair in {**entry.fields, **note}.items() for part in pair]
        args = (self.group, self.me, entry.id, entry.count, *flat)
        return bool(await self._run(scripts.BURY, [self.stream, self.dead], *args))

    async def trim(self) -> int:
        """Remove entries that every group is done with; how many."""
        return int(await self._run(scripts.TRIM, [self.stream]))

    async def reap(self, silent: float) -> list[bytes]:
        """Remove consumers that hold nothing and have been silent for `silent` seconds; their names."""
        return list(await self._run(scripts.REAP, [self.stream], self.group, self.me, int(silent * 1000)))

    async def leave(self) -> int:
        """Hand back what we hold without counting its delivery, and remove our name; how many."""
        return int(await self._run(scripts.LEAVE, [self.stream, self.retries], self.group, self.me))

    async def close(self) -> None:
        """Close the connections."""
        await self.reader.aclose()
        await self.client.aclose()


def entries(answer: list[tuple[bytes, list[bytes], int]]) -> list[Entry]:
    """Entries from what the scripts return."""
    return [Entry(id_, dict(zip(flat[::2], flat[1::2], strict=True)), count) for id_, flat, count in answer]
