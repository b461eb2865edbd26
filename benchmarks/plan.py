"""How much is measured: a full run, and a quick one that ends within two minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cron import CronLoad
from benchmarks.llm import LlmLoad
from benchmarks.spec import Spec
from benchmarks.tasks import TasksLoad


@dataclass(frozen=True)
class Comparison:
    """Contestants at one task, taking turns: `ours`, the `bare` loop beside it, `others` and other engines.

    `share` is the least that ours should reach of the bare loop, as `aim` words it; `times` the least that it
    should be of the fastest peer, both in messages per second.
    """

    title: str
    task: str
    ours: str
    bare: str
    aim: str
    share: float
    others: Sequence[str] = ()
    peers: Sequence[str] = ()
    times: float | None = None
    rabbit: bool = False

    @property
    def contestants(self) -> tuple[str, ...]:
        """All of them, ours first."""
        return (self.ours, self.bare, *self.others, *self.peers)


NO_OP = "handler that does nothing"
WRITE = "handler with one service write and its inbox row, in one transaction"
RABBIT_PEERS = ("rabbit_faststream", "rabbit_taskiq", "rabbit_celery", "rabbit_dramatiq")
COMPARISONS = {
    "noop": Comparison(
        f"Redis Streams: {NO_OP}",
        task="noop",
        ours="ours",
        bare="bare",
        aim="no-op, share of the bare loop",
        share=0.5,
        others=("bare_bytes",),
        peers=("faststream", "saq", "taskiq"),
        times=5.0,
    ),
    "write": Comparison(
        f"Redis Streams: {WRITE}",
        task="write",
        ours="ours",
        bare="bare",
        aim="service write, share of the bare loop",
        share=0.9,
        peers=("faststream", "saq", "taskiq"),
    ),
    "rabbit_noop": Comparison(
        f"RabbitMQ: {NO_OP}",
        task="noop",
        ours="rabbit_ours",
        bare="rabbit_bare",
        aim="RabbitMQ no-op, share of the bare loop",
        share=0.85,
        peers=RABBIT_PEERS,
        times=1.0,
        rabbit=True,
    ),
    "rabbit_write": Comparison(
        f"RabbitMQ: {WRITE}",
        task="write",
        ours="rabbit_ours",
        bare="rabbit_bare",
        aim="RabbitMQ service write, share of the bare loop",
        share=0.9,
        peers=RABBIT_PEERS,
        rabbit=True,
    ),
    "rabbit_batch": Comparison(
        "RabbitMQ: batches of 100, written together, beside single messages",
        task="write",
        ours="rabbit_bulk",
        bare="rabbit_ours",
        aim="batch handler, times the single one",
        share=3.0,
        others=("rabbit_bulk_each",),
        rabbit=True,
    ),
}
RABBIT_ALONE = ("rabbit_confirms", "rabbit_memory")
SECTIONS = (
    *COMPARISONS,
    "enqueue",
    "relay",
    "growth",
    "cron",
    *RABBIT_ALONE,
    "tasks",
    "requests",
    "llm",
    "readers",
)
CONTESTANTS = tuple(dict.fromkeys(name for one in COMPARISONS.values() for name in one.contestants))
PEERS = frozenset(name for one in COMPARISONS.values() for name in one.peers)
KINDS = ("acknowledged", "trimmed", "unread", "inbox", "outbox")


@dataclass(frozen=True)
class Load:
    """A task's amounts, as in `Spec`. Peers get a shorter backlog, so that theirs takes seconds too; `rate`
    is one that the slowest contestant keeps up with.
    """

    concurrency: int
    warmup: int
    count: int
    peer_count: int
    arrivals: int
    rate: float

    def spec(self, contestant: str, task: str, redis_url: str, rabbit_url: str = "") -> Spec:
        """One run of `contestant`."""
        return Spec(
            contestant,
            task,
            redis_url,
            self.concurrency,
            self.warmup,
            self.peer_count if contestant in PEERS else self.count,
            self.arrivals,
            self.rate,
            rabbit_url=rabbit_url,
        )


@dataclass(frozen=True)
class ReadersLoad:
    """`readers` that follow a job each; each job has `events`, every `pause` seconds."""

    readers: int
    events: int
    pause: float


@dataclass(frozen=True)
class Plan:
    """A whole run. `sizes` are the amounts that lie around when growth is measured, `growth` says how many
    messages are measured there, by task; `confirms` is the number of messages that are published one by one,
    `backlogs` are the amounts that wait while a consumer's memory is measured, `requests` is how often an
    API is asked in each way.
    """

    rounds: int
    noop: Load
    write: Load
    relay: Load
    rabbit_noop: Load
    rabbit_write: Load
    rabbit_batch: Load
    sizes: Sequence[int]
    kinds: Sequence[str]
    growth_rounds: int
    growth: Mapping[str, int]
    enqueue_pairs: int
    confirms: int
    backlogs: Sequence[int]
    cron: CronLoad
    tasks: TasksLoad
    requests: int
    llm: LlmLoad
    readers: ReadersLoad
    contestants: Sequence[str] = CONTESTANTS
    sections: Sequence[str] = SECTIONS

    def load(self, section: str) -> Load:
        """The amounts of a comparison, or of the relay."""
        load: Load = getattr(self, section)
        return load

    @property
    def uses_rabbit(self) -> bool:
        """Whether a RabbitMQ is needed."""
        return any(name in RABBIT_ALONE or is_rabbit(name) for name in self.sections)

    @property
    def orders(self) -> int:
        """Orders that the runs with a database need; each message is about an order of its own."""
        specs = [
            self.load(section).spec(name, one.task, "")
            for section, one in COMPARISONS.items()
            if one.task == "write"
            for name in one.contestants
        ]
        growth = self.growth_rounds * (self.write.warmup + self.growth["write"])
        return max([growth, self.tasks.orders, *(spec.messages for spec in specs)])


def is_rabbit(section: str) -> bool:
    """Whether a section compares consumers of RabbitMQ."""
    return section in COMPARISONS and COMPARISONS[section].rabbit


# Every slot, connection and statement should have been used before the measurement begins; the relay sends
# 16 lanes of 200 rows at once, and is measured from the end of one such batch to the end of another.
FULL = Plan(
    rounds=5,
    noop=Load(concurrency=100, warmup=1_000, count=100_000, peer_count=8_000, arrivals=1_000, rate=200),
    write=Load(concurrency=16, warmup=200, count=4_000, peer_count=2_000, arrivals=300, rate=50),
    relay=Load(concurrency=1, warmup=3_200, count=32_000, peer_count=0, arrivals=300, rate=50),
    rabbit_noop=Load(concurrency=50, warmup=1_000, count=20_000, peer_count=8_000, arrivals=500, rate=100),
    rabbit_write=Load(concurrency=16, warmup=200, count=2_000, peer_count=1_000, arrivals=200, rate=50),
    rabbit_batch=Load(concurrency=16, warmup=500, count=3_000, peer_count=0, arrivals=200, rate=50),
    sizes=(1_000, 100_000, 1_000_000),
    kinds=KINDS,
    growth_rounds=5,
    growth={"noop": 50_000, "write": 1_000, "relay": 6_400},
    enqueue_pairs=1_000,
    confirms=2_000,
    backlogs=(1_000, 10_000, 100_000),
    cron=CronLoad(jobs=(1, 10, 100), seconds=20, history=1_000_000),
    tasks=TasksLoad(children=2, warmup=300, count={"noop": 3_000, "write": 2_000}),
    requests=2_000,
    llm=LlmLoad(
        jobs=1_000,
        seconds=5.0,
        pieces=20,
        at_once={
            "llm_prefork": 8,
            "llm_threads": 100,
            "saq": 1_000,
            "taskiq": 1_000,
            "tasks_procrastinate": 1_000,
        },
    ),
    readers=ReadersLoad(readers=1_000, events=20, pause=1.0),
)
QUICK = Plan(
    rounds=1,
    noop=Load(concurrency=100, warmup=500, count=10_000, peer_count=600, arrivals=80, rate=200),
    write=Load(concurrency=16, warmup=80, count=300, peer_count=160, arrivals=20, rate=50),
    relay=Load(concurrency=1, warmup=3_200, count=3_200, peer_count=0, arrivals=20, rate=50),
    rabbit_noop=Load(concurrency=50, warmup=300, count=3_000, peer_count=800, arrivals=40, rate=100),
    rabbit_write=Load(concurrency=16, warmup=80, count=300, peer_count=160, arrivals=20, rate=50),
    rabbit_batch=Load(concurrency=16, warmup=200, count=600, peer_count=0, arrivals=20, rate=50),
    sizes=(1_000, 20_000),
    kinds=("acknowledged", "inbox", "outbox"),
    growth_rounds=1,
    growth={"noop": 5_000, "write": 200, "relay": 3_200},
    enqueue_pairs=50,
    confirms=100,
    backlogs=(1_000, 5_000),
    cron=CronLoad(jobs=(1, 20), seconds=4, history=20_000),
    tasks=TasksLoad(
        children=2,
        warmup=30,
        count={"write": 150},
        contestants=("tasks_tracked", "tasks_same", "tasks_bridge", "tasks_sync"),
    ),
    requests=50,
    llm=LlmLoad(jobs=100, seconds=1.0, pieces=10, at_once={"llm_prefork": 8}),
    readers=ReadersLoad(readers=100, events=5, pause=0.3),
)
