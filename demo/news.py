"""What happened, for the person who watches: faults by the demo, and what the workers' logs say of them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

# What workers log when they mend something (templates: stream_consumer.py and relay.py).
TOOK_OVER = re.compile(r"took over (\d+) messages")
SENT_AGAIN = re.compile(r"the broker lost (.+): (\d+) messages are sent again")


def some(messages: int) -> str:
    """So many messages, in words."""
    return "1 message" if messages == 1 else f"{messages} messages"


@dataclass(frozen=True)
class Event:
    """One line of news; `at` is seconds since the first order."""

    at: float
    text: str

    def __str__(self) -> str:
        return f"{self.at:5.1f} s  {self.text}"


@dataclass
class News:
    """Collects events, also from log files that grow."""

    events: list[Event] = field(default_factory=list)
    noticed_loss: bool = False
    _began: float = field(default_factory=time.monotonic)
    _read: dict[Path, int] = field(default_factory=dict)

    def begin(self) -> None:
        """The clock of the events starts now."""
        self._began = time.monotonic()

    @property
    def clock(self) -> float:
        """Seconds since `begin`."""
        return time.monotonic() - self._began

    def tell(self, text: str) -> None:
        """Something happened."""
        self.events.append(Event(self.clock, text))

    def read_log(self, name: str, log: Path) -> None:
        """Look for events in what was written since the last time."""
        with log.open("rb") as file:
            file.seek(self._read.get(log, 0))
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._read[log] = self._read.get(log, 0) + len(complete)
        for line in complete.decode(errors="replace").splitlines():
            self._read_line(name, line)

    def _read_line(self, name: str, line: str) -> None:
        if found := TOOK_OVER.search(line):
            self.tell(f"{name} took over {some(int(found[1]))} of a worker that went silent")
        elif found := SENT_AGAIN.search(line):
            self.noticed_loss = self.noticed_loss or found[1] == "everything"
            lost = "lost" if self.noticed_loss else "may have lost"
            self.tell(f"{name}: Redis {lost} {found[1]}, {found[2]} messages are sent again")
