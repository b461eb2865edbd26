import dataclasses

import pytest

from benchmarks.cron import OURS, CronLoad
from benchmarks.llm import LlmLoad
from benchmarks.measure import measure
from benchmarks.plan import QUICK, Load, ReadersLoad
from benchmarks.stage import Stage
from benchmarks.tasks import TasksLoad

SMALL = dataclasses.replace(
    QUICK,
    noop=Load(concurrency=10, warmup=50, count=200, peer_count=0, arrivals=10, rate=100),
    write=Load(concurrency=4, warmup=10, count=30, peer_count=0, arrivals=10, rate=100),
    relay=Load(concurrency=1, warmup=50, count=200, peer_count=0, arrivals=10, rate=100),
    rabbit_noop=Load(concurrency=10, warmup=50, count=200, peer_count=0, arrivals=10, rate=100),
    rabbit_write=Load(concurrency=4, warmup=10, count=30, peer_count=0, arrivals=10, rate=100),
    rabbit_batch=Load(concurrency=20, warmup=20, count=60, peer_count=0, arrivals=10, rate=100),
    confirms=20,
    backlogs=(50, 100),
    sizes=(10, 20),
    kinds=("unread",),
    growth={"noop": 100, "write": 20, "relay": 50},
    enqueue_pairs=2,
    cron=CronLoad(jobs=(3,), seconds=2, history=100, contestants=(OURS,)),
    tasks=TasksLoad(2, 4, {"write": 20}, ("tasks_tracked", "tasks_same")),
    requests=5,
    llm=LlmLoad(jobs=5, seconds=0.5, pieces=2, at_once={}),
    readers=ReadersLoad(readers=5, events=2, pause=0.1),
    contestants=("ours", "bare", "rabbit_ours", "rabbit_bare", "rabbit_bulk"),
)


@pytest.mark.long
@pytest.mark.services
def test_a_small_run_measures_every_part() -> None:
    # Given little of everything
    with Stage(rabbit=True) as stage:
        results = measure(stage, SMALL)

    # Then ours and the bare loop have figures, and so have the other parts
    for task in ("noop", "write"):
        assert results["summary"][task]["ours"]["messages_per_second"] > 0
        assert results["summary"][task]["bare"]["p99_ms"] > 0
    for section in ("rabbit_noop", "rabbit_write"):
        assert results["summary"][section]["rabbit_ours"]["messages_per_second"] > 0
        assert results["summary"][section]["rabbit_bare"]["p99_ms"] > 0
    assert results["summary"]["rabbit_batch"]["rabbit_bulk"]["messages_per_second"] > 0
    assert results["summary"]["rabbit_confirms"]["window of 500"] > 0
    assert results["summary"]["rabbit_memory"][100] > 10
    assert results["summary"]["relay"]["relay"]["p50_ms"] > 0
    assert set(results["summary"]["enqueue"]) == {"without key", "with key"}
    assert set(results["summary"]["growth"]["unread"]) == {10, 20}
    assert [one["share"] for one in results["cron"]] == [1.0, 1.0]
    tasks = results["summary"]["tasks"]["write"]
    assert min(one["tasks_per_second"] for one in tasks.values()) > 0
    assert set(tasks) == {"tasks_tracked", "tasks_same"}
    assert results["summary"]["requests"]["submit"]["p99_ms"] > 0
    assert results["summary"]["llm"]["llm_ours"]["in_flight"] > 0
    assert results["summary"]["readers"]["p50_ms"] > 0
    assert results["notes"] == []
