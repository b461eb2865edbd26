"""Solutions by add_worker.py and the few lines that it leaves to do. They show that the grader can be passed.

python -m evals.solutions 3 path/to/project      lays out the app and solves the task
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from evals.tasks import TASKS

APPS = Path(__file__).resolve().parent / "apps"
SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "add_worker.py"
PROCESS = re.compile(r"^((?!release:|web:)[\w-]+: )(?:WORKER_HEALTH_PORT=\S+ )?", re.MULTILINE)
BOOKINGS, BOOKS = "app.services.bookings:BookingService", "library.services.books:BookService"


def add(project: Path, *words: str) -> None:
    """Run the script."""
    command = [sys.executable, str(SCRIPT), *words, "--project", str(project)]
    subprocess.run(command, check=True, capture_output=True)


def without_health_ports(project: Path) -> None:
    """Take the probes' port from each process: the grader runs two of each, and a port can be had once."""
    path = project / "Procfile"
    text = PROCESS.sub(r"\1WORKER_HEALTH_PORT=0 ", path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Replace text that must be there once."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{path}: {old!r} is there {text.count(old)} times")
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def paid(project: Path) -> None:
    """A consumer of Redis Streams."""
    add(project, "redis-consumer", "paid", "--calls", f"{BOOKINGS}.mark_paid", "--type", "pay.captured.v1")


def arrived(project: Path) -> None:
    """A consumer of RabbitMQ."""
    add(project, "rabbitmq-consumer", "arrived", "--calls", f"{BOOKS}.receive", "--type", "book.arrived.v1")


def confirmation(project: Path) -> None:
    """A message in the request's transaction, and a consumer that mails."""
    add(project, "redis-consumer", "confirmation", "--calls", f"{BOOKINGS}.send_confirmation")
    add(project, "outbox-relay")
    edit(
        project / "app" / "api" / "bookings.py",
        (
            "    await service.send_confirmation(booking_id)\n",
            '    await enqueue(session, "bookings.confirmation.v1", Confirmation(booking_id=booking_id))\n',
        ),
        (
            "from app.core.database import db\n",
            (
                "from app.consumers.confirmation import Confirmation\n"
                "from app.core.database import db\nfrom app.core.outbox import enqueue\n"
            ),
        ),
    )


def occupancy(project: Path) -> None:
    """A cron job."""
    add(project, "cron-job", "occupancy", "--calls", f"{BOOKINGS}.count_occupancy", "--every", "10s")


def tracked(project: Path, method: str, route: tuple[str, str], data: str) -> None:
    """A job with a status, under the project's own route: what it shows is what the ticket says."""
    add(project, "celery-task", method, "--calls", f"{BOOKS}.{method}", "--tracked", "--with", "jobs-api")
    model = method.capitalize()
    before, after = route
    edit(
        project / "src" / "library" / "api" / "books.py",
        (before, after.replace("DATA", f"{method}, {model}({data})")),
        (
            "from library.core.database import db\n",
            f"{IMPORTS}from library.core.database import db\n",
        ),
        (
            "from library.services.books import BookService\n",
            (
                "from library.services.books import BookService\n"
                f"from library.tasks.{method} import {model}, {method}\n"
            ),
        ),
        (
            "from fastapi import APIRouter, Depends, Header\n",
            "from fastapi import APIRouter, Depends, Header, Request, Response\n",
        ),
    )
    edit(
        project / "src" / "library" / "main.py",
        (
            "app.include_router(books.router)\n",
            ("app.include_router(books.router)\napp.add_exception_handler(Problem, answer_problem)\n"),
        ),
        (
            "from library.api import books\n",
            (
                "from library.api import books\n"
                "from library.api.worker_answers import Problem, answer_problem\n"
            ),
        ),
    )


ACCEPT = "    return await accept(request, DATA, owner=owner)\n"
OWNER = "owner: Annotated[str, Depends(member)], request: Request) -> Response:"
FOLLOW = "job_id: str, owner: Annotated[str, Depends(member)]) -> dict[str, str]:"
FIND = "    job = there(await asked(job_manage.find(id_of(job_id), owner)))\n"
IMPORTS = """from library.api.job_accept import ROUTE, accept
from library.api.jobs import id_of, there
from library.api.worker_answers import asked
from library.core import job_manage
"""


