"""The tickets, the apps and the accounts of the evals, without servers."""

import json
import re
from collections.abc import Hashable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from docs.documents import ROOT, SKILL, table_rows
from evals import procfile
from evals.scenarios import jobs, messages, ordered, requests, schedule
from evals.solutions import SOLUTIONS, solve
from evals.stage import Stage
from evals.tasks import TASKS, tickets
from tools import archive

OURS = re.compile(r"outbox|inbox|add_worker|skill|relay|idempoten|dead.letter", re.IGNORECASE)


def stage(**given: Any) -> Stage:
    deployment: Any = SimpleNamespace(keep_up=lambda: None, exit_codes=[], **given)
    nothing: Any = None
    return Stage(deployment, nothing, "", "", "", nothing, patience=0.05)


def test_tickets_and_tasks_are_the_same() -> None:
    content = json.loads((ROOT / "evals" / "evals.json").read_text())

    assert content["skill_name"] == archive.NAME
    assert [entry["id"] for entry in content["evals"]] == sorted(TASKS) == list(range(1, 13))
    for entry in tickets():
        assert set(entry) == {"id", "prompt", "expected_output", "files", "expectations"}
        assert tuple(entry["expectations"]) == TASKS[entry["id"]].expectations
        assert all((ROOT / file).is_dir() for file in entry["files"])


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.id)
def test_a_ticket_is_terse_and_gives_nothing_away(task: Any) -> None:
    assert 15 <= len(task.ticket.split()) <= 70
    assert not OURS.search(task.ticket)


def test_every_gotcha_comes_from_a_failure_that_was_seen() -> None:
    lessons = (ROOT / "evals" / "lessons.md").read_text()

    gotchas = [row[0] for row in table_rows(SKILL.section("Gotchas"))]
    assert gotchas
    assert [gotcha for gotcha in gotchas if f"| {gotcha} | " not in lessons] == []


def test_twenty_queries_half_of_them_near_misses() -> None:
    queries = json.loads((ROOT / "evals" / "triggers.json").read_text())

    assert all(set(entry) == {"query", "should_trigger"} for entry in queries)
    assert len({entry["query"] for entry in queries}) == 20
    assert sum(entry["should_trigger"] for entry in queries) == 10


def test_every_scenario_is_used() -> None:
    used = {task.expectations for task in TASKS.values()}
    scenarios = (messages, requests, schedule, jobs, ordered)
    assert used == {scenario.EXPECTATIONS for scenario in scenarios}


def test_an_app_starts_without_a_worker_but_those_to_mend(tmp_path: Path) -> None:
    for task in TASKS.values():
        lines = procfile.read(task.lay_out(tmp_path / str(task.id)))
        assert list(lines)[:2] == ["release", "web"]
        # Of those to mend, two do it in the API itself, and the bar has none
        assert bool(list(lines)[2:]) == (task.overlay not in ("", "exporter", "nightly", "bar"))


def test_a_line_that_is_no_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("# what runs\n\nweb: uvicorn app:app\nuvicorn\n")

    with pytest.raises(ValueError, match="line 4: NAME: COMMAND is needed, not 'uvicorn'"):
        procfile.read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", SOLUTIONS)
def test_a_solution_of_each_task_can_be_made(number: int, tmp_path: Path) -> None:
    project = solve(number, tmp_path / "project")

    assert len(procfile.read(project)) >= 3
    for path in project.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")


@pytest.mark.parametrize(
    ("effects", "lost", "twice"), [([1, 2, 3], 0, 0), ([1, 3], 1, 0), ([1, 2, 2, 3], 0, 1), ([], 3, 0)]
)
async def test_the_account_of_a_scenario(effects: list[Hashable], lost: int, twice: int) -> None:
    async def seen() -> list[Hashable]:
        return [*effects, 99]  # what nobody has accepted is not counted

    here = stage()
    ledger = await here.account("numbers", [1, 2, 3], seen, settle=0)
    here.find_done_once("all of it, once", ledger)

    assert (ledger.lost, ledger.duplicated) == (lost, twice)
    assert here.ledgers[0].startswith("LEDGER numbers attempted=3 accepted=3")
    assert here.findings[0].passed == (not lost and not twice)


async def test_an_account_of_nothing_proves_nothing() -> None:
    async def seen() -> list[Hashable]:
        return []

    here = stage()
    here.find_done_once("nothing", await here.account("nothing", [], seen, settle=0))

    assert not here.findings[0].passed


@pytest.mark.parametrize(
    ("rows", "lost", "twice"), [(6, False, False), (7, False, False), (3, True, False), (11, False, True)]
)
def test_the_account_of_a_schedule(rows: int, *, lost: bool, twice: bool) -> None:
    here = stage()
    schedule.judge(here, rows, 50.0)

    assert [finding.passed for finding in here.findings] == [not lost, not twice]


def test_a_worker_that_was_never_there_has_not_ended_well() -> None:
    here = stage()
    here.find_clean_exit()
    assert not here.findings[0].passed
