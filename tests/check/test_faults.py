"""The list of faults is true: its rules and its tests exist, and no rule is without a fault."""

import ast
from functools import cache
from pathlib import Path

import pytest

from check.faults import FOUND, UNDECIDED
from checkkit.rule import rules

ROOT = Path(__file__).resolve().parents[2]


@cache
def named_in(path: Path) -> frozenset[str]:
    """The names of the tests in a file, which is read and not imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def test_each_rule_has_a_fault_and_each_fault_its_rules() -> None:
    named = [id_ for ids in FOUND.values() for id_ in ids.split()]
    assert sorted(named) == sorted(rules())


@pytest.mark.parametrize("fault", UNDECIDED)
def test_what_no_rule_decides_is_shown_by_a_test(fault: str) -> None:
    why, node = UNDECIDED[fault]
    path, _, name = node.partition("::")
    assert why
    assert fault not in FOUND
    assert name.startswith("test_")
    assert name in named_in(ROOT / path)
