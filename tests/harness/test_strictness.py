"""A run with a gap is a failed run, and says which gap."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.workers import ROOT

pytestmark = pytest.mark.slow  # each test is a run of pytest


def run_pytest(folder: Path, test_code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text('pytest_plugins = ["support.strictness"]\n')
    (folder / "test_it.py").write_text(f"import pytest\n{test_code}\n")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-c",
            "/dev/null",
            "--rootdir",
            ".",
            *arguments,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )


PASSED = "def test_passed(): pass"


def test_a_run_without_gaps_passes(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, PASSED)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "gap",
    [
        "def test_gap(): pytest.skip('no broker')",
        "@pytest.mark.skip(reason='no broker')\ndef test_gap(): pass",
        "@pytest.mark.xfail(reason='no broker')\ndef test_gap(): assert False",
        "@pytest.fixture\ndef broker(): pytest.skip('no broker')\ndef test_gap(broker): pass",
        "def test_gap(): pytest.importorskip('no_such_module', reason='no broker')",
        "pytest.skip('no broker', allow_module_level=True)",
    ],
)
def test_a_skipped_test_fails_the_run_and_is_named(tmp_path: Path, gap: str) -> None:
    result = run_pytest(tmp_path, f"{PASSED}\n{gap}")
    assert result.returncode == 1, result.stdout
    assert "SKIPPED, and nothing may be: test_it.py" in result.stdout
    assert "no broker" in result.stdout


def test_a_run_of_no_tests_fails(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, PASSED, "-k", "nothing")
    assert result.returncode == 1
    assert "NO TEST RAN" in result.stdout


def test_a_look_at_the_tests_is_no_run(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, PASSED, "--collect-only").returncode == 0


def test_a_failure_stays_a_failure_and_the_gap_is_still_named(tmp_path: Path) -> None:
    code = "def test_failed(): assert False\ndef test_gap(): pytest.skip('no broker')"
    result = run_pytest(tmp_path, code)
    assert result.returncode == 1
    assert "no broker" in result.stdout


def test_ledgers_are_printed_from_captured_tests(tmp_path: Path) -> None:
    code = "from support.ledger import Ledger\ndef test_it(): Ledger('kill -9', 5, 5, 5)"
    result = run_pytest(tmp_path, code, "-q")
    line = "LEDGER kill -9 attempted=5 accepted=5 executed=5 lost=0 duplicated=0 recovered=0"
    assert result.stdout.splitlines().count(line) == 1


def test_the_log_of_a_worker_is_in_the_report_of_a_failed_test(tmp_path: Path) -> None:
    code = """
import sys
from support.workers import WorkerProcess
def test_it():
    with WorkerProcess("relay", command=[sys.executable, "-c", "print('lost its lease')"]) as worker:
        worker.wait(10)
        assert False
def test_next():
    assert False
"""
    result = run_pytest(tmp_path, code)
    assert result.stdout.count("log of worker relay") == 1
    assert result.stdout.count("\nlost its lease") == 1


def test_tests_are_sorted_into_fast_and_others(tmp_path: Path) -> None:
    code = """
@pytest.fixture
def rabbit(): pass
@pytest.fixture
def rabbit_url(rabbit): pass
def test_plain(): pass
def test_with_server(rabbit_url): pass
@pytest.mark.services
def test_marked(): pass
@pytest.mark.slow
def test_slow(): pass
"""
    result = run_pytest(tmp_path, code, "-m", "fast", "-v")
    assert "test_plain PASSED" in result.stdout
    assert "1 passed, 3 deselected" in result.stdout
