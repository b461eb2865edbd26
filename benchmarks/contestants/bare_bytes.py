"""The bare loop with a handler that does not even look at its message: what redis-py alone can carry.

In the backlog only. Where latency is measured the time of publishing is in the message.
"""

from __future__ import annotations

import json

from benchmarks.contestants.bare import Entries, loop
from benchmarks.meter import Meter
from benchmarks.spec import Spec


async def consume(spec: Spec, meter: Meter) -> None:
    """See `bare.consume`."""

    async def no_ops(entries: Entries) -> None:
        for _, fields in entries:
            await no_op(fields[b"event"])

    async def no_op(raw: bytes) -> None:
        meter.done(json.loads(raw)["data"]["at"] if meter.worked_off.is_set() else 0.0)

    await loop(spec, meter, no_ops)
