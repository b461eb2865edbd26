"""The runner, with a shell as the agent."""

import json
import shlex
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from evals import folders, run, triggers
from evals.agent import Agent, tokens
from evals.benchmark import WITH, WITHOUT, Run, benchmark, table
from evals.folders import prepare
from evals.grade import Grading
from evals.stage import Finding
from evals.tasks import TASKS, Task
from support import reaper
from support.wait import eventually_sync
from tools import archive

GOOD = {"summary": {"passed": 4, "failed": 0, "total": 4, "pass_rate": 1.0}, "expectations": []}
HALF = {"summary": {"passed": 2, "failed": 2, "total": 4, "pass_rate": 0.5}, "expectations": []}


def test_the_agent_gets_ticket_and_skill(tmp_path: Path) -> None:
    # Given a copy of the app with the skill, and one without
    projects = {name: prepare(TASKS[1], name, tmp_path / name) for name in (WITH, WITHOUT)}
    agent = Agent(
        'cat > seen.txt; ls -d .claude/skills/* 2>/dev/null; echo "{\\"tokens\\": 1200}" > $EVAL_REPORT', 30
    )

    results = {name: agent.work("do it\n", path, path.parent) for name, path in projects.items()}

    for name, project in projects.items():
        assert (project / "seen.txt").read_text() == "do it\n"
        ended, seconds, used = results[name]
        assert (ended, used, seconds < 30) == ("exit code 0", 1200, True)
    skill = f".claude/skills/{archive.NAME}"
    assert (projects[WITH].parent / "stdout.txt").read_text().strip() == skill
    assert (projects[WITH] / skill / "scripts" / "add_worker.py").is_file()
    assert (projects[WITHOUT].parent / "stdout.txt").read_text() == ""


def test_an_agent_that_does_not_end_is_killed(tmp_path: Path) -> None:
    project = prepare(TASKS[1], WITHOUT, tmp_path / "run")

    ended, _, used = Agent("sleep 600", 0.5).work("x", project, project.parent)

    assert (ended, used) == ("killed after 0.5 s", None)


def test_tokens_are_those_that_the_agent_reports(tmp_path: Path) -> None:
    report, stdout = tmp_path / "report.json", tmp_path / "stdout.txt"
    stdout.write_text('words\n{"usage": {"input_tokens": 900, "output_tokens": 100, "service_tier": "x"}}\n')
    assert tokens(report, stdout) == 1000
    report.write_text('{"tokens": 7}')
    assert tokens(report, stdout) == 7
    report.unlink()
    stdout.write_text("done\n")
    assert tokens(report, stdout) is None


def test_the_benchmark_compares_with_and_without() -> None:
    runs = [
        Run(3, WITH, 1, GOOD, 100.0, 50_000, "exit code 0"),
        Run(3, WITHOUT, 1, HALF, 300.0, None, "killed"),
    ]

    result = benchmark(runs, {"skill_name": archive.NAME})

    summary = result["run_summary"]
    assert summary[WITH]["pass_rate"] == {"mean": 1.0, "stddev": 0.0, "min": 1.0, "max": 1.0}
    assert (summary[WITH]["all_passed"], summary[WITHOUT]["all_passed"]) == (1, 0)
    assert summary["delta"] == {"pass_rate": "+0.5", "time_seconds": "-200", "tokens": None}
    assert json.loads(json.dumps(result))["runs"][1]["notes"] == ["killed"]
    assert table(result).splitlines()[2:] == [
        "| 3 | with skill | 4 of 4 | 100 | 50,000 |",
        "| 3 | without skill | 2 of 4 | 300 | - |",
    ]


def test_one_configuration_is_compared_with_nothing() -> None:
    result = benchmark([Run(3, WITH, 1, GOOD, 1.0, 1, "exit code 0")], {})

    assert "delta" not in result["run_summary"]


# -- whole runs ------------------------------------------------------------------------------------------

# It does the first ticket with the skill only, crashes at the second, hangs at the third, and writes nothing
# at the fourth.
WORKS = """
case "$EVAL_TICKET" in
  *one*) [ ! -d .claude ] || touch done.txt; echo '{"usage": {"input_tokens": 90, "output_tokens": 10}}';;
  *two*) echo oops >&2; exit 3;;
  *three*) sleep 600;;
esac
"""


@pytest.fixture
def graded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tickets, and a grader that looks for a file."""

    async def grade(_task: Task, project: Path, *, patience: float) -> Grading:
        there = (project / "done.txt").exists()
        return Grading([Finding("it is there", there, f"patience {patience:g}")])

    names = dict(enumerate(("one", "two", "three", "four"), start=1))
    monkeypatch.setattr(folders, "grade", grade)
    for module in (folders, run):
        monkeypatch.setattr(module, "PREAMBLE", "")
    monkeypatch.setattr(run, "TASKS", {number: TASKS[number] for number in names})
    monkeypatch.setattr(Task, "ticket", property(lambda task: f"ticket {names[task.id]}"))


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Run the runner."""
    monkeypatch.setattr(sys, "argv", ["run", *words])
    assert run.main() == 0


