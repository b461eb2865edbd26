import asyncio
import time

import pytest

from benchmarks.meter import Meter, cpu_seconds, peak_memory_bytes
from benchmarks.threads import FromThreads


async def test_the_backlog_is_measured_without_its_warm_up() -> None:
    meter = Meter(warmup=2, count=3, arrivals=0)

    for _ in range(2):
        meter.done(0.0)
    assert meter.warm.is_set()
    assert not meter.worked_off.is_set()
    for _ in range(3):
        meter.done(0.0)

    assert meter.worked_off.is_set()
    rate = meter.rate()
    assert rate["messages"] == 3
    assert rate["seconds"] >= 0
    assert rate["cpu_seconds"] >= 0


async def test_without_arrivals_the_backlog_is_all() -> None:
    meter = Meter(warmup=1, count=1, arrivals=0)

    meter.done(0.0)
    meter.done(0.0)

    assert meter.finished.is_set()
    assert meter.latency()["latencies"] == []


async def test_latency_leaves_out_the_first_tenth_of_the_arrivals() -> None:
    # Given ten arrivals, published a second ago
    meter = Meter(warmup=1, count=1, arrivals=10)
    meter.done(0.0)
    meter.done(0.0)

    for _ in range(10):
        assert not meter.finished.is_set()
        meter.done(time.monotonic() - 1)

    assert meter.finished.is_set()
    latency = meter.latency()
    assert latency["messages"] == 9
    assert all(1 <= seconds < 10 for seconds in latency["latencies"])


async def test_what_comes_after_the_end_changes_nothing() -> None:
    meter = Meter(warmup=1, count=1, arrivals=0)
    for _ in range(5):
        meter.done(0.0)

    assert meter.seen == 5
    assert meter.rate()["messages"] == 1


@pytest.mark.parametrize(("warmup", "count"), [(0, 1), (1, 0)])
async def test_a_stretch_needs_a_message(warmup: int, count: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        Meter(warmup=warmup, count=count, arrivals=0)


def test_a_process_knows_what_it_has_used() -> None:
    assert cpu_seconds() > 0
    assert peak_memory_bytes() > 1_000_000


async def test_threads_share_a_meter() -> None:
    # Given a handler that runs in two threads
    meter = Meter(warmup=100, count=1_900, arrivals=0)
    shared = FromThreads(meter)

    def handle() -> None:
        for _ in range(1_000):
            shared.done(0.0)

    await asyncio.gather(asyncio.to_thread(handle), asyncio.to_thread(handle))

    # Then no message is lost, and who waits on the event loop is told
    async with asyncio.timeout(5):
        await meter.finished.wait()
    assert meter.seen == 2_000
