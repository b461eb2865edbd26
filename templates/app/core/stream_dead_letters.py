"""The dead letters of a consumer of a Redis stream: a stream of their own, its entries as they came."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from app.core.broker import BrokerDownError
from app.core.dead_letters import Letter
from app.core.redis_stream import EVENT, REDIS_FAILURES, StreamGroup, say

PAGE = 200
# What `StreamGroup.bury` adds, and the time of a letter that was imported. It does not go back.
REASON, ENTRY, STREAM, GROUP, DELIVERIES, AT = (
    f"dead.{name}".encode() for name in ("reason", "entry", "stream", "group", "deliveries", "at")
)
NOTE = (REASON, ENTRY, STREAM, GROUP, DELIVERIES, AT)

# Moves letters back, each with the fields that it had: as new entries, so their deliveries count from 1. For
# each 1, 0 when it is gone, -1 when it had no fields.
# KEYS: dead letters, stream. ARGV: how many ids, the ids, then the names of the fields to leave out.
REPLAY = """
local note, out = {}, {}
for i = ARGV[1] + 2, #ARGV do note[ARGV[i]] = true end
for i = 2, ARGV[1] + 1 do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  local kept = {}
  for f = 1, entry and #entry[2] or 0, 2 do
    if not note[entry[2][f]] then
      kept[#kept + 1] = entry[2][f]
      kept[#kept + 1] = entry[2][f + 1]
    end
  end
  if #kept > 0 then
    redis.call('XADD', KEYS[2], '*', unpack(kept))
    redis.call('XDEL', KEYS[1], ARGV[i])
  end
  out[#out + 1] = #kept > 0 and 1 or (entry and -1 or 0)
end
return out
"""
VERDICTS = {1: None, 0: "gone: somebody else has replayed or dropped it", -1: "there is no message in it"}


class StreamDeadLetters:
    """See DeadLetters. A letter's id is that of its entry."""

    def __init__(self, group: StreamGroup) -> None:
        self._group, self._client = group, group.client
        self._replay = self._client.register_script(REPLAY)

    async def pages(self, at_most: int | None = None) -> AsyncGenerator[list[Letter], None]:
        """See DeadLetters. What comes in meanwhile is left for the next time."""
        async with answers():
            newest: Any = await self._client.xrevrange(self._group.dead, count=1)
        after = "-"
        while newest and (at_most is None or at_most > 0):
            size = PAGE if at_most is None else min(PAGE, at_most)
            async with answers():
                page: Any = await self._client.xrange(self._group.dead, after, newest[0][0], count=size)
            if not page:
                return
            yield [letter_of(id_, fields) for id_, fields in page]
            after = f"({page[-1][0].decode()}"
            at_most = None if at_most is None else at_most - len(page)

    async def replay(self, letters: Sequence[Letter]) -> list[str | None]:
        """See DeadLetters. Other groups of the stream get it too, and skip it by their inbox."""
        ids = [letter.id for letter in letters]
        async with answers():
            keys = [self._group.dead, self._group.stream]
            verdicts = await self._replay(keys=keys, args=[len(ids), *ids, *NOTE])
        return [VERDICTS[verdict] for verdict in verdicts]

    async def drop(self, letters: Sequence[Letter]) -> None:
        """See DeadLetters."""
        async with answers():
            await self._client.xdel(self._group.dead, *(letter.id for letter in letters))

    async def add(self, letters: Sequence[Letter]) -> list[str | None]:
        """See DeadLetters. All of them or none."""
        async with answers(), self._client.pipeline(transaction=True) as pipe:
            for letter in letters:
                pipe.xadd(self._group.dead, self._fields(letter))
            await pipe.execute()
        return [None] * len(letters)

    def _fields(self, letter: Letter) -> dict[Any, Any]:
        fields = {name.encode(errors="surrogateescape"): as_bytes(v) for name, v in letter.headers.items()}
        if letter.body is not None:
            fields[EVENT] = letter.body
        fields |= {
            REASON: letter.reason.encode(errors="replace"),
            ENTRY: as_bytes(letter.properties.get("entry", "")),
            STREAM: (letter.origin or self._group.stream).encode(errors="replace"),
            GROUP: self._group.group.encode(),
            DELIVERIES: str(letter.deliveries).encode(),
        }
        if letter.at is not None:
            fields[AT] = letter.at.isoformat().encode()
        return fields

    async def close(self) -> None:
        """See DeadLetters."""
        await self._group.close()


def letter_of(id_: bytes, fields: Mapping[bytes, bytes]) -> Letter:
    """An entry of the stream of dead letters."""
    name = id_.decode()
    said = {key: fields.get(key, b"").decode(errors="replace") for key in NOTE}
    return Letter(
        id=name,
        body=fields.get(EVENT),
        reason=said[REASON],
        deliveries=int(said[DELIVERIES]) if said[DELIVERIES].isdecimal() else 0,
        at=time_of(name, said[AT]),
        origin=said[STREAM],
        headers={
            key.decode(errors="surrogateescape"): as_text(value)
            for key, value in fields.items()
            if key not in NOTE and key != EVENT
        },
        properties={"entry": said[ENTRY]},
    )


def time_of(id_: str, noted: str) -> datetime:
    """When the letter was set aside: an entry's id begins with its time."""
    try:
        return datetime.fromisoformat(noted).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(int(id_.partition("-")[0]) / 1000, UTC)


def as_text(value: bytes) -> str | bytes:
    """Text where it is UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def as_bytes(value: Any) -> bytes:
    """What `as_text` was given; a value from another broker in some readable form."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")


@asynccontextmanager
async def answers() -> AsyncIterator[None]:
    """Turns a failure of Redis into BrokerDownError."""
    try:
        yield
    except REDIS_FAILURES as error:
        raise BrokerDownError(f"Redis: {say(error)}") from error
