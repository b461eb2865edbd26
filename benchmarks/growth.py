"""Whether a message costs more when there is more around it: in the stream, the inbox, the outbox.

Cost is processor time of the consumer and of both servers, per message. Every size has a place of its own (a
number of Redis' databases, a database of PostgreSQL) that is filled once; the sizes take turns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis

from benchmarks.contestants.cloudevents import event
from benchmarks.match import play
from benchmarks.plan import Plan
from benchmarks.spec import Spec
from benchmarks.stage import Stage
from benchmarks.work import CONSUMER, TOPIC, Work

CHUNK = 10_000
ADD = """
for _ = 1, ARGV[2] do redis.call('XADD', KEYS[1], '*', 'event', ARGV[1]) end
"""
BODY = event(Work(order_id=1)).decode()
INBOX = """
INSERT INTO inbox_message (consumer, message_id, received_at)
SELECT 'bench', '/bench ' || gen_random_uuid(), now() - n * interval '1 ms'
FROM generate_series(1, {size}) AS n
"""
# Pending first and sent then, as in life: the index of pending rows has seen them all.
OUTBOX = """
INSERT INTO outbox_message (lane, topic, key, message_id, body)
SELECT n % 16, 'bench.other', NULL, gen_random_uuid(), '{body}' FROM generate_series(1, {size}) AS n
"""
SENT = "UPDATE outbox_message SET sent_at = now()"


@dataclass(frozen=True)
class Place:
    """Where one size of one kind lies, and what runs on it."""

    spec: Spec
    database: str


@dataclass(frozen=True)
class Kind:
    """What grows. `fill` brings it to a size, `task` is what is measured then."""

    text: str
    task: str
    fill: Callable[[Stage, Spec, str, int], None]


def acknowledged(_: Stage, spec: Spec, __: str, size: int) -> None:
    """Entries that every group is done with and nobody has trimmed."""
    with Redis.from_url(spec.redis_url) as client:
        add(client, size)
        client.xgroup_create(TOPIC, CONSUMER, id="$")


def trimmed(stage: Stage, spec: Spec, database: str, size: int) -> None:
    """Entries that have been there and are gone."""
    acknowledged(stage, spec, database, size)
    with Redis.from_url(spec.redis_url) as client:
        client.xtrim(TOPIC, maxlen=0, approximate=False)


def unread(_: Stage, spec: Spec, __: str, size: int) -> None:
    """Entries that wait. What a round takes from the front its publisher adds at the end."""
    with Redis.from_url(spec.redis_url) as client:
        client.xgroup_create(TOPIC, CONSUMER, id="0", mkstream=True)
        add(client, size)


def add(client: Any, size: int) -> None:
    """Add `size` entries, some thousand at a time so that Redis goes on answering."""
    for start in range(0, size, CHUNK):
        client.eval(ADD, 1, TOPIC, BODY, min(CHUNK, size - start))


def inbox(stage: Stage, _: Spec, database: str, size: int) -> None:
    """Messages that are done."""
    stage.sql(INBOX.format(size=size), database)
    stage.sql("VACUUM ANALYZE inbox_message", database)


def outbox(stage: Stage, _: Spec, database: str, size: int) -> None:
    """Rows that are sent."""
    stage.sql(OUTBOX.format(size=size, body=BODY), database)
    stage.sql(SENT, database)
    stage.sql("VACUUM ANALYZE outbox_message", database)


KINDS = {
    "acknowledged": Kind("entries acknowledged, not trimmed", "noop", acknowledged),
    "trimmed": Kind("entries acknowledged and trimmed", "noop", trimmed),
    "unread": Kind("entries unread", "noop", unread),
    "inbox": Kind("rows in the inbox", "write", inbox),
    "outbox": Kind("rows sent in the outbox", "relay", outbox),
}


def measure(stage: Stage, plan: Plan, say: Callable[[str], None]) -> dict[str, dict[int, list[float]]]:
    """Microseconds of processor time per message: by kind, by size, one for each round."""
    found: dict[str, dict[int, list[float]]] = {}
    for name in plan.kinds:
        kind = KINDS[name]
        say(f"growth: {kind.text}")
        places = dict(zip(plan.sizes, prepare(stage, plan, kind), strict=True))
        found[name] = {size: [] for size in plan.sizes}
        for number in range(plan.growth_rounds):
            for size, place in places.items():
                spec = dataclasses.replace(place.spec, first_order=1 + number * place.spec.backlog)
                found[name][size].append(cost_us(play(stage, spec, place.database)))
        for place in places.values():
            stage.drop(place.database)
    return found


def prepare(stage: Stage, plan: Plan, kind: Kind) -> Iterator[Place]:
    """A filled place for each size."""
    stage.redis.flush()
    load, count = plan.load(kind.task), plan.growth[kind.task]
    contestant = "relay" if kind.task == "relay" else "ours"
    for number, size in enumerate(plan.sizes):
        url = stage.redis.database_url(number)
        spec = Spec(contestant, kind.task, url, load.concurrency, load.warmup, count)
        database = stage.database()
        kind.fill(stage, spec, database, size)
        yield Place(spec, database)


def cost_us(run: dict[str, Any]) -> float:
    """Processor time of consumer and servers for one message, in microseconds."""
    rate = run["rate"]
    seconds: float = rate["cpu_seconds"] + run["server_cpu_seconds"]
    return seconds / float(rate["messages"]) * 1e6
