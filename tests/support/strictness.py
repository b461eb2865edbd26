"""pytest plugin: no quiet gaps.

A skipped test fails the run, ledgers are printed, workers of a failed test show their logs.

It also sorts the tests: whoever uses a server fixture, or is marked `services` or `slow`, is left out of
`make test-fast`; all others get the marker `fast` without anybody writing it.
"""

from collections.abc import Generator
from typing import Any

import pytest

from support import ledger, workers

SERVER_FIXTURES = frozenset({"postgres", "redis_server", "rabbit", "own_postgres", "own_redis", "own_rabbit"})

_gaps = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_gaps] = []
    config.pluginmanager.register(_Gaps(config.stash[_gaps]))


class _Gaps:
    """Notes every test that did not run to its end."""

    def __init__(self, gaps: list[str]) -> None:
        self._gaps = gaps

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:  # an expected failure counts as one too
            where = report.longrepr
            reason = where[2] if isinstance(where, tuple) else getattr(report, "wasxfail", "")
            self._gaps.append(f"{report.nodeid} ({reason})")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        uses_servers = SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if uses_servers or item.get_closest_marker("services"):
            item.add_marker("services")
        elif not item.get_closest_marker("slow"):
            item.add_marker("fast")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """A process of pytest-xdist has ended: its ledgers are ours."""
    if error is None:
        ledger.adopt(node.workeroutput["ledgers"])


def pytest_runtest_setup() -> None:
    workers.started.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for worker in workers.started:
            report.sections.append((f"log of worker {worker.name}", worker.log_tail()))
    return report


def _complaints(config: pytest.Config, exitstatus: int) -> list[str]:
    if config.option.collectonly:
        return []
    found = [f"SKIPPED, and nothing may be: {gap}" for gap in config.stash[_gaps]]
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        found.append("NO TEST RAN, so nothing is proven")
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["ledgers"] = ledger.lines()
    ended_well = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if ended_well and _complaints(session.config, exitstatus):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if ledger.lines():
        terminalreporter.section("ledgers")
        for line in ledger.lines():
            terminalreporter.write_line(line)
    for complaint in _complaints(config, exitstatus):
        terminalreporter.write_line(complaint, red=True)
