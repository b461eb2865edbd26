"""The tasks: a small app, a ticket (in evals.json), and the scenario that tells whether it was done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from evals.scenarios import jobs, messages, ordered, requests, schedule
from evals.scenarios.asking import Work
from evals.scenarios.topics import Topic
from evals.stage import Stage

HERE = Path(__file__).resolve().parent
GENERATED = shutil.ignore_patterns("__pycache__", ".*_cache")


@dataclass(frozen=True)
class Task:
    """One task. `overlay` names files that are there beside the app's own."""

    id: int
    app: str
    play: Callable[[Stage], Awaitable[None]]
    expectations: tuple[str, ...]
    overlay: str = ""
    rabbit: bool = False
    copies: int = 2

    @property
    def ticket(self) -> str:
        """What the agent is told."""
        (entry,) = (entry for entry in tickets() if entry["id"] == self.id)
        return str(entry["prompt"])

    def lay_out(self, folder: Path) -> Path:
        """Copy the app into a folder that is not there yet."""
        shutil.copytree(HERE / "apps" / self.app, folder, ignore=GENERATED)
        if self.overlay:
            shutil.copytree(HERE / "overlays" / self.overlay, folder, ignore=GENERATED, dirs_exist_ok=True)
        return folder


def tickets() -> list[dict[str, Any]]:
    """The entries of evals.json."""
    entries: list[dict[str, Any]] = json.loads((HERE / "evals.json").read_text(encoding="utf-8"))["evals"]
    return entries


PAID = Topic(
    name="pay.captured",
    type="pay.captured.v1",
    data='{"booking_id": {id}, "payment_reference": "ref-{id}"}',
    rows="INSERT INTO booking (guest_email, room, amount_cents)"
    " SELECT 'guest@example.test', '7', 9000 FROM generate_series(1, {count})",
    table="booking_note",
    key="NEW.booking_id",
    effects="SELECT booking_id FROM booking_note WHERE what = 'paid'",
)
ARRIVED = Topic(
    name="book.arrived",
    type="book.arrived.v1",
    data='{"book_id": {id}, "copies": 2}',
    rows="INSERT INTO book (title, text) SELECT 'A book', 'Words' FROM generate_series(1, {count})",
    table="arrival",
    key="NEW.book_id",
    effects="SELECT book_id FROM arrival",
    rabbit=True,
)


async def ask_export(client: httpx2.AsyncClient, number: int) -> httpx2.Response:
    """Ask for an export."""
    return await client.post("/exports", json={"reference": f"list-{number}"})


async def exports(stage: Stage) -> list[Hashable]:
    """Exports that were made."""
    rows = await stage.sql("SELECT reference FROM export")
    return [int(row[0].removeprefix("list-")) for row in rows]


async def ask_summary(client: httpx2.AsyncClient, number: int) -> httpx2.Response:
    """Add book number N, and ask for its summary."""
    book = {"title": f"No {number}", "text": "It was a dark and stormy night."}
    added = (await client.post("/books", json=book)).raise_for_status().json()["id"]
    return await client.post(f"/books/{added}/summary")


async def summaries(stage: Stage) -> list[Hashable]:
    """Summaries that the model was paid for, and that are kept: the more of the two for each book."""
    paid = [str(effect.body["prompt"]).split("\n")[0] for effect in await stage.world.effects("llm")]
    numbers = [int(line.rpartition("No ")[2]) for line in paid]
    rows = await stage.sql("SELECT title FROM summary JOIN book ON book.id = book_id")
    kept = [int(row[0].removeprefix("No ")) for row in rows]
    return [number for number in set(kept) for _ in range(max(numbers.count(number), kept.count(number)))]


EXPORTS = Work("exports", ask_export, exports, "export", "replace(NEW.reference, 'list-', '')")
TITLE = "(SELECT replace(title, 'No ', '') FROM book WHERE id = NEW.book_id)"
SUMMARIES = Work("summaries", ask_summary, summaries, "summary", TITLE)

TASKS = {
    task.id: task
    for task in (
        Task(1, "bookings", partial(messages.play, topic=PAID), messages.EXPECTATIONS),
        Task(2, "library", partial(messages.play, topic=ARRIVED), messages.EXPECTATIONS, rabbit=True),
        Task(3, "bookings", requests.play, requests.EXPECTATIONS),
        Task(4, "bookings", schedule.play, schedule.EXPECTATIONS),
        Task(5, "library", partial(jobs.play, work=EXPORTS), jobs.EXPECTATIONS),
        Task(6, "library", partial(jobs.play, work=SUMMARIES), jobs.EXPECTATIONS),
        Task(7, "bookings", partial(messages.play, topic=PAID), messages.EXPECTATIONS, "listener"),
        Task(
            8,
            "library",
            partial(messages.play, topic=ARRIVED),
            messages.EXPECTATIONS,
            "arrivals",
            rabbit=True,
        ),
        Task(9, "library", partial(jobs.play, work=EXPORTS), jobs.EXPECTATIONS, "exporter"),
        Task(10, "bookings", schedule.play, schedule.EXPECTATIONS, "nightly"),
        Task(11, "bookings", requests.play, requests.EXPECTATIONS, "mailer"),
        Task(12, "bookings", ordered.play, ordered.EXPECTATIONS, "bar"),
    )
}
