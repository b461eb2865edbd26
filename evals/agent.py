"""An agent is a command: it gets a text, works in a folder, and says what it has used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import reaper


@dataclass(frozen=True)
class Agent:
    """A command, and the seconds that it has for a ticket."""

    command: str
    seconds: float

    def work(self, ticket: str, project: Path, folder: Path) -> tuple[str, float, int | None]:
        """Give it a ticket; how it ended, the seconds it took, and its tokens.

        What it says is in stdout.txt and stderr.txt of `folder`. What it started and left running is killed.
        """
        (folder / "ticket.txt").write_text(ticket, encoding="utf-8")
        report = folder / "report.json"
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "EVAL_TICKET": ticket,
            "EVAL_TICKET_FILE": str(folder / "ticket.txt"),
            "EVAL_REPORT": str(report),
        }
        environment.pop("PYTHONPATH", None)  # this repository's, which would hide the project's own modules
        began = time.monotonic()
        with (
            (folder / "ticket.txt").open("rb") as given,
            (folder / "stdout.txt").open("wb") as out,
            (folder / "stderr.txt").open("wb") as err,
        ):
            process = subprocess.Popen(
                ["/bin/sh", "-c", self.command],
                cwd=project,
                env=environment,
                stdin=given,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                ended = f"exit code {process.wait(self.seconds)}"
            except subprocess.TimeoutExpired:
                reaper.kill_tree(process.pid)
                process.wait()
                ended = f"killed after {self.seconds:g} s"
        seconds = time.monotonic() - began
        reaper.kill_orphans(process.pid)
        return ended, seconds, tokens(report, folder / "stdout.txt")


def tokens(report: Path, stdout: Path) -> int | None:
    """What the agent reports to have used; None where it says nothing."""
    lines = stdout.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    for text in ([report.read_text(encoding="utf-8")] if report.is_file() else []) + lines[-1:]:
        try:
            data: Any = json.loads(text)
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("tokens"), int):
            return int(data["tokens"])
        usage = data.get("usage") if isinstance(data, dict) else None
        if isinstance(usage, dict):
            return sum(int(value) for name, value in usage.items() if name.endswith("tokens"))
    return None
