"""The account of a run: what was asked for, what was promised, and what happened."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

MEANINGS = {
    "attempted": "orders to pay, or to confirm by e-mail, sent over HTTP",
    "accepted": "of the attempted: those that the API has confirmed",
    "executed": "of the accepted: marked as paid in PostgreSQL, or their e-mail sent",
    "lost": "accepted, and never executed",
    "duplicated": "marked as paid, or sent an e-mail, once too often",
    "recovered": "held by a killed worker or lost with Redis, then executed",
    "seconds": "from the first line above to this one",
}


@dataclass(frozen=True)
class Part:
    """What one shop has to account for.

    `accepted` are ids of orders. `effects` has one pair for each time that an order was executed: the order
    and the time. `second_chances` says when the message of an order was lost, or in the hands of a worker
    that was killed; an order that was executed before that moment had no need to recover.
    """

    attempted: int
    accepted: Collection[int]
    effects: Collection[tuple[int, float]]
    second_chances: Mapping[int, float]

    def recovered(self) -> int:
        """Orders that were executed for the first time after they needed a second chance."""
        first: dict[int, float] = {}
        for order, at in self.effects:
            first[order] = min(at, first.get(order, at))
        return sum(at >= self.second_chances.get(order, math.inf) for order, at in first.items())


@dataclass(frozen=True)
class Ticks:
    """The account of a cron job: ticks that were `due`, those that were `run`, effects beyond a tick's first,
    and those of the run that had been missed, or begun by a scheduler that died.
    """

    due: int = 0
    run: int = 0
    run_twice: int = 0
    made_up: int = 0

    @property
    def clean(self) -> bool:
        """Each tick was run once."""
        return self.run == self.due and not self.run_twice

    @property
    def line(self) -> str:
        """The account for people."""
        return (
            f"  cron ticks {self.due:>6}   due, one a second; {self.run} run, {self.run_twice} run twice, "
            f"{self.made_up} made up after a kill"
        )


@dataclass(frozen=True)
class Ledger:
    """The figures. `duplicated` counts effects beyond an order's first, the others orders."""

    attempted: int
    accepted: int
    executed: int
    lost: int
    duplicated: int
    recovered: int
    seconds: float
    ticks: Ticks = field(default_factory=Ticks)

    @classmethod
    def of(cls, *parts: Part, seconds: float, ticks: Ticks | None = None) -> Self:
        """Draw up the account of all parts together; ids are those of a part."""
        counts = Counter[str]()
        for part in parts:
            promised, times = set(part.accepted), Counter(order for order, _ in part.effects)
            counts["attempted"] += part.attempted
            counts["accepted"] += len(promised)
            counts["executed"] += len(promised & times.keys())
            counts["lost"] += len(promised - times.keys())
            counts["duplicated"] += times.total() - len(times)
            counts["recovered"] += part.recovered()
        return cls(**counts, seconds=round(seconds, 1), ticks=ticks or Ticks())

    @property
    def clean(self) -> bool:
        """Nothing lost and nothing done twice."""
        return not self.lost and not self.duplicated and self.ticks.clean

    @property
    def exit_code(self) -> int:
        """What the demo ends with."""
        return 0 if self.clean else 1

    def json(self) -> str:
        """The last line of the demo."""
        return json.dumps(asdict(self))

    def lines(self) -> list[str]:
        """The account for people."""
        figures = [f"  {name:<11}{getattr(self, name):>6}   {text}" for name, text in MEANINGS.items()]
        return [*figures, self.ticks.line]