def main(monkeypatch: pytest.MonkeyPatch, output: Path, agent: str, *words: str) -> dict[str, Any]:
    """What the runner writes into benchmark.json."""
    call(monkeypatch, "--agent", agent, "--output", str(output), *words)
    written: dict[str, Any] = json.loads((output / "benchmark.json").read_text())
    return written


@pytest.mark.usefixtures("graded")
def test_agents_that_crash_and_do_nothing_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--task", "1", "--task", "2", "--task", "4", "--name", "a shell")
    result = main(monkeypatch, tmp_path, WORKS, *words)

    # Each ticket was played in both conditions, and each end is told
    told = {(one["eval_id"], one["configuration"]): one for one in result["runs"]}
    assert set(told) == {(number, name) for number in (1, 2, 4) for name in (WITH, WITHOUT)}
    ends = {number: told[number, WITH]["notes"] for number in (1, 2, 4)}
    assert ends == {1: ["exit code 0"], 2: ["exit code 3"], 4: ["exit code 0"]}
    assert {key for key, one in told.items() if one["result"]["passed"]} == {(1, WITH)}
    assert [told[number, WITH]["result"]["tokens"] for number in (1, 2, 4)] == [100, None, None]
    # And the figures are of all of them
    summary = result["run_summary"]
    assert (summary[WITH]["runs"], summary[WITH]["all_passed"]) == (3, 1)
    assert (summary[WITH]["pass_rate"]["mean"], summary[WITHOUT]["pass_rate"]["mean"]) == (0.333, 0.0)
    assert summary["delta"]["pass_rate"] == "+0.333"
    assert result["metadata"]["agent"] == "a shell"
    assert (tmp_path / "eval-2" / WITH / "run-1" / "stderr.txt").read_text() == "oops\n"
    assert "| 1 | with skill | 1 of 1 |" in capsys.readouterr().out


@pytest.mark.usefixtures("graded")
def test_what_an_agent_that_hangs_left_behind_is_graded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = main(monkeypatch, tmp_path, WORKS, "--task", "3", "--only", WITH, "--seconds", "0.5")

    (told,) = result["runs"]
    assert (told["notes"], told["result"]["failed"]) == (["killed after 0.5 s"], 1)


@pytest.mark.usefixtures("graded")
def test_what_was_measured_before_an_interruption_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a grader that is interrupted in the second run
    grade: Callable[..., Awaitable[Grading]] = vars(folders)["grade"]

    async def interrupted(task: Task, project: Path, *, patience: float) -> Grading:
        if task.id == 2:
            raise KeyboardInterrupt
        return await grade(task, project, patience=patience)

    monkeypatch.setattr(folders, "grade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(monkeypatch, tmp_path, WORKS, "--task", "1", "--task", "2", "--only", WITH)

    assert [one["eval_id"] for one in json.loads((tmp_path / "benchmark.json").read_text())["runs"]] == [1]


@pytest.mark.usefixtures("graded")
def test_agents_without_a_command_are_graded_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given tickets that were laid out, and an agent that has worked on some of them
    chosen = ("--task", "1", "--task", "2")
    call(monkeypatch, "--prepare", str(tmp_path / "runs"), *chosen)
    call(monkeypatch, "--prepare", str(tmp_path / "runs"), *chosen, "--without-skill")
    places = {
        (number, name): tmp_path / "runs" / f"eval-{number}" / name / "run-1"
        for number in (1, 2)
        for name in (WITH, WITHOUT)
    }
    assert {str(folder) for folder in places.values()} == set(capsys.readouterr().out.split())
    for (number, name), folder in places.items():
        assert (folder / "ticket.txt").read_text() == f"ticket {['one', 'two'][number - 1]}\n"
        assert (folder / "project" / ".claude" / "skills" / archive.NAME).is_dir() == (name == WITH)
    (places[1, WITH] / "project" / "done.txt").touch()
    (places[1, WITH] / "timing.json").write_text('{"seconds": 512, "tokens": 84000}')
    (places[2, WITH] / "timing.json").write_text('{"total_duration_seconds": 88, "duration_ms": 88000}')

    call(monkeypatch, "--collect", str(tmp_path / "runs"), "--name", "somebody")

    # Then what is there is graded, with the time where it was said
    result = json.loads((tmp_path / "runs" / "benchmark.json").read_text())
    told = {(one["eval_id"], one["configuration"]): one["result"] for one in result["runs"]}
    assert {key: (got["passed"], got["time_seconds"], got["tokens"]) for key, got in told.items()} == {
        (1, WITH): (1, 512, 84000),
        (1, WITHOUT): (0, None, None),
        (2, WITH): (0, 88, None),
        (2, WITHOUT): (0, None, None),
    }
    assert result["metadata"]["agent"] == "somebody"
    assert result["metadata"]["evals_run"] == [1, 2]
    assert result["run_summary"][WITH]["time_seconds"]["mean"] == 300
    assert result["run_summary"][WITHOUT]["time_seconds"] is None
    assert "| 1 | without skill | 0 of 1 | - | - |" in capsys.readouterr().out

    # And once only: what the agent does later changes nothing, until the grading is removed
    (places[2, WITHOUT] / "project" / "done.txt").touch()
    (places[1, WITH] / "project" / "done.txt").unlink()
    (places[2, WITHOUT] / "grading.json").unlink()
    call(monkeypatch, "--collect", str(tmp_path / "runs"))
    result = json.loads((tmp_path / "runs" / "benchmark.json").read_text())
    assert [one["result"]["passed"] for one in result["runs"]] == [1, 0, 0, 1]


@pytest.mark.usefixtures("graded")
def test_what_was_prepared_is_never_overwritten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--prepare", str(tmp_path / "runs"), "--task", "2")
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "--prepare", str(tmp_path / "runs"), "--task", "1", "--task", "2")

    assert "run-1 is there already" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "eval-1").exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--agent", "true"),
        ("--output", "x"),
        ("--prepare", "x", "--collect", "x"),
        ("--prepare", "x", "--agent", "true"),
        ("--prepare", str(archive.ROOT / "runs")),
    ],
)
def test_a_command_line_that_says_too_little_or_too_much(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, *words)


