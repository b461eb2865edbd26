"""The process that plays a worker in the tests: all of it is the project's code but the one service method,
which is replaced by one that leaves a trace in the same transaction. So the domain needs no data.

    python replica.py consume order_paid MODULE:METHOD       run the consumer
    python replica.py cron sales_report MODULE:METHOD        run the scheduler with this job, every second
    python replica.py task invoice_email MODULE:METHOD       run a Celery worker with this plain task
    python replica.py job process_payment MODULE:METHOD      run a Celery worker with this tracked one
    python replica.py llm summarise_document MODULE:METHOD METHOD   run the worker of LLM jobs with this one
    python replica.py batch summarise_overnight MODULE:METHOD METHOD   the same for one asked in batches
    python replica.py webhooks                               run the sender of webhooks
    python replica.py relay                                  run the outbox relay
    python replica.py run job_dispatcher                     run another worker, as it is
    python replica.py desk                                   do what the lines on stdin say, answer in JSON
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
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

LAB = Path(os.environ["LAB_FOLDER"])
HOLD, FAILURES, STARTED, HELD = LAB / "hold", LAB / "failures", LAB / "started", LAB / "held"

TABLE = text("CREATE TABLE IF NOT EXISTS worker_lab_effect (message_id text NOT NULL, process int NOT NULL)")
# xmin is the transaction that wrote a row: the effect finds its message only in the inbox row of its own one.
EFFECT = text(
    """
    INSERT INTO worker_lab_effect (message_id, process)
    SELECT message_id, :process FROM inbox_message
    WHERE CAST(CAST(xmin AS text) AS bigint) = txid_current() % 4294967296
    RETURNING message_id
    """
)
# The transaction of a cron job's run is known by a name that app.core.cron_attempt gives it.
EFFECT_OF_TICK = text(
    """
    INSERT INTO worker_lab_effect (message_id, process)
    SELECT split_part(name, ' ', 2), :process FROM current_setting('application_name') AS name
    WHERE starts_with(name, 'cron_run ')
    RETURNING message_id
    """
)

# That of a job's attempt by one that app.core.job_attempt gives it.
EFFECT_OF_JOB = text(
    """
    INSERT INTO worker_lab_effect (message_id, process)
    SELECT split_part(name, ' ', 2), :process FROM current_setting('application_name') AS name
    WHERE starts_with(name, 'job ')
    RETURNING message_id
    """
)
EFFECTS = {
    "cron": EFFECT_OF_TICK,
    "job": EFFECT_OF_JOB,
    "llm": EFFECT_OF_JOB,
    "batch": EFFECT_OF_JOB,
}
LLM_ROLES = ("llm", "batch")
CELERY_ROLES = ("task", "job")
OWNER = "worker lab"

WORKERS = {
    "relay": "outbox_relay",
    "cron": "scheduler",
    "llm": "llm_jobs",
    "batch": "llm_jobs llm_batches",
    "webhooks": "webhooks",
}
FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "someone@example.com",
    "uri": "https://example.com/",
}


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
    """The statement that writes the row, and its values."""
    return EFFECTS.get(sys.argv[1], EFFECT), {"process": os.getpid()}


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
    process = os.getppid() if sys.argv[1] in CELERY_ROLES else os.getpid()
    with path.open("a") as file:
        file.write(f"{process} {message}\n")


def started_count(message: str) -> int:
    """How often `message` was begun, over all processes."""
    return sum(line.split()[1] == message for line in STARTED.read_text().splitlines())


async def hold() -> None:
    """Stay in the middle for as long as the test wants."""
    while HOLD.exists():
        await asyncio.sleep(0.02)


def replace_service(calls: str) -> None:
    """Put `leave_trace` in the place of the service; the call must still fit the service's signature."""
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
    """An LLM job passes on what the model has answered."""
    if sys.argv[1] in LLM_ROLES and os.environ["LAB_ANSWER"] not in call.arguments.values():
        raise RuntimeError("the service was not given the model's answer")


