"""The account of a fault test: what was asked for, what was promised, and what happened."""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Self

_open_accounts: list["Ledger"] = []
_adopted: list[str] = []


@dataclass
class Ledger:
    """Counts of one fault test. Every ledger becomes one line of pytest's closing summary.

    attempted: pieces of work that the test tried to hand over.
    accepted: those whose acceptance was confirmed (publisher confirm, XADD answer, COMMIT, HTTP 2xx).
    executed: different pieces of work whose effect is there.
    lost: accepted, but without effect.
    duplicated: effects beyond the first one of the same piece of work.
    recovered: effects that came about after a fault (redelivered, taken over, retried).
    """

    name: str
    attempted: int = 0
    accepted: int = 0
    executed: int = 0
    lost: int = 0
    duplicated: int = 0
    recovered: int = 0

    def __post_init__(self) -> None:
        _open_accounts.append(self)

    @classmethod
    def of(
        cls,
        name: str,
        *,
        attempted: Iterable[Hashable],
        accepted: Iterable[Hashable],
        effects: Iterable[Hashable],
        recovered: int = 0,
    ) -> Self:
        """Draw up the account from ids: `effects` holds an id as many times as its effect is there."""
        counted = Counter(effects)
        promised = set(accepted)
        return cls(
            name=name,
            attempted=len(set(attempted)),
            accepted=len(promised),
            executed=len(counted),
            lost=len(promised - counted.keys()),
            duplicated=counted.total() - len(counted),
            recovered=recovered,
        )

    def line(self) -> str:
        """The line of the summary."""
        return (
            f"LEDGER {self.name} attempted={self.attempted} accepted={self.accepted} "
            f"executed={self.executed} lost={self.lost} duplicated={self.duplicated} "
            f"recovered={self.recovered}"
        )

    def assert_clean(self) -> None:
        """Nothing lost, nothing done twice, and no effect that nobody asked for.

        More effects than acceptances are right: when a confirmation gets lost, the work may still be done. An
        account without a single accepted piece of work proves nothing and is refused.
        """
        problems = [
            text
            for wrong, text in (
                (self.lost != 0, "work was lost"),
                (self.duplicated != 0, "work was done twice"),
                (self.executed < self.accepted, "less was executed than accepted"),
                (self.executed > self.attempted, "more was executed than attempted"),
                (self.accepted == 0, "nothing was accepted, so nothing is proven"),
            )
            if wrong
        ]
        if problems:
            raise AssertionError(f"{'; '.join(problems)}: {self.line()}")


def lines() -> list[str]:
    """The lines of all ledgers so far, in the order in which they were opened."""
    return [*_adopted, *(ledger.line() for ledger in _open_accounts)]


def adopt(lines_: list[str]) -> None:
    """Take over the lines of another process of this run."""
    _adopted.extend(lines_)


def forget(ledger: Ledger) -> None:
    """Leave `ledger` out of the summary (for tests of the ledger itself)."""
    _open_accounts.remove(ledger)
