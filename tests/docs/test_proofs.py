"""Proofs of statements in the documents that no other test has proven."""

import asyncio
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import redis.asyncio
from aiormq.abc import DeliveredMessage
from apscheduler.schedulers.background import BackgroundScheduler
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.core import inbox
from app.core.consumer import Consumer, on
from app.core.deadline import Watch
from app.core.envelope import Envelope, Message, build
from app.core.failures import classify
from app.core.health import Health
from app.core.inbox import transactional
from app.core.outbox import enqueue
from app.core.outcomes import Dead, Done, Outcome, TransientError
from app.core.worker_settings import WorkerSettings
from docs.documents import CONSUMERS, CRON, QUEUE, ROOT
from support.scene import FAULTY, RedisScene
from support.wait import eventually
from support.workers import IMPORT_PATH

Sessions = async_sessionmaker[AsyncSession]


class Work(BaseModel):
    """Payload of the faulty consumer's messages."""

    order_id: int


@pytest.fixture
def scene(postgres_url: str, redis_url: str) -> Any:
    with RedisScene(postgres_url, redis_url) as scene:
        yield scene


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[Sessions]:
    engine = create_async_engine(postgres_url)
    yield async_sessionmaker(engine, expire_on_commit=False)
    await engine.dispose()


# -- transactions ------------------------------------------------------------------------------------------


async def test_a_commit_in_the_handler_takes_the_inbox_row_along(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a session helper like the shop's, and a service that commits and then fails
    @asynccontextmanager
    async def get_session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session, session.begin():
            yield session

    async def handle(_: Message[Work], session: AsyncSession) -> Outcome:
        await session.commit()
        raise TransientError("after the commit")

    monkeypatch.setattr(inbox, "get_session", get_session)
    envelope = Envelope(specversion="1.0", id="1", source="/docs", type="shop.work.v1", data={})
    process = transactional(handle)
    message = Message("docs", envelope, Work(order_id=1))
    with pytest.raises(TransientError):
        await process(message, 5)

    # Then the retry finds it done
    assert await process(message, 5) == Done(repeated=True)


async def test_a_consumer_that_causes_its_own_messages_never_ends(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that enqueues what its own consumer consumes
    @asynccontextmanager
    async def get_session() -> AsyncIterator[AsyncSession]:
        async with sessions.begin() as session:
            yield session

    async def handle(message: Message[Work], session: AsyncSession) -> None:
        await enqueue(session, "shop.work.v1", message.data)

    monkeypatch.setattr(inbox, "get_session", get_session)
    consumer = Consumer("loop", "shop.work", (on("shop.work.v1", Work, handle),))
    raw = build("shop.work.v1", Work(order_id=1), source="/docs", id_="1")
    for rounds in (1, 2, 3):
        assert await consumer.decide(raw, 1, Watch(), WorkerSettings()) == Done()

        # Then each message causes the next one, with an id that the inbox has never seen
        async with sessions() as session:
            bodies = (await session.scalars(text("SELECT body FROM outbox_message ORDER BY seq"))).all()
        assert len(bodies) == rounds
        raw = bodies[-1].encode()


async def test_two_keys_in_two_orders_are_a_deadlock(sessions: Sessions) -> None:
    # Given two transactions that use the same two keys, one the other way round
    both_have_one = asyncio.Barrier(2)

    async def send(*keys: str) -> None:
        async with sessions.begin() as session:
            await enqueue(session, "shop.work.v1", Work(order_id=1), key=keys[0])
            await both_have_one.wait()
            await enqueue(session, "shop.work.v1", Work(order_id=2), key=keys[1])

    results = await asyncio.gather(send("a", "b"), send("b", "a"), return_exceptions=True)

    # Then PostgreSQL ends one of them
    (error,) = [result for result in results if isinstance(result, DBAPIError)]
    assert getattr(error.orig, "sqlstate", None) == "40P01"


# -- what the documents tell people to type ----------------------------------------------------------------


def sql() -> list[str]:
    return [fence.text for fence in QUEUE.fences if fence.language == "sql"]


async def test_the_outbox_can_be_looked_at_and_sent_again(scene: RedisScene, sessions: Sessions) -> None:
    look, send_refused, send_topic = sql()
    # Given a row that Redis refuses, and a message that was sent
    scene.redis.set("shop.wrong", "not a stream")
    async with sessions.begin() as session:
        await enqueue(session, "shop.wrong.v1", Work(order_id=1))
        await enqueue(session, "shop.work.v1", Work(order_id=2))
    (row,) = await scene.sql(look)
    assert (row["waiting"], row["refused"]) == (2, 0)
    scene.worker("outbox_relay")
    await eventually(lambda: scene.redis.exists("shop.work"), 20)
    await eventually(lambda: refused(scene, look), 20)

    # When the cause is removed and the row released
    scene.redis.delete("shop.wrong")
    await scene.sql(send_refused)

    # Then it is sent
    await eventually(lambda: scene.redis.exists("shop.wrong"), 20)

    # And a stream that was deleted, which the relay does not notice, is filled again
    scene.redis.delete("shop.work")
    await scene.sql(send_topic.replace("shop.order.paid", "shop.work"))
    await eventually(lambda: scene.redis.exists("shop.work"), 20)


async def refused(scene: RedisScene, look: str) -> bool:
    (row,) = await scene.sql(look)
    return bool(row["refused"] == 1)


async def test_a_dead_letter_can_be_seen_and_replayed(scene: RedisScene) -> None:
    (fence,) = [fence for fence in CONSUMERS.fences if fence.language == "bash"]
    groups, show, replay = [shlex.split(line) for line in fence.text.splitlines()]
    environment = {**os.environ, **scene.environment(), "DATABASE_URL": scene.postgres_url}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, (FAULTY, *IMPORT_PATH))), "FAULTY_BROKER": "redis"}

    def run(command: list[str], **words: str) -> str:
        known = {"python": sys.executable, "order_paid": "faulty", **words}
        line = [known.get(word, word) for word in command]
        result = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout

    # Given a message about an order that is not there yet
    (order,) = await scene.orders(1)
    raw = scene.event(order + 1) + b" "
    scene.send_raw(raw)
    scene.worker()
    await eventually(lambda: len(scene.dead()) == 1, 20)
    ((id_, _),) = scene.redis.xrange("{shop.work}:dead:faulty")
    assert "NotFoundError" in run(groups)
    assert str(order + 1) in run(show, **{show[-1]: id_.decode()})

    # When the cause is mended and the letter replayed
    assert await scene.orders(1) == [order + 1]
    run(replay, **{"503": "NotFoundError"})

    # Then it is done, as it was
    await scene.until_processed([order + 1])
    assert scene.dead() == []
    assert scene.redis.xrevrange("shop.work", count=1)[0][1] == {b"event": raw}


