"""The account of a run: what was asked for, what was promised, and what happened."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Self

MEANINGS = {
    "attempted": "orders to place and pay over HTTP",
    "accepted": "of the attempted: payments that the API confirmed (202)",
    "executed": "of the accepted: orders marked as paid in PostgreSQL",
    "lost": "accepted, and never marked as paid",
    "duplicated": "marked as paid once too often",
    "recovered": "held by a killed worker or lost with Redis, then executed",
    "seconds": "from the first line above to this one",
}


@dataclass(frozen=True)
class Ledger:
    """The figures. `duplicated` counts events of kind 'paid' beyond an order's first, the others orders."""

    attempted: int
    accepted: int
    executed: int
    lost: int
    duplicated: int
    recovered: int
    seconds: float

    @classmethod
    def of(
        cls,
        *,
        attempted: int,
        accepted: Iterable[int],
        paid: Iterable[tuple[int, float]],
        second_chances: Mapping[int, float],
        seconds: float,
    ) -> Self:
        """Draw up the account.

        `accepted` are ids of orders. `paid` has one pair for each event of kind 'paid': the order and the
        time. `second_chances` says when the message of an order was lost, or in the hands of a worker that
        was killed; an order that was paid before that moment had no need to recover.
        """
        events = list(paid)
        times = Counter(order for order, _ in events)
        first: dict[int, float] = {}
        for order, at in events:
            first[order] = min(at, first.get(order, at))
        promised = set(accepted)
        return cls(
            attempted=attempted,
            accepted=len(promised),
            executed=len(promised & times.keys()),
            lost=len(promised - times.keys()),
            duplicated=times.total() - len(times),
            recovered=sum(at >= second_chances.get(order, math.inf) for order, at in first.items()),
            seconds=round(seconds, 1),
        )

    @property
    def clean(self) -> bool:
        """Nothing lost and nothing done twice."""
        return not self.lost and not self.duplicated

    @property
    def exit_code(self) -> int:
        """What the demo ends with."""
        return 0 if self.clean else 1

    def json(self) -> str:
        """The last line of the demo."""
        return json.dumps(asdict(self))

    def lines(self) -> list[str]:
        """The account for people."""
        return [f"  {name:<11}{value:>6}   {MEANINGS[name]}" for name, value in asdict(self).items()]
