"""pytest plugin: long tests come first, shared out among the processes of pytest-xdist.

Its scheduler gives each process an equal share of the list, in order, and moves what is left at the end of a
share to whoever is done. A long test at the end would keep one process busy while the others are idle.
"""

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = spread(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def spread(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """`items` in an order whose equal shares begin with an equal number of long tests."""
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    ordered: list[pytest.Item] = []
    for left in range(processes, 0, -1):
        size = (len(long) + len(others)) // left
        first = len(long) // left
        ordered += long[:first] + others[: size - first]
        del long[:first], others[: size - first]
    return ordered
