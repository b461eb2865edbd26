"""Which skill an agent loads for a query, by names and descriptions alone: precision and recall of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.agent import Agent
from tools import archive

QUERIES = Path(__file__).with_name("triggers.json")
NONE = "none"
# What else an agent has: skills whose work lies beside ours.
NEIGHBOURS = {
    "python-backend-development": (
        "Build FastAPI services: routes, Pydantic schemas, SQLAlchemy models and queries, repositories,"
        " Alembic migrations, caching, calls to other APIs, tests. Use for requests and responses."
    ),
    "kafka-streaming": "Produce and consume Kafka topics, schemas and stream processing in any language.",
    "django-development": "Build and debug Django projects, their admin, ORM, and their Celery set-up.",
    "node-backend": "Build and debug Node.js services with Express, NestJS and BullMQ.",
    "ci-pipelines": "Write and mend GitHub Actions and GitLab CI workflows, scheduled ones included.",
    "python-deployment": "Run Python web servers: uvicorn, gunicorn, containers, Kubernetes, sizing.",
}
PROMPT = """You are a coding agent. These skills are installed; you know their names and descriptions.

{skills}

A developer, in a project of theirs, writes:

{query}

Which one skill do you load before you start? Do not do the work. Answer with one line:
SKILL: its name, or SKILL: none
"""


@dataclass(frozen=True)
class Answer:
    """What an agent answered to a query. `skill` is None when it gave no answer; `seconds` is wall time."""

    query: str
    should_trigger: bool
    skill: str | None
    ended: str
    seconds: float
    tokens: int | None

    @property
    def triggered(self) -> bool:
        """Whether it would load our skill."""
        return self.skill == archive.NAME


def queries() -> list[dict[str, Any]]:
    """The queries, and whether each is one for our skill."""
    entries: list[dict[str, Any]] = json.loads(QUERIES.read_text(encoding="utf-8"))
    return entries


def description() -> str:
    """Our skill's, as a client reads it from the frontmatter."""
    (found,) = re.findall(r'^description: "(.+)"$', (archive.ROOT / "SKILL.md").read_text(), re.MULTILINE)
    return str(found)


def prompt(query: str) -> str:
    """What the agent is asked; the skills stand in the order of the alphabet."""
    skills = {**NEIGHBOURS, archive.NAME: description()}
    listed = "\n".join(f"- {name}: {skills[name]}" for name in sorted(skills))
    return PROMPT.format(skills=listed, query=query)


def read(said: str) -> str | None:
    """The skill that is named last, in a line or inside of JSON; None when it is none of them."""
    named = [name.lower() for name in re.findall(r"SKILL:\W*([a-z][a-z-]*)", said, re.IGNORECASE)]
    known = [name for name in named if name in {*NEIGHBOURS, archive.NAME, NONE}]
    return known[-1] if known else None


def ask(agent: Agent, folder: Path, runs: int) -> Iterator[Answer]:
    """Ask each query `runs` times, in an empty folder."""
    for run in range(1, runs + 1):
        for number, entry in enumerate(queries(), start=1):
            here = folder / f"run-{run}" / f"query-{number}"
            (empty := here / "project").mkdir(parents=True, exist_ok=True)
            ended, seconds, tokens = agent.work(prompt(entry["query"]), empty, here)
            skill = read((here / "stdout.txt").read_text(encoding="utf-8", errors="replace"))
            yield Answer(entry["query"], entry["should_trigger"], skill, ended, round(seconds, 1), tokens)


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """The section of benchmark.json. An agent that gave no answer has not loaded the skill."""
    hits = sum(one.triggered and one.should_trigger for one in answers)
    used = [one.tokens for one in answers if one.tokens is not None]
    return {
        "precision": ratio(hits, sum(one.triggered for one in answers)),
        "recall": ratio(hits, sum(one.should_trigger for one in answers)),
        "asked": len(answers),
        "without_answer": sum(one.skill is None for one in answers),
        "time_seconds": round(sum(one.seconds for one in answers), 1),
        "tokens": sum(used) if used else None,
        "answers": [asdict(one) for one in answers],
    }


def ratio(part: int, whole: int) -> float | None:
    """None of nothing: a skill that was never loaded has no precision."""
    return round(part / whole, 3) if whole else None


def table(answers: Sequence[Answer]) -> str:
    """The figures, and each query that went wrong."""
    got = summary(answers)
    wrong = [
        f"{'missed' if one.should_trigger else 'loaded'}  {one.query} ({one.skill or one.ended})"
        for one in answers
        if one.triggered != one.should_trigger
    ]
    head = f"precision {got['precision']}, recall {got['recall']} of {got['asked']} queries"
    return "\n".join([f"{head}, {got['without_answer']} without an answer", *wrong])
