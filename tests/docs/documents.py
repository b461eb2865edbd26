"""The documents as the tests see them: text, words, headings, links, fenced blocks, tables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GAP = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Fence:
    """A fenced block."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines, a continued one as one."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


@dataclass(frozen=True)
class Document:
    """A Markdown file; `name` is its path in the project."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return ROOT / self.name

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def frontmatter(self) -> str:
        """What stands between the first two lines of `---`; empty without them."""
        match = re.match(r"---\n(.*?)\n---\n", self.text, re.DOTALL)
        return match[1] if match else ""

    @cached_property
    def body(self) -> str:
        """The text after the frontmatter."""
        return self.text.removeprefix(f"---\n{self.frontmatter}\n---\n")

    @property
    def words(self) -> int:
        """Words as `wc -w` counts them: frontmatter and the lines of tables are paid for too."""
        return len(self.text.split())

    @cached_property
    def fences(self) -> list[Fence]:
        """Its fenced blocks, those in lists included."""
        found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", self.text, re.DOTALL | re.MULTILINE)
        return [Fence(language, undented(text, len(indent))) for indent, language, text in found]

    @cached_property
    def prose(self) -> str:
        """The body without fenced blocks."""
        return re.sub(r"^( *)```.*?^\1```$", "", self.body, flags=re.DOTALL | re.MULTILINE)

    @property
    def links(self) -> list[str]:
        """Targets of its links."""
        return re.findall(r"\]\(([^)]+)\)", self.prose)

    @property
    def anchors(self) -> set[str]:
        """What a link may name after `#`, as GitHub makes it from the headings."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def section(self, heading: str) -> str:
        """The text below a heading, up to the next one of its kind."""
        match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", self.body, re.DOTALL | re.MULTILINE)
        assert match is not None, f"{self.name}: no section {heading}"
        return match[1]


def undented(text: str, by: int) -> str:
    """The text of a block that is indented because it belongs to a list."""
    return "".join(line[by:] if line.strip() else "\n" for line in text.splitlines(keepends=True))


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of all table rows but the heads."""
    lines = text.splitlines()
    for index, line in enumerate(lines):
        is_rule = re.fullmatch(r"[|\- :]+", line) is not None
        is_head = index + 1 < len(lines) and re.fullmatch(r"\|[|\- :]+\|", lines[index + 1]) is not None
        if line.startswith("|") and not is_rule and not is_head:
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def one_line(text: str) -> str:
    """The text with all white space made one blank."""
    return " ".join(text.split())


SKILL = Document("SKILL.md")
README = Document("README.md")
CONTRIBUTING = Document("CONTRIBUTING.md")
REFERENCES = [
    Document(path.relative_to(ROOT).as_posix()) for path in sorted((ROOT / "references").glob("*.md"))
]
QUEUE = Document("references/python-message-queue.md")
CONSUMERS = Document("references/python-consumers.md")
CRON = Document("references/python-cron-jobs.md")
RUNTIME = [SKILL, *REFERENCES]
ALL = [*RUNTIME, README, CONTRIBUTING]
