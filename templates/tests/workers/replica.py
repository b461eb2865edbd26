"""The process that plays a worker in the tests: all of it is the project's code but the one service method,
which is replaced by one that leaves a trace in the same transaction. So the domain needs no data.

    python replica.py consumer_kit consume order_paid MODULE:METHOD    play what a kit has, here a consumer
    python replica.py celery_kit run job_dispatcher     run another worker, as it is
    python replica.py cron_kit desk                     do what the lines on stdin say, answer in JSON
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

LAB = Path(os.environ["LAB_FOLDER"])
HOLD, FAILURES, STARTED, HELD = LAB / "hold", LAB / "failures", LAB / "started", LAB / "held"
KIT, ROLE, *REST = sys.argv[1:]
CELERY_ROLES = ("task", "job")
played: dict[str, Any] = {}

TABLE = text("CREATE TABLE IF NOT EXISTS worker_lab_effect (message_id text NOT NULL, process int NOT NULL)")


class RolledBackError(Exception):
    """Ends a transaction."""


async def leave_trace(session: AsyncSession) -> Any:
    """Take the place of the service method: write a row, then wait, fail or return as the test wants."""
    begin((await session.execute(*effect())).first())
    await hold()
    return result()


def leave_trace_sync(session: Session) -> Any:
    """The same for a synchronous service; the loop goes on while it waits."""
    begin(session.execute(*effect()).first())
    await_only(hold())
    return result()


def effect() -> tuple[Any, dict[str, int]]:
    """The statement that writes the row, which finds its message only in its own transaction; its values."""
    return played["effect"], {"process": os.getpid()}


def kit() -> Any:
    """What is known of the kind of worker that this process plays."""
    return importlib.import_module(KIT)


def begin(row: Any) -> None:
    """Say that the work has begun. Raises what the test wants."""
    from app.core.outcomes import TransientError

    if row is None:
        raise RuntimeError("the service's session is not in the transaction of the inbox, the run or the job")
    message = row.message_id.rpartition(" ")[2]
    note(message)
    if FAILURES.exists() and started_count(message) <= int(FAILURES.read_text()):
        raise TransientError("the test wants this attempt to fail")
    if HOLD.exists():
        note(message, HELD)


def result() -> Any:
    """What the service returns."""
    return json.loads(
        os.environ.get("LAB_RESULT", "null"), object_hook=lambda found: SimpleNamespace(**found)
    )


def note(message: str, path: Path = STARTED) -> None:
    """Tell the test that this worker is in the middle of `message`; Celery's has a process for its tasks."""
    process = os.getppid() if ROLE in CELERY_ROLES else os.getpid()
    with path.open("a") as file:
        file.write(f"{process} {message}\n")


def started_count(message: str) -> int:
    """How often `message` was begun, over all processes."""
    return sum(line.split()[1] == message for line in STARTED.read_text().splitlines())


async def hold() -> None:
    """Stay in the middle for as long as the test wants."""
    while HOLD.exists():
        await asyncio.sleep(0.02)


def replace_service(calls: str, statement: Any, look: Callable[[Any], None] | None = None) -> None:
    """Put `leave_trace` in the place of the service; the call must still fit the service's signature.

    `statement` is the kit's, which writes the row, and `look` what looks at a call besides.
    """
    played.update(effect=statement, check=look)
    module_name, _, path = calls.partition(":")
    module: Any = importlib.import_module(module_name)
    owner_name, _, name = path.rpartition(".")
    if not owner_name:
        original = getattr(module, name)
        parameter = next(iter(inspect.signature(original).parameters))

        def function(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(original).bind(*args, **kwargs)
            check(bound)
            return in_place_of(original, bound.arguments[parameter])

        setattr(module, name, function)
        return
    owner = getattr(module, owner_name)
    make, original = owner.__init__, getattr(owner, name)
    sessions: dict[int, Any] = {}

    def init(self: Any, session: Any, *args: Any, **kwargs: Any) -> None:
        make(self, session, *args, **kwargs)
        sessions[id(self)] = session

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        check(inspect.signature(original).bind(self, *args, **kwargs))
        return in_place_of(original, sessions[id(self)])

    owner.__init__ = init
    setattr(owner, name, method)


def in_place_of(original: Any, session: Any) -> Any:
    """What takes the place of a service: something to await, or what is there at once."""
    if inspect.iscoroutinefunction(original):
        return leave_trace(session)
    return leave_trace_sync(session)


def check(call: inspect.BoundArguments) -> None:
    """Let the kit look at what the service was called with. Raises what it has against that."""
    if played["check"] is not None:
        played["check"](call)


async def prepare() -> None:
    """Create all tables of the project. Raises SystemExit when its session goes to another database."""
    import app.models
    from app.core.database import get_session
    from app.models.base import Base

    for module in pkgutil.walk_packages(app.models.__path__, "app.models."):
        importlib.import_module(module.name)
    async with get_session() as session:
        database = session.get_bind().engine.url.database  # asked before anything is sent to it
        if database != os.environ["LAB_DATABASE"]:
            raise SystemExit(f"sessions go to {database}, not to the test's database: see DATABASE_VARIABLE")
        connection = await session.connection()
        await connection.run_sync(Base.metadata.create_all)
        await session.execute(TABLE)


def of(module: str, name: str) -> Any:
    """Something of a module that only some projects have."""
    return getattr(importlib.import_module(module), name)


@asynccontextmanager
async def transaction(ending: str) -> AsyncIterator[AsyncSession]:
    """A transaction of the project's session helper that ends with commit or rollback."""
    from app.core.database import get_session

    with suppress(RolledBackError):
        async with get_session() as session:
            yield session
            if ending == "rollback":
                raise RolledBackError


async def enqueue(type_: str, data: str, count: int, ending: str) -> list[str]:
    """Write messages into the outbox in a transaction that ends with commit or rollback; their ids."""
    send, create_model = of("app.core.outbox", "enqueue"), of("pydantic", "create_model")
    fields: Any = {name: (Any, value) for name, value in json.loads(data).items()}
    payload = create_model("Made", **fields)()
    async with transaction(ending) as session:
        ids = [await send(session, type_, payload) for _ in range(count)]
    return [str(id_) for id_ in ids]


def desk() -> None:
    """Answer each line of the input, a function of this file or the kit with its arguments; all in JSON."""
    with asyncio.Runner() as runner:  # one loop for all: the pooled connections belong to it
        for line in sys.stdin:
            name, *values = json.loads(line)
            answer = (globals().get(name) or getattr(kit(), name))(*values)
            answer = runner.run(answer) if inspect.iscoroutine(answer) else answer
            sys.stdout.write(f"{json.dumps(answer)}\n")
            sys.stdout.flush()


def end_with_the_test_run() -> None:
    """The test run holds the other end of our input; when it is killed, so are we."""
    while os.read(0, 1):  # not sys.stdin: its lock, held at exit, would abort the interpreter
        pass
    if ROLE in CELERY_ROLES:
        os.killpg(0, signal.SIGKILL)
    os._exit(3)


def run(workers: str) -> int:
    """Run workers of the project, in this process."""
    return int(of("app.workers.run", "main")(workers.split()))


def main() -> int:
    """Do what the arguments say."""
    if ROLE == "desk":
        desk()
        return 0
    threading.Thread(target=end_with_the_test_run, daemon=True).start()
    return run(REST[0]) if ROLE == "run" else int(kit().play(ROLE, *REST))


if __name__ == "__main__":
    sys.modules["replica"] = sys.modules["__main__"]  # for the kits
    sys.exit(main())
