"""How much is measured: a full run, and a quick one that ends within a minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.spec import Spec

OURS, BARE = "ours", "bare"
PEERS = ("faststream", "saq", "taskiq")
CONTESTANTS = (OURS, BARE, "bare_bytes", *PEERS)
TASKS = ("noop", "write")
SECTIONS = (*TASKS, "enqueue", "relay", "growth")
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

    def spec(self, contestant: str, task: str, redis_url: str) -> Spec:
        """One run of `contestant`."""
        count = self.peer_count if contestant in PEERS else self.count
        return Spec(
            contestant, task, redis_url, self.concurrency, self.warmup, count, self.arrivals, self.rate
        )


@dataclass(frozen=True)
class Plan:
    """A whole run. `sizes` are the amounts that lie around when growth is measured, `growth` says how many
    messages are measured there, by task.
    """

    rounds: int
    noop: Load
    write: Load
    relay: Load
    sizes: Sequence[int]
    kinds: Sequence[str]
    growth_rounds: int
    growth: Mapping[str, int]
    enqueue_pairs: int
    contestants: Sequence[str] = CONTESTANTS
    sections: Sequence[str] = SECTIONS

    def load(self, task: str) -> Load:
        """The amounts of "noop", "write" or "relay"."""
        loads = {"noop": self.noop, "write": self.write, "relay": self.relay}
        return loads[task]

    @property
    def orders(self) -> int:
        """Orders that the runs with a database need; each message is about an order of its own."""
        specs = [self.write.spec(name, "write", "") for name in (OURS, PEERS[0])]
        growth = self.growth_rounds * (self.write.warmup + self.growth["write"])
        return max([growth, *(spec.messages for spec in specs)])


# Every slot, connection and statement should have been used before the measurement begins; the relay sends
# 16 lanes of 200 rows at once, and is measured from the end of one such batch to the end of another.
FULL = Plan(
    rounds=5,
    noop=Load(concurrency=100, warmup=1_000, count=100_000, peer_count=8_000, arrivals=1_000, rate=200),
    write=Load(concurrency=16, warmup=200, count=4_000, peer_count=2_000, arrivals=300, rate=50),
    relay=Load(concurrency=1, warmup=3_200, count=32_000, peer_count=0, arrivals=300, rate=50),
    sizes=(1_000, 100_000, 1_000_000),
    kinds=KINDS,
    growth_rounds=5,
    growth={"noop": 50_000, "write": 1_000, "relay": 6_400},
    enqueue_pairs=1_000,
)
QUICK = Plan(
    rounds=1,
    noop=Load(concurrency=100, warmup=500, count=10_000, peer_count=600, arrivals=80, rate=200),
    write=Load(concurrency=16, warmup=80, count=300, peer_count=160, arrivals=20, rate=50),
    relay=Load(concurrency=1, warmup=3_200, count=3_200, peer_count=0, arrivals=20, rate=50),
    sizes=(1_000, 20_000),
    kinds=("acknowledged", "inbox", "outbox"),
    growth_rounds=1,
    growth={"noop": 5_000, "write": 200, "relay": 3_200},
    enqueue_pairs=50,
)
