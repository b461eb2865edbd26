"""Long tests begin the share of each process, and no test is lost."""

from typing import cast

import pytest

from support.spread import spread


class Item:
    """A test that is long, or is not."""

    def __init__(self, *, long: bool) -> None:
        self.long = long

    def get_closest_marker(self, name: str) -> object:
        return self.long and name == "long"


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_each_share_begins_with_its_part_of_the_long_tests(processes: int) -> None:
    items = cast("list[pytest.Item]", [Item(long=number % 5 == 4) for number in range(60)])
    ordered = spread(items, processes)
    assert sorted(map(id, ordered)) == sorted(map(id, items))
    size, longs = 60 // processes, 12 // processes
    for start in range(0, 60, size):
        marks = [bool(item.get_closest_marker("long")) for item in ordered[start : start + size]]
        assert marks == [True] * longs + [False] * (size - longs)


@pytest.mark.parametrize(
    ("longs", "others", "processes"), [(0, 0, 3), (1, 0, 3), (0, 1, 3), (4, 3, 3), (5, 1, 2)]
)
def test_no_test_is_lost_where_shares_are_not_equal(longs: int, others: int, processes: int) -> None:
    items = cast("list[pytest.Item]", [Item(long=number < longs) for number in range(longs + others)])
    assert sorted(map(id, spread(items, processes))) == sorted(map(id, items))
