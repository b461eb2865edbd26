"""Programs that are wrong or right in a known way, and how many of them the checker judges so.

    python tests/check/programs.py

prints the rules of each group and what the checker finds. The programs are the two examples of each rule and
those in `corpus/`, where a line `== RULE bad` or `== RULE good` begins one, `--- NAME` another file of it. A
program is to have no other finding than its own; `also RULE` names one that is meant.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from checkkit.rule import GROUPS, SEVERITIES, rules  # noqa: E402
from checkkit.run import check  # noqa: E402

HEAD = re.compile(r"^== (\w+) (bad|good)(?: also ([\w,]+))?$", re.MULTILINE)
FILE = re.compile(r"^--- (\S+)\n", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    """A program; `meant` are the rules that are to find something."""

    rule: str
    name: str
    meant: frozenset[str]
    text: str

    @property
    def is_bad(self) -> bool:
        return bool(self.meant)

    def write(self, folder: Path) -> None:
        parts = FILE.split("--- work.py\n" + self.text)[1:]
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def found(self) -> set[str]:
        """The rules that find something in it."""
        with tempfile.TemporaryDirectory() as folder:
            self.write(Path(folder))
            return {one.rule for one in check(Path(folder)).found}


@cache
def programs() -> list[Program]:
    """All of them."""
    found = [*of_rules(), *of_corpus()]
    return sorted(found, key=lambda p: (p.rule, p.name))


def of_rules() -> Iterator[Program]:
    for rule in rules().values():
        yield Program(rule.id, f"{rule.id} bad example", frozenset({rule.id}), rule.bad)
        yield Program(rule.id, f"{rule.id} good example", frozenset(), rule.good)


def of_corpus() -> Iterator[Program]:
    numbers: Counter[str] = Counter()
    for path in sorted(CORPUS.glob("*.txt")):
        parts = HEAD.split(path.read_text(encoding="utf-8"))[1:]
        for rule, kind, also, text in zip(parts[::4], parts[1::4], parts[2::4], parts[3::4], strict=True):
            numbers[f"{rule} {kind}"] += 1
            meant = frozenset({rule, *(also or "").split(",")} - {""}) if kind == "bad" else frozenset()
            yield Program(rule, f"{rule} {kind} {numbers[f'{rule} {kind}']}", meant, text.strip("\n") + "\n")


@dataclass
class Score:
    """Of one group: `hits` findings that are meant, `misses` that are lacking, `alarms` that are false."""

    rules: int = 0
    bad: int = 0
    good: int = 0
    hits: int = 0
    misses: int = 0
    alarms: int = 0

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.alarms) if self.hits + self.alarms else 1.0

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 1.0


def scores(judged: list[tuple[Program, set[str]]]) -> dict[str, Score]:
    """By group, and of all."""
    table: dict[str, Score] = defaultdict(Score)
    for rule in rules().values():
        for name in (rule.group, "all"):
            table[name].rules += 1
    for program, found in judged:
        for name in (rules()[program.rule].group, "all"):
            score = table[name]
            score.bad += program.is_bad
            score.good += not program.is_bad
            score.hits += len(found & program.meant)
            score.misses += len(program.meant - found)
            score.alarms += len(found - program.meant)
    return table


def rule_table() -> str:
    lines = ["group        rules   error warning    hint"]
    for group in (*GROUPS, "all"):
        counts = Counter(r.severity for r in rules().values() if group in {r.group, "all"})
        numbers = " ".join(f"{counts[severity]:7}" for severity in SEVERITIES)
        lines.append(f"{group:12} {sum(counts.values()):5} {numbers}")
    return "\n".join(lines)


def corpus_table(judged: list[tuple[Program, set[str]]]) -> str:
    lines = ["group          bad   good  found missed  false  precision  recall"]
    table = scores(judged)
    for group in (*GROUPS, "all"):
        s = table[group]
        lines.append(
            f"{group:12} {s.bad:5} {s.good:6} {s.hits:6} {s.misses:6} {s.alarms:6} "
            f"{s.precision:10.3f} {s.recall:7.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    judged = [(program, program.found()) for program in programs()]
    for program, found in judged:
        if found != program.meant:
            wrong = f"missed {sorted(program.meant - found)} false {sorted(found - program.meant)}"
            sys.stdout.write(f"{program.name}: {wrong}\n")
    sys.stdout.write(f"{rule_table()}\n\n{corpus_table(judged)}\n")


if __name__ == "__main__":
    main()
