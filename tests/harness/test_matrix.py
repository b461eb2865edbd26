"""`make test-matrix`: what it runs, what it reads out of pytest, and what it says at the end."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from support import generations, matrix
from support.generations import GENERATIONS, Generation, MissingGeneration
from support.matrix import Row, UnavailableError
from support.workers import ROOT

OUTPUT = """\
collected 40 items / 3 deselected / 37 selected
tests/conformance/test_workers_die.py ..F                      [ 27%]
=================================== ledgers ====================================
LEDGER kill -9 x20 attempted=2000 accepted=1999 executed=1999 lost=0 duplicated=0 recovered=4
LEDGER retries=2 across a kill attempted=60 accepted=60 executed=59 lost=1 duplicated=0 recovered=20
=========================== short test summary info ============================
FAILED tests/conformance/test_workers_die.py::test_retries[redis] - work was lost
ERROR tests/conformance/test_bad_input.py::test_bad[redis] - ServerError: redis ended
===== 1 failed, 35 passed, 3 deselected, 1 error in 151.20s (0:02:31) =====
"""


def read(output: str) -> Row:
    row = Row("Redis 9", "9.1.2", seconds=151.3)
    for line in output.splitlines():
        row.read(line)
    return row


def collected(selection: matrix.Tests) -> list[str]:
    """The tests that a selection runs."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *selection.arguments()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    return [line for line in result.stdout.splitlines() if "::" in line]


def test_a_row_says_what_pytest_said() -> None:
    assert read(OUTPUT).cells() == [
        *("Redis 9", "9.1.2", "35", "2", "151"),
        *("2060", "2059", "2058", "1", "0", "24"),
    ]


def test_the_table_is_followed_by_what_went_wrong() -> None:
    head, row, *complaints = matrix.table([read(OUTPUT)]).splitlines()
    assert head.split()[:5] == ["generation", "version", "passed", "failed", "seconds"]
    assert row.startswith("Redis 9     9.1.2        35       2      151")
    assert complaints == [
        "Redis 9: FAILED tests/conformance/test_workers_die.py::test_retries[redis] - work was lost",
        "Redis 9: ERROR tests/conformance/test_bad_input.py::test_bad[redis] - ServerError: redis ended",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("broker", "other"), [("redis", "rabbitmq"), ("rabbitmq", "redis")])
def test_each_brokers_tests_run_on_its_generations(broker: str, other: str) -> None:
    every, quick = collected(matrix.FULL[broker]), collected(matrix.QUICK[broker])
    assert not [test for test in every if f"[{other}" in test]
    conformance = [test for test in every if test.startswith("tests/conformance/")]
    assert len(conformance) > 25
    assert set(quick) < set(every)
    # And no name of the quick part has gone out of use
    words = matrix.QUICK[broker].names.replace("(", " ").replace(")", " ").split()
    for word in set(words) - {"and", "or", "not"}:
        assert any(word in test for test in quick), word


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Generations whose tests would have run; each passes."""
    ran: list[str] = []

    def test(generation: Generation, _tests: matrix.Tests, options: list[str]) -> Row:
        ran.append(" ".join([generation.title, *options]))
        return Row(generation.title, passed=1)

    monkeypatch.setattr(matrix, "test", test)
    return ran


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["RabbitMQ 3.10", "RabbitMQ 4", "Redis 6.2", "Redis 7", "Redis 8", "Valkey 8.1"]),
        (["--only", "rabbitmq"], ["RabbitMQ 3.10", "RabbitMQ 4"]),
        (["--quick", "--only", "redis", "-x"], ["Redis 6.2 -x", "Redis 8 -x", "Valkey 8.1 -x"]),
    ],
)
def test_which_generations_run(
    nothing_runs: list[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: list[str]
) -> None:
    monkeypatch.setattr(generations, "release_of_this_machine", lambda: "bookworm")
    assert matrix.main(arguments) == 0
    assert nothing_runs == expected


@pytest.mark.usefixtures("nothing_runs")
def test_no_generation_at_all_is_a_failure() -> None:
    assert matrix.main(["--only", "memcached"]) == 1


def test_a_generation_that_cannot_be_had_fails_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(generation: Generation) -> str:
        raise UnavailableError(f"No servers of Debian {generation.release}: that takes root.")

    monkeypatch.setattr(matrix, "version", version)
    assert matrix.main(["--only", "rabbitmq"]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "RabbitMQ 3.10: No servers of Debian bookworm: that takes root.",
        "RabbitMQ 4: No servers of Debian trixie: that takes root.",
    ]


def of_version(found: str | None) -> Callable[[Generation], str]:
    """A machine on which every program is of this version, or none is there."""

    def version_of(generation: Generation) -> str:
        if found is None:
            raise MissingGeneration(generation)
        return found

    return version_of


@pytest.mark.parametrize("found", [None, "3.13.7"])
def test_what_is_missing_or_another_version_is_unpacked(
    monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    def unpack(_: Generation) -> None:
        monkeypatch.setattr(generations, "version_of", of_version("4.0.5"))

    monkeypatch.setattr(generations, "version_of", of_version(found))
    monkeypatch.setattr(matrix, "unpack", unpack)
    assert matrix.version(GENERATIONS[1]) == "4.0.5"


def test_a_version_that_was_not_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "version_of", of_version("3.13.7"))
    monkeypatch.setattr(matrix, "unpack", lambda _: None)
    with pytest.raises(UnavailableError, match=r"^this is version 3\.13\.7$"):
        matrix.version(GENERATIONS[1])


def test_why_a_release_could_not_be_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("TEST_SERVICES", f"{tmp_path}/services")
    unknown = Generation("rabbitmq", "3.5", "RabbitMQ 3.5", "3.5.", "sarge", "")
    with pytest.raises(UnavailableError, match=r"^No servers of Debian sarge: .* or trixie\.$"):
        matrix.unpack(unknown)
