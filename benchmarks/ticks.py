"""What a contestant with cron jobs is to do, and what it measures of itself. Standard library only.

    python -m benchmarks.ticks SPEC

SPEC is JSON, see `TickSpec`. Prints one line of JSON: the lags in seconds, by how much each run began after
it was due, and the processor time that the contestant's process has used.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.meter import cpu_seconds, peak_memory_bytes


@dataclass(frozen=True)
class TickSpec:
    """`jobs` jobs, all due every second, are run for `warmup` seconds and then measured for `seconds`."""

    contestant: str
    jobs: int
    seconds: int
    redis_url: str
    warmup: int = 3


@dataclass
class Lags:
    """Is told of every run as it begins. `ended` is set when all is measured."""

    spec: TickSpec
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _seconds: list[float] = field(default_factory=list)
    _begins: float = float("inf")
    _cpu: float = 0.0

    def begun(self, due: float) -> None:
        """A run begins that was due at `due`, in seconds since 1970."""
        if self._begins <= due < self._begins + self.spec.seconds:
            self._seconds.append(time.time() - due)

    async def measure(self) -> None:
        """Let some time pass, then measure; whole seconds, and some more for runs that begin late."""
        self._begins = float(int(time.time()) + self.spec.warmup)
        await asyncio.sleep(self._begins - 0.5 - time.time())
        self._cpu = cpu_seconds()
        await asyncio.sleep(self._begins - 0.5 + self.spec.seconds - time.time())
        self._cpu = cpu_seconds() - self._cpu
        await asyncio.sleep(2)
        self.ended.set()

    def figures(self) -> dict[str, Any]:
        """What was measured."""
        return {"lags": self._seconds, "cpu_seconds": self._cpu, "peak_memory_bytes": peak_memory_bytes()}


async def main(spec: TickSpec) -> None:
    """Run the contestant. What it leaves behind goes down with the process."""
    module = importlib.import_module(f"benchmarks.contestants.{spec.contestant}")
    lags = Lags(spec)
    running = asyncio.create_task(module.run(spec, lags))
    measuring = asyncio.create_task(lags.measure())
    done, _ = await asyncio.wait([running, measuring], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    if not measuring.done():
        raise RuntimeError(f"{spec.contestant} ended before it was measured")
    sys.stdout.write(json.dumps(lags.figures()) + "\n")
    sys.stdout.flush()
    await asyncio.wait([running], timeout=10)


if __name__ == "__main__":
    asyncio.run(main(TickSpec(**json.loads(sys.argv[1]))))
