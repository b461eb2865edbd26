"""Budgets, links, and what must not stand in a document."""

import re

import pytest

from docs.documents import (
    ALL,
    CONTRIBUTING,
    GAP,
    README,
    REFERENCES,
    ROOT,
    RUNTIME,
    SKILL,
    Document,
    one_line,
)

HOST = re.compile(r"\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:org|com|net|io|dev|ai|sh|de)\b")
SCHEME = re.compile(r"\b(?!redis|rediss|unix|postgresql|amqp)[a-z][a-z+]*://")
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:home|root|tmp|usr|var|opt|etc|mnt|work)/")
PROMISE = re.compile(
    r"\b(?:coming soon|not yet|planned|will be (?:added|supported)|in the future|TODO)\b", re.IGNORECASE
)


def named(documents: list[Document]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", documents, ids=lambda document: document.name)


def test_skill_is_short() -> None:
    assert 600 <= SKILL.words <= 900
    assert len(SKILL.body.splitlines()) <= 200


@named(REFERENCES)
def test_references_are_short(document: Document) -> None:
    assert 400 <= document.words <= 1200


@named(REFERENCES)
def test_references_open_with_a_table(document: Document) -> None:
    assert re.match(r"# .+\n\n\|", document.body)


@named(ALL)
def test_links_lead_somewhere(document: Document) -> None:
    for link in document.links:
        file, _, anchor = link.partition("#")
        target = (document.path.parent / file).resolve() if file else document.path
        assert target.is_file(), link
        if anchor:
            assert anchor in Document(target.relative_to(ROOT).as_posix()).anchors, link


@named(RUNTIME)
def test_links_stay_one_level_deep(document: Document) -> None:
    # An agent that was sent to a file which sends it on reads too little of either.
    for link in document.links:
        file = link.partition("#")[0]
        expected = r"references/[\w-]+\.md" if document is SKILL else r"[\w-]+\.md"
        assert not file or re.fullmatch(expected, file), link


def test_every_reference_is_linked_with_the_occasion() -> None:
    router = SKILL.section("Read")
    for reference in REFERENCES:
        assert re.search(rf"\]\({re.escape(reference.name)}\) when ", one_line(router)), reference.name


@named(ALL)
def test_names_in_backticks_are_there(document: Document) -> None:
    # To an agent, `tests/` is the project's folder, where the templates' tests land.
    tests = ROOT / "templates" if document in RUNTIME else ROOT
    for name in re.findall(
        r"`((?:scripts|templates|examples|references|benchmarks|evals|tools|requirements)/[\w./-]*)`",
        document.text,
    ):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(tests/[\w./-]*)`", document.text):
        assert (tests / name).exists(), name


@named(RUNTIME)
def test_nothing_needed_is_dropped_by_installers(document: Document) -> None:
    assert "README" not in document.text
    for link in document.links:
        assert not re.search(r"(?:^|/)[._]", link), link


@named(ALL)
def test_no_address_and_no_machine(document: Document) -> None:
    for pattern in (HOST, SCHEME, MACHINE_PATH):
        assert not pattern.findall(document.text), pattern.pattern
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", document.text):
        assert re.fullmatch(r"[\w/-]+\.svg", picture), "a badge"


@named(ALL)
def test_plain_characters(document: Document) -> None:
    odd = {character for character in document.text if not character.isascii()} - {GAP}
    assert not odd


@named(RUNTIME)
def test_no_promises_and_no_shouting(document: Document) -> None:
    assert not PROMISE.findall(document.prose)
    # Capitals are for names: SQL, settings, commands, laws of other people.
    for word in ("MUST", "NEVER", "ALWAYS", "IMPORTANT", "NOT", "DO", "WARNING", "CRITICAL"):
        assert not re.search(rf"\b{word}\b", document.prose), word


def test_placeholders_of_the_readme_are_in_pairs() -> None:
    for name in ("demo", "ledger", "bench"):
        assert re.search(rf"<!-- {name} -->\n.+\n<!-- /{name} -->", README.text, re.DOTALL), name


@named([README, CONTRIBUTING])
def test_commands_for_people_exist(document: Document) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)\b", document.text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