def test_what_an_agent_leaves_running_is_killed(tmp_path: Path) -> None:
    project = prepare(TASKS[1], WITHOUT, tmp_path / "run")

    ended, *_ = Agent("sleep 600 & echo $! > child", 30).work("x", project, project.parent)

    child = int((project / "child").read_text())
    assert ended == "exit code 0"
    eventually_sync(lambda: not psutil.pid_exists(child) or reaper.ended(psutil.Process(child)), 30)


# -- trigger queries -------------------------------------------------------------------------------------

# An agent that looks for words in what the developer writes: it takes our skill when it reads of a worker,
# crashes over celery, is silent about kafka, and otherwise takes none.
CHOOSES = """
import json, os, sys
query = sys.stdin.read().split("writes:")[1].split("Which one skill")[0]
if "celery" in query:
    sys.exit(1)
if "kafka" in query:
    sys.exit(0)
json.dump({"tokens": 5}, open(os.environ["EVAL_REPORT"], "w"))
print("I think\\nSKILL: " + ("`python-async-workers`." if "worker" in query else "none"))
"""


def test_precision_and_recall(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given queries that the agent gets right, misses, takes wrongly, crashes over, and leaves open
    asked = [
        ("a worker that drains", True),
        ("move the mail out of the request", True),
        ("celery does it twice", True),
        ("how many uvicorn workers", False),
        ("cache the list", False),
        ("a kafka consumer", False),
    ]
    entries = [{"query": query, "should_trigger": should} for query, should in asked]
    monkeypatch.setattr(triggers, "queries", lambda: entries)
    (tmp_path / "benchmark.json").write_text('{"runs": ["of tickets"]}')
    agent = shlex.join([sys.executable, "-c", CHOOSES])

    result = main(monkeypatch, tmp_path, agent, "--triggers", "--runs", "2")

    section = result["triggers"]
    assert (section["precision"], section["recall"]) == (0.5, 0.333)
    assert (section["asked"], section["without_answer"], section["tokens"]) == (12, 4, 40)
    assert [one["ended"] for one in section["answers"] if one["query"] == "celery does it twice"] == [
        "exit code 1"
    ] * 2
    # What was measured with tickets is still there, and what went wrong is said
    assert result["runs"] == ["of tickets"]
    out = capsys.readouterr().out
    assert "precision 0.5, recall 0.333 of 12 queries, 4 without an answer" in out
    assert "missed  celery does it twice (exit code 1)" in out
    assert "loaded  how many uvicorn workers (python-async-workers)" in out


def test_an_agent_that_is_always_silent_has_no_precision() -> None:
    answers = [triggers.Answer("q", should_trigger=True, skill=None, ended="x", seconds=1.0, tokens=None)]

    assert triggers.summary(answers) | {"answers": []} == {
        "precision": None,
        "recall": 0.0,
        "asked": 1,
        "without_answer": 1,
        "time_seconds": 1.0,
        "tokens": None,
        "answers": [],
    }


@pytest.mark.parametrize(
    ("said", "skill"),
    [
        ("SKILL: none", "none"),
        ("SKILL: kafka-streaming, or rather\n**SKILL: python-async-workers**\n", archive.NAME),
        ('{"result": "Well.\\nSKILL: python-async-workers", "usage": {}}', archive.NAME),
        ("skill: Python-Async-Workers", archive.NAME),
        ("I would take python-async-workers", None),
        ("SKILL: something-else", None),
        ("", None),
    ],
)
def test_the_answer_is_read(said: str, skill: str | None) -> None:
    assert triggers.read(said) == skill


def test_the_prompt_gives_names_descriptions_and_the_query_alone() -> None:
    entry = triggers.queries()[0]
    prompt = triggers.prompt(entry["query"])

    assert entry["query"] in prompt
    assert f"- {archive.NAME}: {triggers.description()}\n" in prompt
    assert all(f"- {name}: " in prompt for name in triggers.NEIGHBOURS)
    assert "should_trigger" not in prompt