async def test_the_runs_of_cron_jobs_can_be_looked_at(sessions: Sessions) -> None:
    (look,) = [fence.text for fence in CRON.fences if fence.language == "sql"]
    run = text(
        "INSERT INTO cron_run (job, due_at, trigger, state, next_try_at, deadline_at)"
        " VALUES ('report', now() - :ago * interval '1 h', 'schedule', :state, now(), now())"
    )
    async with sessions.begin() as session:
        for ago, state in enumerate(("failed", "succeeded", "skipped")):
            await session.execute(run, {"ago": ago, "state": state})
        (row,) = await session.execute(text(look))
        now = (await session.execute(text("SELECT now()"))).scalar_one()
    assert (row.job, row.failed, (now - row.succeeded).total_seconds()) == ("report", 1, 3600)


def test_apscheduler_drops_what_is_a_second_late() -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    assert scheduler.add_job(print, "interval", hours=1).misfire_grace_time == 1
    scheduler.shutdown()


async def test_aio_pika_takes_what_goes_nowhere_for_a_success(rabbit_url: str) -> None:
    # Given a message for a queue that is not there, by aio-pika's defaults
    message = aio_pika.Message(b"x")
    async with await aio_pika.connect(rabbit_url) as connection, await connection.channel() as channel:
        # Then it comes back as the result of a call that went well, and would not have been kept on disk
        result = await channel.default_exchange.publish(message, "nowhere")
    assert isinstance(result, DeliveredMessage)
    assert message.delivery_mode == aio_pika.DeliveryMode.NOT_PERSISTENT


# -- what goes wrong ---------------------------------------------------------------------------------------


