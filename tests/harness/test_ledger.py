"""A ledger counts from ids and refuses an account that is not clean."""

import pytest

from support import ledger
from support.ledger import Ledger


@pytest.fixture(autouse=True)
def out_of_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_open_accounts", [])


def clean() -> Ledger:
    return Ledger(name="x", attempted=3, accepted=2, executed=2, recovered=1)


def test_a_clean_account_passes_and_is_one_line_of_the_summary() -> None:
    clean().assert_clean()
    assert ledger.lines() == [
        "LEDGER x attempted=3 accepted=2 executed=2 lost=0 duplicated=0 recovered=1",
    ]


def test_later_changes_show_in_the_line() -> None:
    account = clean()
    account.lost = 4
    assert "lost=4" in ledger.lines()[0]


def test_it_counts_from_ids() -> None:
    account = Ledger.of("x", attempted="abcde", accepted="abcd", effects="abbbe", recovered=2)
    assert account == Ledger(name="x", attempted=5, accepted=4, executed=3, lost=2, duplicated=2, recovered=2)


def test_an_effect_whose_confirmation_got_lost_is_clean() -> None:
    Ledger.of("x", attempted="abc", accepted="ab", effects="abc").assert_clean()


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"lost": 1}, "work was lost"),
        ({"duplicated": 1}, "work was done twice"),
        ({"executed": 1}, "less was executed than accepted"),
        ({"executed": 4}, "more was executed than attempted"),
        ({"accepted": 0}, "nothing was accepted"),
    ],
)
def test_every_fault_is_named(fault: dict[str, int], complaint: str) -> None:
    account = clean()
    for field, value in fault.items():
        setattr(account, field, value)
    with pytest.raises(AssertionError, match=complaint):
        account.assert_clean()