def replace_prompt(calls: str, name: str) -> None:
    """Let the method that says what a model is asked need no data; the call must still fit its signature."""
    module_name, _, path = calls.partition(":")
    owner: Any = importlib.import_module(module_name)
    if "." in path:
        owner = getattr(owner, path.rpartition(".")[0])
    original = getattr(owner, name)

    async def prompt(*args: Any, **kwargs: Any) -> str:
        inspect.signature(original).bind(*args, **kwargs)
        return "A question"

    setattr(owner, name, prompt)


def tick_every_second(name: str) -> None:
    """Let the scheduler have the one job, due every second; each tick must be run, at once."""
    every = of("app.core.interval", "Every")
    scheduler: Any = importlib.import_module("app.workers.scheduler")
    jobs, second, hour = scheduler.collect(), timedelta(seconds=1), timedelta(hours=1)
    policies: Any = {"overlap": "wait", "catch_up": "all", "within": hour, "deadline": hour}
    policies |= {"jitter": timedelta(), "attempts": None}
    job = next(job for job in jobs if job.name == name)
    scheduler.collect = lambda: [replace(job, schedule=every(second), **policies)]


def next_due_at(name: str) -> list[str]:
    """When the job is due next, as it is defined; all jobs of the project must make sense."""
    job = next(job for job in of("app.core.cron_jobs", "collect")() if job.name == name)
    times = islice(job.schedule.after(datetime.now(UTC)), 3)
    return [due.astimezone(job.schedule.zone).isoformat() for due in times]


def hold_relay() -> None:
    """Let the relay stop between the broker's confirmation and its own note of it."""
    outbox_relay: Any = importlib.import_module("app.workers.outbox_relay")
    make = outbox_relay.worker

    def worker() -> Any:
        relay: Any = make()
        publish = relay.broker.publish

        async def published(messages: Any) -> Any:
            results = await publish(messages)
            for message in messages:
                note(json.loads(message.body)["id"])
            await hold()
            return results

        relay.broker.publish = published
        return relay

    outbox_relay.worker = worker


def try_again_soon() -> None:
    """Let the sender of webhooks not wait for long before it tries again."""
    sender: Any = importlib.import_module("app.core.webhooks")
    sender.SCHEDULE = (0.2,) * len(sender.SCHEDULE)


async def add_endpoint(owner: str, url: str) -> tuple[str, str]:
    """Have an owner's webhooks sent to a URL; the endpoint's id, and its secret."""
    endpoint, secret = await of("app.core.webhook_endpoints", "add")(owner, url)
    return str(endpoint.id), secret.get_secret_value()


async def announce(owner: str, ending: str) -> list[str]:
    """Announce something in a transaction that ends with commit or rollback; the ids of the webhooks."""
    with suppress(RolledBackError):
        async with of("app.core.database", "get_session")() as session:
            await of("app.core.webhooks", "announce")(session, owner=owner, type="lab.test", data={"n": 1})
            found = await session.execute(
                text(
                    "SELECT payload->>'message_id' FROM job WHERE owner = :owner "
                    "AND xmin::text::bigint = txid_current() % 4294967296"
                ),
                {"owner": owner},
            )
            ids = [str(id_) for id_ in found.scalars()]
            if ending == "rollback":
                raise RolledBackError
    return ids


async def receive(webhooks: list[list[str]], ending: str) -> list[int]:
    """Give the API's router signed webhooks, all at once, each an id and a signature that is good or bad;
    the status of each. What it stores leaves a trace, in a transaction that ends as `ending` says.
    """
    from fastapi import FastAPI

    answers: Any = importlib.import_module("app.api.worker_answers")
    sign: Any = importlib.import_module("app.core.webhook_sign")
    keys = [sign.new_secret(), sign.new_secret()]

    async def store(session: Any, webhook: Any) -> None:
        insert = text("INSERT INTO worker_lab_effect (message_id, process) VALUES (:id, 0)")
        await session.execute(insert, {"id": webhook.id})
        if ending == "rollback":
            raise RuntimeError("the test wants this to fail")

    api = FastAPI()
    api.add_exception_handler(answers.Problem, answers.answer_problem)
    api.include_router(of("app.api.webhook_in", "webhook_in_router")("lab", lambda: keys[:1], store))
    body = b'{ "n": 1}'

    async def give(id_: str, signature: str) -> int:
        key = keys[0] if signature == "good" else keys[1]
        headers = sign.signed(id_, body, [key], datetime.now(UTC))
        return await post(api, "/webhooks/lab", headers, body)

    return await asyncio.gather(*(give(id_, signature) for id_, signature in webhooks))