def python(code: str, *path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_service_that_imports_its_consumer_is_a_circle(tmp_path: Path) -> None:
    # Given the shop, whose service takes the payload from the consumer that calls it
    shop = tmp_path / "shop"
    shutil.copytree(ROOT / "examples" / "shop", shop)
    service = shop / "app" / "services" / "orders.py"
    service.write_text(f"from app.consumers.order_paid import OrderPaid as OrderPaid\n{service.read_text()}")

    result = python("import app.services.orders", shop, ROOT / "templates")

    assert "circular import" in result.stderr
    # And a route may do so
    route = python(
        "import app.consumers.order_paid, app.main", ROOT / "examples" / "shop", ROOT / "templates"
    )
    assert route.returncode == 0, route.stderr


async def never(_: Message[Work], __: AsyncSession) -> Outcome:
    raise AssertionError


async def test_a_consumer_buries_versions_that_it_does_not_route() -> None:
    consumer = Consumer("second", "shop.work", (on("shop.work.v2", Work, never),))
    raw = build("shop.work.v1", Work(order_id=1), source="/docs", id_="1")

    outcome = await consumer.decide(raw, 1, Watch(), WorkerSettings())

    assert isinstance(outcome, Dead)
    assert "unknown version v1" in outcome.reason


async def test_one_crash_buries_a_message_that_has_one_delivery() -> None:
    consumer = Consumer("any", "shop.work", (on("shop.work.v1", Work, never),))
    settings = WorkerSettings(worker_max_deliveries=1)

    assert isinstance(await consumer.decide(b"", 2, Watch(), settings), Dead)


def test_an_error_without_its_cause_carries_no_status() -> None:
    class ProjectError(Exception):
        pass

    class ClientError(Exception):
        status_code = 503

    def outcome(*, chained: bool) -> Outcome:
        try:
            try:
                raise ClientError
            except ClientError as error:
                raise ProjectError("mail") from (error if chained else None)
        except ProjectError as error:
            return classify(error)

    assert not isinstance(outcome(chained=True), Dead)
    assert isinstance(outcome(chained=False), Dead)


def test_two_workers_need_two_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code = "from app.workers.run import main; raise SystemExit(main(['order_paid']))"
        nowhere = {"REDIS_URL": "redis://127.0.0.1:1"}
        result = python(code, *IMPORT_PATH, WORKER_HEALTH_PORT=port, **nowhere)

    assert result.returncode == 1
    assert "Address already in use" in result.stderr


def test_a_default_port_that_is_taken_means_no_probes(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        default = {"worker_health_port": taken.getsockname()[1]}
        settings = WorkerSettings().model_copy(update=default)
        settings.__pydantic_fields_set__.discard("worker_health_port")
        health = Health(settings, list)
        health.start()
        health.stop()

    assert "no probes: WORKER_HEALTH_PORT=" in caplog.text


@pytest.mark.parametrize(("base", "extra"), [(BaseSettings, "ignore"), (WorkerSettings, "forbid")])
def test_settings_in_a_dotenv_file_are_extra_inputs_to_a_strict_project(
    base: type[BaseSettings], extra: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given settings of the workers in the project's .env file
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("OUTBOX_SOURCE=/shop\n")

    class Strict(BaseSettings):
        model_config = SettingsConfigDict(env_file=".env")

    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Strict()

    # Then each of the two ways out helps
    class Mended(base):  # type: ignore[misc,valid-type]  # a class from a parameter
        model_config = SettingsConfigDict(env_file=".env", extra=extra)

    Mended()


def test_a_shell_in_front_keeps_the_signal() -> None:
    # Given a command in shell form, with something after it
    script = f"{sys.executable} -c 'import time; print(1, flush=True); time.sleep(30)'; true"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"1\n"
        # When the shell is told to stop
        shell.terminate()
        shell.wait(10)
        # Then what it ran goes on
        os.killpg(shell.pid, 0)
        os.killpg(shell.pid, signal.SIGKILL)


def test_defaults_of_redis_py_are_what_the_documents_say() -> None:
    by_host = redis.asyncio.Redis(host="127.0.0.1")
    by_url = redis.asyncio.Redis.from_url("redis://127.0.0.1")
    pool: Any = by_url.connection_pool
    connection = pool.make_connection()

    assert by_host.get_retry()._retries == 10  # type: ignore[union-attr]
    assert connection.retry._retries == 0
    assert connection.socket_timeout == 5


def test_ids_are_known_by_their_source_too() -> None:
    envelope = Envelope(specversion="1.0", id="1", source="/a", type="t.v1", data={})
    ours, theirs = (Message(name, envelope, Work(order_id=1)) for name in ("one", "two"))

    assert ours.message_id == "/a 1"
    assert ours.idempotency_key != theirs.idempotency_key
    assert uuid.UUID(ours.idempotency_key)
