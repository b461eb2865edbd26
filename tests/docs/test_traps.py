"""Each trap has a proof that exists, or a reason why it has none; and two proofs that concern all files."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from checkkit.rule import rules
from docs.documents import ROOT
from traps import TRAPS, Trap

TELEMETRY = {"opentelemetry", "prometheus_client", "ddtrace", "sentry_sdk", "statsd"}
# What plays work that never ends sleeps for longer.
LONG = 60


def tree_of(path: Path, word: str = "") -> ast.Module:
    """The syntax tree of a module; an empty one where a word is not in it."""
    text = path.read_text(encoding="utf-8")
    return ast.parse(text if word in text else "")


@cache
def functions_in(path: Path) -> set[str]:
    nodes = tree_of(path).body if path.is_file() else []
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.trap[:60])
def test_proofs_exist(trap: Trap) -> None:
    assert trap.proofs
    assert len(set(trap.proofs)) == len(trap.proofs)
    for proof in trap.proofs:
        path, _, name = proof.partition("::")
        if name:
            assert name.startswith("test_")
            assert name in functions_in(ROOT / path), proof
        else:
            assert proof in rules(), proof


def test_each_trap_is_there_once() -> None:
    assert Counter(trap.trap for trap in TRAPS).most_common(1)[0][1] == 1
    groups = [trap.group for trap in TRAPS]
    assert groups == sorted(groups, key=groups.index)


def test_most_traps_have_a_test_besides_a_rule() -> None:
    ruled = [trap for trap in TRAPS if not any("::" in proof for proof in trap.proofs)]
    assert [trap for trap in ruled if not trap.left] == []


# -- proofs that concern all files -----------------------------------------------------------------------


def test_templates_start_no_telemetry() -> None:
    imported = {name for path in (ROOT / "templates").rglob("*.py") for name in imports(tree_of(path))}
    assert "sqlalchemy" in imported
    assert imported & TELEMETRY == set()


def imports(tree: ast.Module) -> Iterator[str]:
    """The packages that a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_nothing_sleeps_where_it_could_wait_for_a_condition() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "templates" / "tests").rglob("*.py")]
    trees = {path: tree_of(path, "sleep(") for path in files}
    found = {f"{path.relative_to(ROOT)}:{line}": s for path in files for line, s in sleeps(trees[path])}
    assert len(files) > 100
    assert {place: seconds for place, seconds in found.items() if 1 <= seconds < LONG} == {}
    assert [*sleeps(ast.parse("time.sleep(3)\nawait asyncio.sleep(0.1)"))] == [(1, 3), (2, 0.1)]


def sleeps(tree: ast.Module) -> Iterator[tuple[int, float]]:
    """Lines that sleep for a time that is written there, in seconds."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep"),
                args=[ast.Constant(value=int() | float() as seconds), *_],
            ):
                yield node.lineno, seconds
