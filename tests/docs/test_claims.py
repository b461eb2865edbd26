"""Every statement that needs a proof has one, and the proof exists."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs.claims import CLAIMS
from docs.documents import ROOT, RUNTIME, SKILL, Document, one_line, table_rows

WITHOUT_PROOF = {"Settings", "Where things are in Redis", "Read"}  # other tests compare these with the code


def items(document: Document) -> Iterator[str]:
    """The statements that need a proof: laws, rows, bullets, problems."""
    if document is SKILL:
        yield from re.findall(r"^\d+\. (.+)$", document.section("Laws"), re.MULTILINE)
        yield from (" | ".join(row) for row in table_rows(document.section("Gotchas")))
        return
    yield from (" | ".join(row) for row in table_rows(document.body.split("\n## ")[0]))
    for heading in re.findall(r"^## (.+)$", document.body, re.MULTILINE):
        if heading in WITHOUT_PROOF:
            continue
        section = document.section(heading)
        yield from (" | ".join(row) for row in table_rows(section))
        yield from re.findall(r"^- (.+(?:\n  .+)*)", section, re.MULTILINE)
        yield from re.findall(r"^\*\*Problem: (.+(?:\n.+)*)", section, re.MULTILINE)


ITEMS = [(document, one_line(item)) for document in RUNTIME for item in items(document)]
PROOFS = sorted({proof for claims in CLAIMS.values() for proofs in claims.values() for proof in proofs})


@pytest.mark.parametrize(
    ("document", "item"), ITEMS, ids=lambda value: getattr(value, "name", str(value)[:40])
)
def test_statement_has_a_proof(document: Document, item: str) -> None:
    assert any(words in item for words in CLAIMS.get(document.name, {})), item


@pytest.mark.parametrize("document", RUNTIME, ids=lambda document: document.name)
def test_statement_is_still_in_the_document(document: Document) -> None:
    text = one_line(document.text)
    assert [words for words in CLAIMS.get(document.name, {}) if words not in text] == []


@cache
def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("proof", PROOFS)
def test_proof_exists(proof: str) -> None:
    if proof.startswith("version "):
        assert re.fullmatch(r"version [\w-]+ \d+(\.\d+)+: .+", proof)
    elif "::" in proof:
        path, _, name = proof.partition("::")
        assert name in functions_in(ROOT / "tests" / path)
    else:
        path, _, code = proof.partition(": ")
        assert code in (ROOT / "templates" / path).read_text(encoding="utf-8")