def export(project: Path) -> None:
    """Exports as jobs."""
    before = '''@router.post("/exports", status_code=201, dependencies=[Depends(member)])
async def export(body: ExportIn, session: Session) -> dict[str, Any]:
    """Export all books."""
    row = await BookService(session).export(body.reference)
    return {"id": row.id, "lines": row.lines}
'''
    after = f'''@router.post("/exports", status_code=202)
async def start_export(body: ExportIn, {OWNER}
    """Export all books."""
{ACCEPT}

@router.get("/exports/{{job_id}}", name=ROUTE)
async def export_status({FOLLOW}
    """How far an export is."""
{FIND}    return {{"status": "done" if job.state == "succeeded" else job.state}}
'''
    tracked(project, "export", (before, after), "reference=body.reference")


def summarise(project: Path) -> None:
    """Summaries as jobs."""
    before = '''@router.post("/books/{book_id}/summary", status_code=201, dependencies=[Depends(member)])
async def summarise(book_id: int, session: Session) -> dict[str, Any]:
    """Summarise a book."""
    row = await BookService(session).summarise(book_id)
    return {"id": row.id, "text": row.text}
'''
    after = f'''@router.post("/books/{{book_id}}/summary", status_code=202)
async def start_summary(book_id: int, {OWNER}
    """Summarise a book."""
{ACCEPT}

@router.get("/summaries/{{job_id}}", name=ROUTE)
async def summary_status({FOLLOW}
    """How far a summary is."""
{FIND}    return {{"status": job.state}}
'''
    tracked(project, "summarise", (before, after), "book_id=book_id")


def replacing(line: str, module: str, solution: Callable[[Path], None]) -> Callable[[Path], None]:
    """A solution that first removes the worker that is there."""

    def solve(project: Path) -> None:
        edit(project / "Procfile", (f"{line}\n", ""))
        (project / module).unlink()
        solution(project)

    return solve


# What the tills write is no CloudEvent: an entry's id in the stream is what tells it from its equals.
TILLS = """def translate(entry: Foreign) -> bytes:
    \"\"\"What an entry of the tills is. Its id in the stream is what tells it from its equals.\"\"\"
    return build("bar.ordered.v1", Charge.model_validate(entry.fields), source="/tills", id_=entry.id)


async def handle("""


def charge(project: Path) -> None:
    """A consumer of Redis Streams, in order, of entries that are no CloudEvents."""
    calls = "app.services.bar:BarService.charge"
    add(
        project,
        "redis-consumer",
        "charge",
        "--calls",
        calls,
        "--type",
        "bar.ordered.v1",
        "--with",
        "in-order",
    )
    file = project / "app" / "consumers" / "charge.py"
    edit(
        file,
        ("import Message\n", "import Message, build\nfrom app.core.foreign import Foreign\n"),
        ("async def handle(", TILLS),
        ("handle),),\n", "handle),),\n    translate=translate,\n"),
    )


def restored(app: str, solution: Callable[[Path], None], *files: str) -> Callable[[Path], None]:
    """A solution that takes an overlay's `files` back to the app's own."""

    def solve(project: Path) -> None:
        for file in files:
            shutil.copy(APPS / app / file, project / file)
        solution(project)

    return solve


SOLUTIONS: dict[int, Callable[[Path], None]] = {
    1: paid,
    2: arrived,
    3: confirmation,
    4: occupancy,
    5: export,
    6: summarise,
    7: replacing("pay_listener: python -m app.pay_listener", "app/pay_listener.py", paid),
    8: replacing("arrivals: python -m library.arrivals", "src/library/arrivals.py", arrived),
    9: restored("library", export, "src/library/api/books.py"),
    10: restored("bookings", occupancy, "app/main.py"),
    11: replacing(
        "mailer: celery -A app.tasks worker --concurrency 2",
        "app/tasks.py",
        restored("bookings", confirmation, "app/api/bookings.py"),
    ),
    12: charge,
}


def solve(number: int, folder: Path) -> Path:
    """Lay out the app of a task in a folder that is not there yet, and solve it."""
    project = TASKS[number].lay_out(folder)
    SOLUTIONS[number](project)
    without_health_ports(project)
    return project


if __name__ == "__main__":
    print(solve(int(sys.argv[1]), Path(sys.argv[2])))
