"""Strict order on a Redis stream: see `app.core.in_order`.

The active worker has a lease in Redis and renews it with its heartbeat. Work is handed out by a script that
looks at the lease and then takes the oldest entry that is not done, whoever had it; new ones come after. A
worker that froze finds its lease gone: what it still does meets the inbox, and it gets nothing more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from app.core.consumer import Consumer
from app.core.in_order import InOrder, one_at_a_time
from app.core.message_worker import wait_for
from app.core.redis_stream import BLOCK_SECONDS, Entry, StreamGroup, entries
from app.core.stream_consumer import StreamConsumer, StreamDelivery
from app.core.worker_settings import WorkerSettings, worker_settings

logger = logging.getLogger(__name__)

STANDBY_EVERY = 0.5

# What is ours already was handed out in an answer that got lost: no handler has seen it, it is not counted.
# KEYS: stream, retries, active. ARGV: group, consumer, lease in ms.
# Returns who is active, then {id, fields, count} when there is one for us, else the last id that was read.
NEXT = """
local active = redis.call('GET', KEYS[3])
if active and active ~= ARGV[2] then return {active} end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
while true do
  local oldest = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1)[1]
  if not oldest then break end
  local id, count, entry = oldest[1], oldest[4], nil
  if oldest[2] == ARGV[2] then
    entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  else
    entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id)[1]
    count = count + 1
  end
  redis.call('ZREM', KEYS[2], id)
  if entry then return {ARGV[2], {id, entry[2], count}} end
  redis.call('XACK', KEYS[1], ARGV[1], id)
end
local answer = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
if answer then
  local entry = answer[1][2][1]
  return {ARGV[2], {entry[1], entry[2], 1}}
end
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #info, 2 do group[info[i]] = info[i + 1] end
  if group['name'] == ARGV[1] then return {ARGV[2], group['last-delivered-id']} end
end
"""

# A lease that ran out and that nobody took is ours again, as long as we have something in hand.
# KEYS: active. ARGV: consumer, lease in ms, how many are in hand. Returns 1 when no other worker is active.
RENEW = """
local active = redis.call('GET', KEYS[1])
if active == ARGV[1] or (not active and tonumber(ARGV[3]) > 0) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
elseif active then
  return 0
end
return 1
"""

# KEYS: stream, active. ARGV: group, consumer, id, count, count to go on with.
AGAIN = """
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if #held == 0 or held[1][4] ~= tonumber(ARGV[4]) then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', ARGV[5], 'JUSTID')
return 1
"""

# KEYS: active. ARGV: consumer.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


@dataclass(frozen=True, slots=True)
class Turn:
    """What a worker is told that asks for work: an entry, or after which id the next one will come."""

    active: bool
    entry: Entry | None = None
    after: bytes = b"$"


class OrderedGroup(StreamGroup):
    """A consumer group with one active worker. `{stream}:active:<group>` holds its name while it lives."""

    def __init__(self, url: str, stream: str, group: str, lease: float) -> None:
        super().__init__(url, stream, group)
        self.active = f"{{{stream}}}:active:{group}"
        self._lease_ms = int(lease * 1000)

    async def next(self) -> Turn:
        """The oldest entry that is not done, now ours, its delivery counted, if it is our turn. Ask only with
        nothing in hand.
        """
        keys = [self.stream, self.retries, self.active]
        answer = await self._run(NEXT, keys, self.group, self.me, self._lease_ms)
        match answer:
            case [bytes()]:
                return Turn(active=False)
            case [_, bytes() as last]:
                return Turn(active=True, after=last)
        return Turn(active=True, entry=entries(answer[1:])[0])

    async def news(self, after: bytes) -> None:
        """Wait up to a second for an entry behind `after`."""
        await self.reader.xread({self.stream: after}, count=1, block=int(BLOCK_SECONDS * 1000))

    async def renew(self, held: Iterable[Entry]) -> set[bytes]:
        """See StreamGroup: all that we hold is somebody else's when another worker is active."""
        ids = {entry.id for entry in held}
        return set() if await self._run(RENEW, [self.active], self.me, self._lease_ms, len(ids)) else ids

    async def again(self, entry: Entry, *, counted: bool) -> bool:
        """Whether `entry` may be handled again; when `counted`, as the next delivery."""
        goes_on = entry.count + counted
        args = (self.group, self.me, entry.id, entry.count, goes_on)
        if not await self._run(AGAIN, [self.stream, self.active], *args):
            return False
        entry.count = goes_on
        return True

    async def leave(self) -> int:
        """See StreamGroup; another worker becomes active as soon as it asks."""
        handed_back = await super().leave()
        await self._run(RELEASE, [self.active], self.me)
        return handed_back


class OrderedStreamConsumer(InOrder[StreamDelivery], StreamConsumer):
    """Runs `consumer` on its stream strictly in order, or stands by while another worker does."""

    group: OrderedGroup

    def __init__(self, consumer: Consumer, settings: WorkerSettings | None = None) -> None:
        super().__init__(consumer, one_at_a_time(settings or worker_settings()))
        self._active: bool | None = None

    def open_group(self) -> OrderedGroup:
        """See StreamConsumer."""
        url, lease = self.settings.redis_url.get_secret_value(), self.settings.worker_lease_seconds
        return OrderedGroup(url, self.consumer.topic, self.consumer.name, lease)

    async def _next(self) -> list[StreamDelivery]:
        if not await self.gate.wait_open(1.0):
            return []
        if self.held:
            await self._until_woken(1.0)
            return []
        turn = await self.group.next()
        if turn.active is not self._active:
            self._active = turn.active
            logger.info("%s: %s", self.name, "active" if turn.active else "stands by")
        if turn.entry is not None:
            return [StreamDelivery(turn.entry)]
        if turn.active:
            await self.group.news(turn.after)
        else:
            await self._until_woken(STANDBY_EVERY)
        return []

    async def _until_woken(self, timeout: float) -> None:
        self.slots.hungry.clear()
        await wait_for(self.slots.hungry, timeout)

    async def finish(self, delivery: StreamDelivery) -> None:
        """See InOrder."""
        await self._persist(lambda: self.group.ack([delivery.id]))

    def ours(self, delivery: StreamDelivery) -> bool:
        """See InOrder."""
        return delivery.watch.revoked is None

    async def again(self, delivery: StreamDelivery, *, counted: bool) -> bool:
        """See InOrder. A Redis that is away is waited for: it alone knows whose turn it is."""
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await self.group.again(delivery.entry, counted=counted))

        await self._persist(ask)
        return any(answers)