async def post(app: Any, path: str, headers: dict[str, str], body: bytes) -> int:
    """The status that an application answers a POST with."""
    asked = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return asked.pop() if asked else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("lab", 80),
    }
    with suppress(RuntimeError):  # what the test wanted: it is answered, and raised for the server's log
        await app(scope, receive, send)
    return statuses[0]


def run_celery(name: str) -> int:
    """Run a Celery worker that has one task at a time, and no other kind of task than this one."""
    celery_app = of("app.core.celery_app", "celery_app")
    needed = ["app.core.celery_letters", *(["app.tasks.jobs"] if sys.argv[1] == "job" else [])]
    celery_app.conf.include = [*needed, f"app.tasks.{name}"]
    options = ["--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    celery_app.worker_main(["worker", *options, "--hostname", f"{os.getpid()}@%h"])
    return 0


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


def describe(name: str) -> dict[str, Any]:
    """What the consumer's own definition says: name, topic, type, a payload that fits, and its queue."""
    module = importlib.import_module(f"app.consumers.{name}")
    consumer = module.consumer
    type_, model = consumer.routes[0].name, consumer.routes[0].payload
    schema = model.model_json_schema()
    payload = sample(schema, schema.get("$defs", {}))
    return {
        "name": consumer.name,
        "topic": consumer.topic,
        "type": type_,
        "payload": payload,
        "required": schema.get("required", []),
        **queue_of(module.worker()),
    }


def describe_task(name: str, folder: str = "app.tasks") -> dict[str, Any]:
    """What the definition of a task or job says: type and a payload that fits."""
    module: Any = importlib.import_module(f"{folder}.{name}")
    plain = getattr(module, "consumer", None)
    kind = getattr(module, name) if plain is None else plain.routes[0]
    schema = kind.payload.model_json_schema()
    payload, required = sample(schema, schema.get("$defs", {})), schema.get("required", [])
    task = "jobs.run" if plain is None else plain.topic
    return {"task": task, "type": kind.name, "payload": payload, "required": required}


def of(module: str, name: str) -> Any:
    """Something of a module that only some projects have."""
    return getattr(importlib.import_module(module), name)


def send_task(name: str, argument: str, id_: str) -> None:
    """Put a task into Celery's broker."""
    of("app.core.celery_broker", "put")(name, [argument], task_id=id_)


def count_tasks() -> list[int]:
    """How many tasks are in the queues, and how many in the hands of workers; RabbitMQ tells only of those in
    queues.
    """
    settings = of("app.core.celery_settings", "celery_settings")()
    with celery_channel() as channel:
        if settings.uses_redis:  # where kombu looks for a queue without the prefix of its keys
            waiting = sum(channel._size(queue) for queue in settings.queues)
            return [waiting, channel.client.hlen(channel.unacked_key)]
        declared = [channel.queue_declare(queue, passive=True) for queue in settings.queues]
        return [sum(queue.message_count for queue in declared), 0]


def clear_tasks() -> None:
    """Delete the queues, and on Redis all that has their prefix."""
    settings = of("app.core.celery_settings", "celery_settings")()
    with celery_channel() as channel:
        if not settings.uses_redis:
            for queue in settings.queues:
                channel.queue_delete(queue)
            return
        for key in channel.client.scan_iter(f"{settings.celery_key_prefix}*"):
            channel.client.unlink(key)  # to what `delete` is given kombu would add the prefix


@contextmanager
def celery_channel() -> Iterator[Any]:
    """A channel to Celery's broker."""
    celery_app = of("app.core.celery_app", "celery_app")
    with celery_app.connection_for_write() as connection:
        yield connection.default_channel


async def submit(name: str, ending: str, data: str, folder: str = "app.tasks") -> str:
    """Submit a job in a transaction that ends with commit or rollback; its id."""
    from app.core.database import get_session

    add, kind = of("app.core.job", "submit"), of(f"{folder}.{name}", name)
    with suppress(RolledBackError):
        async with get_session() as session:
            job = await add(session, kind, kind.payload.model_validate_json(data), owner=OWNER)
            if ending == "rollback":
                raise RolledBackError
    return str(job.id)


async def cancel(job: str) -> None:
    """Cancel a job."""
    await of("app.core.job_manage", "cancel")(uuid.UUID(job), OWNER)


def queue_of(worker: Any) -> dict[str, str]:
    """Where a consumer of RabbitMQ gets its messages; nothing for others."""
    queue = getattr(getattr(worker, "queue", None), "queue", None)
    if queue is None:
        return {}
    return {"queue": queue.name, "exchange": queue.exchange, "dead": queue.dead}


async def database() -> str:
    """How the relay names its database to the broker."""
    return str(await of("app.core.relay", "database_name")())


def sample(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    """A value that fits a JSON schema as pydantic writes it."""
    if "$ref" in schema:
        return sample(known[schema["$ref"].rpartition("/")[2]], known)
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return sample(choices[0], known)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values:
        return values[0]
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        return {name: sample(properties[name], known) for name in schema.get("required", properties)}
    if schema.get("type") == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})] * schema.get("minItems", 1)
        return [sample(item, known) for item in items]
    return plain_sample(schema)


