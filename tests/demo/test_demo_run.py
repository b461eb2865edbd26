"""`make demo` itself, with few orders: it proves what it says, and leaves nothing behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from support.servers import RabbitServer
from support.wait import eventually_sync

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FOLDER = re.compile(r"Everything is in (\S+), which")
WITHOUT_INBOX = r"""
import sys
from demo import rabbit, run, shop

rabbit.Rabbit.found = staticmethod(lambda: False)
wire = shop.Shop.wire

def wire_without_inbox(self, *servers):
    wire(self, *servers)
    inbox = self.folder / "app" / "core" / "inbox.py"
    text = inbox.read_text()
    assert "ON CONFLICT DO NOTHING" in text
    broken = text.replace(":consumer, :message_id\n", ":consumer, gen_random_uuid()::text || :message_id\n")
    assert broken != text
    inbox.write_text(broken)
    job = self.folder / "app" / "jobs" / "sales_report.py"
    again = "    await ReportService(session).daily_sales(day=tick.due_at.date())\n    return Done()"
    job.write_text(job.read_text().replace("    return Done()", again))

shop.Shop.wire = wire_without_inbox
sys.exit(run.main(["--orders", "60"]))
"""


@contextmanager
def demo(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The demo as a process that does not outlive the test."""
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def processes_in(folder: Path) -> list[psutil.Process]:
    """All that works in the demo's folder: the servers, the API and the workers do."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(folder) in process.cwd() or str(folder) in " ".join(process.cmdline()):
                found.append(process)
    return found


def assert_nothing_is_left(folder: Path) -> None:
    eventually_sync(lambda: not folder.exists(), 20, f"{folder} is removed")
    eventually_sync(lambda: not processes_in(folder), 20, "all processes of the demo have ended")


def test_nothing_is_lost_and_nothing_is_done_twice() -> None:
    # When the demo runs
    with demo("-m", "demo.run", "--orders", "100", "--seed", "7") as process:
        output, errors = process.communicate(timeout=150)

    # Then all faults have happened and the account is clean
    assert process.returncode == 0, output + errors
    for victim in ("order_paid", "outbox_relay", "redis", "scheduler", "mail:order_placed", "rabbitmq"):
        assert re.search(rf"! .* kill -9 {victim}\b", output), victim
    assert "Redis lost everything" in output
    assert "rabbitmq is started again, with its data" in output
    ledger = json.loads(output.splitlines()[-1])
    assert ledger["attempted"] == ledger["accepted"] == ledger["executed"] == 100
    assert (ledger["lost"], ledger["duplicated"]) == (0, 0)
    assert ledger["recovered"] > 0
    ticks = ledger["ticks"]
    assert (ticks["run"], ticks["run_twice"]) == (ticks["due"], 0)
    assert ticks["due"] > 10
    assert ticks["made_up"] > 0
    folder = FOLDER.search(output)
    assert folder
    assert_nothing_is_left(Path(folder[1]))


def test_the_demo_would_notice_repeats() -> None:
    # Given a shop whose inbox takes every delivery for a new message, and whose cron job does its work twice,
    # and no RabbitMQ on the machine
    with demo("-c", WITHOUT_INBOX) as process:
        output, errors = process.communicate(timeout=150)

    # Then what is sent again after the loss of Redis' data is done again, and the demo says so
    assert process.returncode == 1, output + errors
    assert "none here (neither RABBITMQ_URL nor a rabbitmq-server): this part is left out" in output
    ledger = json.loads(output.splitlines()[-1])
    assert ledger["duplicated"] > 0
    assert ledger["ticks"]["run_twice"] >= ledger["ticks"]["run"] > 0

    # and keeps the logs, until somebody has looked at them
    folder = FOLDER.search(output)
    assert folder
    assert (Path(folder[1]) / "logs" / "order_paid-1.log").exists()
    assert not processes_in(Path(folder[1]))
    shutil.rmtree(folder[1])


def test_a_rabbitmq_that_is_given_lives_on_and_stays_clean(rabbit: RabbitServer, rabbit_url: str) -> None:
    # Given a RabbitMQ that somebody uses
    vhost = rabbit_url.rpartition("/")[2]

    # When the demo takes part in it
    with demo("-m", "demo.run", "--orders", "60", RABBITMQ_URL=rabbit_url) as process:
        output, errors = process.communicate(timeout=150)

    # Then it is not killed, nothing is lost, and nothing of the demo is left in it
    assert process.returncode == 0, output + errors
    assert "rabbitmq is not the demo's own and lives on" in output
    assert "kill -9 mail:order_placed" in output
    assert json.loads(output.splitlines()[-1])["executed"] == 60
    assert rabbit.rabbitmqctl("list_queues", "-p", vhost, "--no-table-headers", "name").split() == []
    exchanges = rabbit.rabbitmqctl("list_exchanges", "-p", vhost, "--no-table-headers", "name").split()
    assert [name for name in exchanges if not name.startswith("amq.")] == []


def test_a_rabbitmq_that_is_given_and_away_is_an_error() -> None:
    with demo("-m", "demo.run", RABBITMQ_URL="amqp://guest:guest@127.0.0.1:1/") as process:
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 3
    assert "the RabbitMQ of RABBITMQ_URL answers" in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_nothing_stays_behind_when_the_demo_is_stopped(number: signal.Signals, code: int) -> None:
    with demo("-m", "demo.run") as process:
        assert process.stdout is not None
        # Given a demo whose workers run
        folder = None
        for line in process.stdout:
            folder = folder or FOLDER.search(line)
            if line.startswith("7  orders"):
                break
        assert folder
        assert len(processes_in(Path(folder[1]))) > 6

        # When it is stopped
        process.send_signal(number)
        process.communicate(timeout=30)

    # Then it takes everything along
    assert process.returncode == code
    assert_nothing_is_left(Path(folder[1]))


@pytest.mark.parametrize("arguments", [["--orders", "3"], ["--orders", "many"], ["--rabbit"]])
def test_wrong_command_lines_are_refused(arguments: list[str]) -> None:
    with demo("-m", "demo.run", *arguments) as process:
        output, errors = process.communicate(timeout=30)

    assert process.returncode == 2
    assert output == ""
    assert "error" in errors


def test_what_is_missing_is_said_in_one_line() -> None:
    # Given an interpreter without packages
    with demo("-S", "-m", "demo.run") as process:
        output, errors = process.communicate(timeout=30)

    assert process.returncode == 3
    assert output == ""
    assert errors.count("\n") == 1
    assert "make demo" in errors
