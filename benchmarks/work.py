"""The message that all contestants get."""

from __future__ import annotations

from pydantic import BaseModel

CONSUMER = "bench"
TOPIC = "bench.work"
TYPE = "bench.work.v1"


class Work(BaseModel):
    """Payload of a message. `at` is when it was published, on the clock of `time.monotonic`."""

    order_id: int
    at: float = 0.0
