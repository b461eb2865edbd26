"""The process of one contestant: its consumer, its publisher, or a worker that is measured from outside.

    python -m benchmarks.contestant consume SPEC
    python -m benchmarks.contestant publish SPEC
    python -m benchmarks.contestant serve SPEC

SPEC is JSON, see `benchmarks.spec`. The processes answer with lines of JSON and wait for the line "go".
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.counter import Counter
from benchmarks.meter import Meter, peak_memory_bytes
from benchmarks.spec import Publisher, Spec
from benchmarks.work import Work

CHUNK = 400
FAREWELL_S = 0.5
LIBRARIES = (
    "redis",
    "hiredis",
    "sqlalchemy",
    "asyncpg",
    "pydantic",
    "faststream",
    "saq",
    "taskiq",
    "taskiq-redis",
    "aio-pika",
    "aiormq",
    "taskiq-aio-pika",
    "celery",
    "dramatiq",
    "procrastinate",
)
SHARED = {
    **dict.fromkeys(("ours", "bare", "bare_bytes"), "cloudevents"),
    **dict.fromkeys(("tasks_tracked", "tasks_plain"), "tasks_ours"),
    **dict.fromkeys(("tasks_same", "tasks_bridge", "tasks_sync", "tasks_guide", "tasks_run"), "tasks_celery"),
    **dict.fromkeys(("llm_prefork", "llm_threads"), "tasks_celery"),
    **dict.fromkeys(("rabbit_ours", "rabbit_bare", "rabbit_bulk", "rabbit_bulk_each"), "rabbit_cloudevents"),
}


async def consume(spec: Spec) -> None:
    """Run the contestant's consumer; say when it is warm, when the backlog is done, when all is done."""
    module = importlib.import_module(f"benchmarks.contestants.{spec.contestant}")
    meter = Meter(warmup=spec.warmup, count=spec.count, arrivals=spec.arrivals)
    say({"versions": versions()})
    await hear_go()
    running = asyncio.create_task(module.consume(spec, meter))
    await first_of(running, meter.warm)
    say({"warm": spec.warmup})
    await first_of(running, meter.worked_off)
    say(meter.rate())
    await first_of(running, meter.finished)
    say({**meter.latency(), "peak_memory_bytes": peak_memory_bytes()})
    await asyncio.wait([running], timeout=FAREWELL_S)
    os._exit(0)  # who takes longer to stop has been measured all the same


async def publish(spec: Spec) -> None:
    """Publish the backlog, then on "go" the arrivals at their rate."""
    publisher = publisher_of(spec)
    last = spec.first_order + spec.backlog
    for start in range(spec.first_order, last, CHUNK):
        await publisher.publish([Work(order_id=n) for n in range(start, min(last, start + CHUNK))])
    say({"published": spec.backlog})
    await hear_go()
    begin = time.monotonic()
    for n in range(spec.arrivals):
        # By the clock and not by pauses: a slow answer to one message does not put off the next.
        await asyncio.sleep(max(0.0, begin + n / spec.rate - time.monotonic()))
        await publisher.publish([Work(order_id=last + n, at=time.monotonic())])
    await publisher.close()


def serve(spec: Spec) -> None:
    """Run the contestant's worker until it is killed."""
    module = module_of(spec)
    counter = Counter(Path(os.environ["BENCH_COUNTS"]))
    say({"versions": versions()})
    sys.stdin.readline()
    if hasattr(module, "serve"):
        module.serve(spec, counter)  # it forks, and so begins without an event loop
    else:
        asyncio.run(module.consume(spec, counter))


def module_of(spec: Spec) -> Any:
    """The contestant's module; some share one."""
    return importlib.import_module(f"benchmarks.contestants.{SHARED.get(spec.contestant, spec.contestant)}")


def publisher_of(spec: Spec) -> Publisher:
    """The contestant's own publisher; ours and the bare loops share one."""
    publisher: Publisher = module_of(spec).Publisher(spec)
    return publisher


async def first_of(running: asyncio.Task[None], event: asyncio.Event) -> None:
    """Wait for `event`; raises what `running` raises when that ends earlier."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not event.is_set():
        waiting.cancel()
        running.result()
        raise RuntimeError("the consumer ended before its work was done")


def versions() -> dict[str, str]:
    """Versions of what is installed here and matters."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def say(line: Mapping[str, object]) -> None:
    """One line to `run.py`."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def hear_go() -> None:
    """Wait for the line "go"."""
    await asyncio.to_thread(sys.stdin.readline)


def main(role: str, spec: Spec) -> None:
    """Play a role."""
    if role == "serve":
        serve(spec)
    else:
        asyncio.run({"consume": consume, "publish": publish}[role](spec))


if __name__ == "__main__":
    main(sys.argv[1], Spec.load(sys.argv[2]))