def plain_sample(schema: dict[str, Any]) -> Any:
    """A value without parts. Texts are of the format and the length that the schema asks for."""
    match schema.get("type"):
        case "integer" | "number":
            return max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            name = str(schema.get("title", "text")).lower().replace(" ", "-")
            fitting = name.ljust(schema.get("minLength", 0), "-")[: schema.get("maxLength")]
            return FORMATS.get(schema.get("format", ""), fitting)


async def enqueue(type_: str, data: str, count: int, ending: str) -> list[str]:
    """Write messages into the outbox in a transaction that ends with commit or rollback; their ids."""
    from app.core.database import get_session

    send, create_model = of("app.core.outbox", "enqueue"), of("pydantic", "create_model")
    fields: Any = {name: (Any, value) for name, value in json.loads(data).items()}
    payload = create_model("Made", **fields)()
    ids: list[str] = []
    with suppress(RolledBackError):
        async with get_session() as session:
            for _ in range(count):
                id_ = await send(session, type_, payload)
                ids += [str(id_)]
            if ending == "rollback":
                raise RolledBackError
    return ids


def desk() -> None:
    """Answer each line of the input, a function of this file and its arguments, with a line; all in JSON."""
    with asyncio.Runner() as runner:  # one loop for all: the pooled connections belong to it
        for line in sys.stdin:
            name, *values = json.loads(line)
            answer = globals()[name](*values)
            answer = runner.run(answer) if inspect.iscoroutine(answer) else answer
            sys.stdout.write(f"{json.dumps(answer)}\n")
            sys.stdout.flush()


def end_with_the_test_run() -> None:
    """The test run holds the other end of our input; when it is killed, so are we."""
    while os.read(0, 1):  # not sys.stdin: its lock, held at exit, would abort the interpreter
        pass
    if sys.argv[1] in CELERY_ROLES:
        os.killpg(0, signal.SIGKILL)
    os._exit(3)


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    role, *rest = arguments
    if role == "desk":
        desk()
        return 0
    threading.Thread(target=end_with_the_test_run, daemon=True).start()
    if role == "relay":
        hold_relay()
    elif role == "webhooks":
        try_again_soon()
    elif role != "run":
        replace_service(rest[1])
    if role in LLM_ROLES:
        replace_prompt(rest[1], rest[2])
    if role in CELERY_ROLES:
        return run_celery(rest[0])
    if role == "cron":
        tick_every_second(rest[0])
    from app.workers.run import main as run

    return run((WORKERS.get(role) or rest[0]).split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
