"""The demo's account: what it would say if something went wrong."""

import json
from pathlib import Path

import pytest

from demo.ledger import Ledger, Part, Ticks
from demo.news import News

KEYS = ["attempted", "accepted", "executed", "lost", "duplicated", "recovered", "seconds", "ticks"]


def account(
    accepted: list[int],
    paid: list[tuple[int, float]],
    *,
    second_chances: dict[int, float] | None = None,
    attempted: int = 3,
) -> Ledger:
    return Ledger.of(Part(attempted, accepted, paid, second_chances or {}), seconds=12.34)


def test_all_is_well() -> None:
    ledger = account([1, 2, 3], [(1, 10.0), (2, 11.0), (3, 12.0)])

    assert (ledger.executed, ledger.lost, ledger.duplicated) == (3, 0, 0)
    assert ledger.exit_code == 0


def test_a_loss_is_reported() -> None:
    ledger = account([1, 2, 3], [(1, 10.0), (3, 12.0)])

    assert (ledger.executed, ledger.lost, ledger.duplicated) == (2, 1, 0)
    assert ledger.exit_code == 1


def test_a_repeat_is_reported() -> None:
    ledger = account([1, 2], [(1, 10.0), (2, 11.0), (2, 11.5), (2, 12.0)])

    assert (ledger.executed, ledger.lost, ledger.duplicated) == (2, 0, 2)
    assert ledger.exit_code == 1


def test_a_repeat_does_not_make_up_for_a_loss() -> None:
    ledger = account([1, 2], [(2, 11.0), (2, 11.5)])

    assert (ledger.executed, ledger.lost, ledger.duplicated) == (1, 1, 1)


def test_work_whose_acceptance_was_not_seen_is_neither_executed_nor_lost() -> None:
    # Given an order that was paid although its 202 never arrived
    ledger = account([1], [(1, 10.0), (2, 11.0)], attempted=2)

    assert (ledger.attempted, ledger.accepted, ledger.executed, ledger.lost) == (2, 1, 1, 0)
    assert ledger.exit_code == 0


@pytest.mark.parametrize(
    ("paid_at", "recovered"),
    [(9.9, 0), (10.1, 1)],
    ids=["the effect was there before the fault", "the effect came after the fault"],
)
def test_recovered_is_what_came_about_after_its_fault(paid_at: float, recovered: int) -> None:
    ledger = account([1, 2], [(1, paid_at), (2, 20.0)], second_chances={1: 10.0})

    assert ledger.recovered == recovered


def test_an_order_that_never_came_through_is_lost_and_not_recovered() -> None:
    ledger = account([1], [], second_chances={1: 10.0})

    assert (ledger.lost, ledger.recovered) == (1, 0)


def test_orders_of_two_shops_are_told_apart_and_counted_together() -> None:
    # Given two shops with an order 1 each, of which one is lost and the other done twice
    ledger = Ledger.of(Part(1, [1], [], {}), Part(2, [1, 2], [(1, 9.0), (1, 9.5), (2, 9.0)], {}), seconds=1)

    assert (ledger.attempted, ledger.accepted, ledger.executed) == (3, 3, 2)
    assert (ledger.lost, ledger.duplicated) == (1, 1)


@pytest.mark.parametrize(("ticks", "code"), [((5, 5, 0), 0), ((5, 4, 0), 1), ((5, 5, 1), 1)])
def test_a_tick_that_was_not_run_or_run_twice_fails_the_demo(ticks: tuple[int, int, int], code: int) -> None:
    ledger = Ledger.of(Part(1, [1], [(1, 10.0)], {}), seconds=1, ticks=Ticks(*ticks, made_up=2))

    assert ledger.exit_code == code
    assert f"{ticks[1]} run, {ticks[2]} run twice, 2 made up" in ledger.lines()[-1]


def test_the_last_line_is_json_with_these_keys() -> None:
    found = json.loads(account([1], [(1, 10.0)]).json())

    assert list(found) == KEYS
    assert found["seconds"] == 12.3


def test_news_are_read_from_logs_as_they_grow(tmp_path: Path) -> None:
    news, log = News(), tmp_path / "worker.log"
    # Given a log whose second line is not complete yet
    log.write_text(
        "order_paid: took over 2 messages of workers that went silent\nthe broker lost everything: "
    )
    news.read_log("order_paid/1", log)
    assert [event.text for event in news.events] == [
        "order_paid/1 took over 2 messages of a worker that went silent"
    ]

    # When it is
    with log.open("a") as file:
        file.write("7 messages are sent again\n")
    news.read_log("outbox_relay/1", log)

    # Then it is read once, and as a whole
    assert news.events[-1].text == "outbox_relay/1: Redis lost everything, 7 messages are sent again"
    assert news.noticed_loss
    assert len(news.events) == 2
