"""What is noted on the way through a project: places, words, files that start processes."""

from __future__ import annotations

from dataclasses import dataclass

# Words that rules ask for wherever they stand.
MENTIONS = (
    "SIGTERM",
    "REMAP_SIGTERM",
    "x-delivery-limit",
    "x-delivery-count",
    "x-death",
    "XAUTOCLAIM",
    "XCLAIM",
    "claim_min_idle_time",
    "set_qos",
    "basic_qos",
    "prefetch_count",
    "FLOWER_",
    "quorum",
    "dead-letter-exchange",
    "x-max-priority",
    "consumer_timeout",
    "consumer-timeout",
    "times_delivered",
    "XTRIM",
    "maxlen",
    "minid",
    "event-stream",
)


@dataclass(frozen=True)
class TextFile:
    """A file that says how processes are started."""

    shown: str
    text: str


@dataclass(frozen=True)
class Note:
    """Something that a rule saw in a module and weighs when all are read."""

    path: str
    line: int
    column: int
    value: object = None
