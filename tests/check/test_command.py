"""The command: what it prints, what it leaves out, its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import check_workers
from checkkit.rule import rules

SCRIPT = Path(check_workers.__file__)
WRONG = "import time\nasync def handle():\n    time.sleep(1)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "work.py").write_text(WRONG)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = check_workers.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_text_tells_why_and_where(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, project)
    assert (code, err) == (1, "")
    assert out.splitlines()[0] == "error ASY02: time.sleep in async code"
    assert f"  why: {rules()['ASY02'].why}" in out
    assert "  work.py:3:5  time.sleep(1)" in out
    assert out.splitlines()[-1] == "1 error in 1 files, 4 lines"


def test_clean_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, tmp_path) == (0, "nothing found in 0 files, 0 lines\n", "")


def test_one_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, project / "work.py")[0] == 1


def test_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, project, "--format", "json")
    (found,) = json.loads(out)["findings"]
    assert (found["rule"], found["path"], found["line"], found["severity"]) == (
        "ASY02",
        "work.py",
        3,
        "error",
    )


def test_sarif_has_what_code_hosts_ask_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, project, "--format", "sarif")
    log = json.loads(out)
    assert log["version"] == "2.1.0"
    (made,) = log["runs"]
    driver, (result,) = made["tool"]["driver"], made["results"]
    assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "ASY02"
    assert result["level"] == "error"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "work.py"
    assert place["region"] == {"startLine": 3, "startColumn": 5}
    assert result["partialFingerprints"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--select", "ASY02"], 1),
        (["--select", "cron,bridge"], 1),
        (["--select", "cron"], 0),
        (["--ignore", "asy02"], 0),
        (["--ignore", "bridge"], 0),
        (["--exclude", "work.py"], 0),
        (["--exclude", "w*"], 0),
    ],
)
def test_choices(arguments: list[str], code: int, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, project, *arguments)[0] == code


def test_a_comment_with_a_reason_accepts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "    time.sleep(1)  # worker: ignore[ASY02] nothing else runs on this loop\n"
    (project / "work.py").write_text(WRONG.replace("    time.sleep(1)\n", line))
    assert run(capsys, project)[0] == 0


def test_a_baseline_leaves_out_what_was_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = project.parent / "known.json"
    assert run(capsys, project, "--write-baseline", baseline)[0] == 0
    assert run(capsys, project, "--baseline", baseline)[0] == 0

    # When lines move, what is known stays known; one more of the same is new
    (project / "work.py").write_text("# moved\n" + WRONG)
    assert run(capsys, project, "--baseline", baseline)[0] == 0
    (project / "work.py").write_text(WRONG + "    time.sleep(1)\n")
    code, out, _ = run(capsys, project, "--baseline", baseline)
    assert code == 1
    assert "1 error" in out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--select", "NONE1"], 2),
        (["--explain", "NONE1"], 2),
        (["--baseline", "nowhere.json"], 2),
        (["--write-baseline", "no/such/folder.json"], 2),
        (["no-such-folder"], 3),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str],
    code: int,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project)
    got, out, err = run(capsys, *arguments)
    assert (got, out) == (code, "")
    assert err.startswith("check_workers.py: ")
    assert err.count("\n") == 1


def test_rules_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run(capsys, "--rules")[1].splitlines()) == len(rules())
    assert {one["id"] for one in json.loads(run(capsys, "--rules", "--format", "json")[1])} == set(rules())
    _, out, _ = run(capsys, "--explain", "cel14")
    for part in (rules()["CEL14"].why, rules()["CEL14"].fix, "    async def charge(order_id): ...", "good:"):
        assert part in out


def test_help_names_every_option_and_exit_code() -> None:
    result = subprocess.run(
        [sys.executable, "-I", SCRIPT, "--help"], capture_output=True, text=True, check=True
    )
    for word in (
        "--explain",
        "--baseline",
        "worker: ignore[",
        "0 nothing",
        "1 findings",
        "2 wrong",
        "3 the path",
    ):
        assert word in result.stdout
