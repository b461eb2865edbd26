"""What is wrong is found, what is right is left alone."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from check.programs import Program, corpus_table, programs, rule_table
from checkkit.rule import IN_MODULE, IN_PROJECT, IN_TEXT, SEVERITIES, Rule, rules

ROOT = Path(__file__).resolve().parents[2]
BY_THE_READER = {"CHK01", "CHK02"}


@pytest.fixture(scope="module")
def judged() -> list[tuple[Program, set[str]]]:
    return [(program, program.found()) for program in programs()]


def test_each_program_is_judged_as_it_is_meant(judged: list[tuple[Program, set[str]]]) -> None:
    wrong = {p.name: (sorted(found), sorted(p.meant)) for p, found in judged if found != p.meant}
    assert not wrong


def test_each_rule_has_three_programs_of_both_kinds() -> None:
    counts = Counter((program.rule, program.is_bad) for program in programs())
    assert [id_ for id_ in rules() for bad in (True, False) if counts[id_, bad] < 3] == []


def test_tables_speak_of_every_program(judged: list[tuple[Program, set[str]]]) -> None:
    last = corpus_table(judged).splitlines()[-1].split()
    assert last[:2] == ["all", str(sum(p.is_bad for p, _ in judged))]
    assert rule_table().splitlines()[-1].split()[:2] == ["all", str(len(rules()))]


def test_there_are_forty_rules_with_texts_and_code() -> None:
    assert len(rules()) >= 40
    assert set(rules()) == {*IN_MODULE, *IN_PROJECT, *IN_TEXT, *BY_THE_READER}
    for rule in rules().values():
        assert rule.severity in SEVERITIES, rule.id
        assert rule.title
        assert rule.why.endswith(".")
        assert rule.fix.endswith(".")


@pytest.mark.parametrize("rule", rules().values(), ids=lambda rule: rule.id)
def test_links_lead_to_a_heading(rule: Rule) -> None:
    name, _, anchor = rule.link.partition("#")
    assert anchor in anchors(ROOT / name)


@cache
def anchors(path: Path) -> set[str]:
    """What the headings of a document are called in links."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
