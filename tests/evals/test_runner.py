"""The runner, with a shell as the agent."""

import json
from pathlib import Path

from evals.benchmark import WITH, WITHOUT, Run, benchmark, table
from evals.run import Agent, prepare, tokens
from evals.tasks import TASKS
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
