"""Trimming, dead consumers, and the scripts' fencing, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core.redis_stream import Entry, StreamGroup
from support.wait import eventually


@pytest.fixture
async def group(redis_url: str) -> AsyncIterator[StreamGroup]:
    """A group with its stream."""
    group = StreamGroup(redis_url, "s", "g")
    await group.ensure()
    yield group
    await group.close()


async def fill(group: StreamGroup, count: int) -> None:
    """Add entries, large enough that a few hundred make several blocks."""
    pipe = group.client.pipeline(transaction=False)
    for number in range(count):
        pipe.xadd("s", {"event": b"x" * 100, "n": number})
    await pipe.execute()


async def test_trimming_keeps_what_is_unread_or_unacknowledged(group: StreamGroup, redis_url: str) -> None:
    # Given 1,000 entries: read up to 800, acknowledged but for number 300
    await fill(group, 1000)
    entries = await group.read(800, wait=False)
    await group.ack(entry.id for index, entry in enumerate(entries) if index != 300)
    # When it is trimmed
    assert await group.trim() > 100
    kept: Any = await group.client.xrange("s")
    left = [int(fields[b"n"]) for _, fields in kept]
    # Then all from number 300 on is there
    assert left[-700:] == list(range(300, 1000))
    # And a second group that has read nothing keeps everything that it has not had
    other = StreamGroup(redis_url, "s", "late")
    await other.ensure()
    await group.ack([entries[300].id])
    assert await group.trim() == 0
    seen = await other.read(1000, wait=False)
    assert [int(e.fields[b"n"]) for e in seen][-700:] == list(range(300, 1000))
    await other.close()


async def test_a_parked_entry_is_not_trimmed(group: StreamGroup) -> None:
    await fill(group, 500)
    entries = await group.read(500, wait=False)
    assert await group.park(entries[0], 60, counted=True)
    await group.ack(entry.id for entry in entries[1:])
    assert await group.trim() == 0
    kept: Any = await group.client.xrange("s", count=1)
    assert kept[0][0] == entries[0].id


async def test_maxlen_would_have_lost_them(group: StreamGroup) -> None:
    # The wrong form, for comparison: XADD … MAXLEN removes what nobody has read
    for number in range(10):
        await group.client.xadd("s", {"n": number}, maxlen=3, approximate=False)
    assert len(await group.read(100, wait=False)) == 3


async def test_dead_consumers_go_when_they_hold_nothing(group: StreamGroup, redis_url: str) -> None:
    # Given two consumers of the past, one of which still holds an entry
    holder, idler = StreamGroup(redis_url, "s", "g"), StreamGroup(redis_url, "s", "g")
    await fill(group, 2)
    await holder.read(1, wait=False)
    await idler.ack([entry.id for entry in await idler.read(1, wait=False)])
    await asyncio.sleep(0.05)
    # Then only the other one goes
    await eventually(lambda: reaped(group, idler), 5)
    names = {c["name"] for c in await group.client.xinfo_consumers("s", "g")}
    assert holder.me.encode() in names
    assert len(await group.client.xpending_range("s", "g", "-", "+", 10)) == 1
    await holder.close()
    await idler.close()


async def reaped(group: StreamGroup, gone: StreamGroup) -> bool:
    """Whether the consumer was removed."""
    return gone.me.encode() in await group.reap(0.02)


async def test_a_late_owner_changes_nothing(group: StreamGroup, redis_url: str) -> None:
    # Given an entry that another consumer has taken over
    await fill(group, 1)
    (mine,) = await group.read(1, wait=False)
    other = StreamGroup(redis_url, "s", "g")
    (theirs,) = await eventually(lambda: other.take_over(0.01, 10, 5, 1), 5)
    # Then parking, burying and renewing by the first owner are refused
    assert theirs.count == 2
    assert not await group.park(mine, 0, counted=True)
    assert not await group.bury(mine, "late")
    assert await group.renew([mine]) == {mine.id}
    assert await group.client.exists(group.dead, group.retries) == 0
    # And the new owner still owns it
    assert await other.renew([theirs]) == set()
    await other.close()


async def test_an_old_count_is_fenced_too(group: StreamGroup) -> None:
    # Given an entry that its own consumer has claimed again, after a reply was lost
    await fill(group, 1)
    (first,) = await group.read(1, wait=False)
    (again,) = await eventually(lambda: group.take_over(0.01, 10, 5, 1), 5)
    assert (first.id, again.count) == (again.id, 2)
    assert not await group.park(first, 0, counted=True)
    assert await group.park(again, 0, counted=True)


async def test_the_count_survives_parking(group: StreamGroup) -> None:
    await fill(group, 1)
    (entry,) = await group.read(1, wait=False)
    for expected in (2, 3, 4):
        await group.park(entry, 0, counted=True)
        (entry,) = await eventually(lambda: group.due(10), 5)
        assert entry.count == expected
    await group.park(entry, 0, counted=False)
    (entry,) = await eventually(lambda: group.due(10), 5)
    assert entry.count == 4


async def test_parked_entries_hide_nothing(group: StreamGroup, redis_url: str) -> None:
    # Given 1,500 parked entries in front of one whose consumer is dead
    await fill(group, 1501)
    dead = StreamGroup(redis_url, "s", "g")
    for entry in await group.read(1500, wait=False):
        await group.park(entry, 600, counted=True)
    await dead.read(1, wait=False)
    # Then a sweep finds it at once
    found = await eventually(lambda: group.take_over(0.01, 10, 5, 1), 5)
    assert [int(entry.fields[b"n"]) for entry in found] == [1500]
    await dead.close()


async def test_a_parked_entry_whose_due_time_was_lost_comes_back(group: StreamGroup) -> None:
    await fill(group, 1)
    (entry,) = await group.read(1, wait=False)
    await group.park(entry, 600, counted=True)
    await group.client.delete(group.retries)
    await eventually(lambda: back(group), 5)


async def back(group: StreamGroup) -> list[Entry]:
    """What is due after a sweep."""
    await group.take_over(0.01, 10, 5, 1)
    return await group.due(10)


async def test_a_deleted_entry_leaves_the_pending_list(group: StreamGroup) -> None:
    await fill(group, 2)
    first, second = await group.read(2, wait=False)
    await group.park(first, 0, counted=True)
    await group.client.xdel("s", first.id, second.id)
    await eventually(lambda: nothing_pending(group), 5)


async def nothing_pending(group: StreamGroup) -> bool:
    """Whether nobody holds anything, after a sweep."""
    assert await group.due(10) == []
    assert await group.take_over(0.01, 10, 5, 1) == []
    return await group.client.xpending_range("s", "g", "-", "+", 10) == []


async def test_a_group_starts_with_what_is_there(redis_url: str, group: StreamGroup) -> None:
    # Given entries that were added before the group was made
    await fill(group, 3)
    late = StreamGroup(redis_url, "s", "late")
    await late.ensure()
    await late.ensure()
    assert len(await late.read(10, wait=False)) == 3
    await late.close()
