"""The tickets, the apps and the accounts of the evals, without servers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Hashable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from docs.documents import ROOT, SKILL, table_rows
from evals import procfile
from evals.deployment import Deployment
from evals.scenarios import asking, jobs, messages, ordered, requests, schedule
from evals.solutions import SOLUTIONS, solve
from evals.stage import Stage
from evals.tasks import TASKS, tickets
from support.wait import eventually
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

    lines = procfile.read(project)
    assert len(lines) == len((project / "Procfile").read_text().splitlines()) >= 3
    for path in project.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
    # And what it imports is there
    source = project / "src" if (project / "src").is_dir() else project
    urls = {"DATABASE_URL": "postgresql+asyncpg://db/x", "MAIL_URL": "http://mail", "LLM_URL": "http://llm"}
    done = subprocess.run(
        [sys.executable, "-c", f"import {lines['web'].split()[1].partition(':')[0]}"],
        cwd=project,
        env={**os.environ, **urls, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


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
    ("times", "lost", "twice"),
    [
        ([0, 10, 20, 30, 40, 50], False, False),
        ([4, 10, 20, 30, 40, 50], False, False),  # made up for at the start
        ([3, 13, 23, 37, 47, 57], False, False),  # the machine that goes on has another phase
        ([3, 13, 27, 37, 47], False, False),  # so its last row is just behind the end,
        ([9, 19, 21, 31, 41, 51, 61], False, False),  # or one more before it
        ([0, 10, 27, 28, 30, 40, 50], False, True),
        ([0, 10, 35, 36, 40, 50], False, False),  # made up for
        ([0, 20, 30, 40, 50], True, False),
        ([0, 10, 20, 20.1, 30, 40, 50], False, True),
        ([3, 7, 10, 20, 30, 40, 50], False, True),
        ([7, 17, 27, 37, 47, 57, 57.2], False, True),
        ([0, 10], True, False),
        ([0, 0.2, 10, 10.2, 20, 20.1, 30, 30.1, 40, 40.1, 50, 50.2], False, True),
    ],
)
def test_the_account_of_a_schedule(times: list[float], *, lost: bool, twice: bool) -> None:
    here = stage()
    schedule.judge(here, times, schedule.quiet(times[0], times[0] + 50))

    assert [finding.passed for finding in here.findings] == [not lost, not twice]


def test_nothing_is_due_near_the_end_of_what_is_counted() -> None:
    assert [schedule.quiet(3, at) for at in (3, 8, 8.1, 18, 40)] == [8, 8, 18, 18, 48]


@pytest.mark.parametrize(
    ("place", "other"),
    [
        ("/exports/12", "/exports/1999999999"),
        ("http://library.test/v1/exports/12/status", "/v1/exports/1999999999/status"),
        ("/exports?id=7", "/exports?id=1999999999"),
        (
            "/jobs/0198c0de-0000-7000-8000-00000000000f",
            "/jobs/0198c0de-0000-7000-8000-11111111111a",
        ),
        ("/jobs/abc", "/jobs/bcd"),
    ],
)
def test_an_unknown_id_looks_like_a_known_one(place: str, other: str) -> None:
    assert asking.unknown(place) == other


@pytest.mark.parametrize(
    ("body", "state"),
    [({"status": "Done"}, "done"), ({"state": "succeeded"}, "no status"), (["done"], "no status")],
)
async def test_the_grader_reads_the_field_that_the_tickets_name(body: Any, state: str) -> None:
    for number, task in TASKS.items():
        assert ("`status`" in task.ticket) == (task.expectations == jobs.EXPECTATIONS), number
    answers = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
    async with httpx2.AsyncClient(transport=answers, base_url="http://library.test") as client:
        assert await asking.state_at(client, "/exports/1") == state


async def test_the_platform_gives_no_setting_of_the_skill(tmp_path: Path) -> None:
    # Given processes that print their environment: one has a setting in its line, before `exec`
    (tmp_path / "Procfile").write_text("plain: env\nexec: exec env\nown: A=1 WORKER_HEALTH_PORT=0 exec env\n")

    with Deployment(tmp_path, {"DATABASE_URL": "here"}) as deployment:
        deployment.start()
        await eventually(lambda: not any(process.running for process in deployment.processes), 60)
        plain, executed, own = [process.log_text().splitlines() for process in deployment.processes]

    for lines in (plain, executed, own):
        assert "DATABASE_URL=here" in lines
    assert "WORKER_HEALTH_PORT" not in "".join([*plain, *executed])
    assert {"A=1", "WORKER_HEALTH_PORT=0"} <= set(own)


def test_a_worker_that_was_never_there_has_not_ended_well() -> None:
    here = stage()
    here.find_clean_exit()
    assert not here.findings[0].passed
