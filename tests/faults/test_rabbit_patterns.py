"""Publish/subscribe, request/reply and priority over RabbitMQ."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aio_pika
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr

from app.core.rabbit_rpc import (
    AlreadyDoneError,
    BrokerDownError,
    NoReplyError,
    RequestFailedError,
    RpcClient,
    TryAgainError,
    UnroutableError,
)
from app.core.rabbit_topology import Queue
from app.core.worker_settings import WorkerSettings
from support.ledger import Ledger
from support.ports import free_port
from support.scene import RabbitScene
from support.servers import PostgresServer, RabbitServer
from support.wait import eventually
from support.workers import WorkerProcess


@pytest.fixture
def scene(postgres_url: str, rabbit: RabbitServer) -> Iterator[RabbitScene]:
    """A scene on the RabbitMQ that all tests share; its consumer is the faulty server of requests."""
    with RabbitScene(postgres_url, rabbit, group="faulty_rpc", topic="rpc.work") as scene:
        yield scene


# -- publish/subscribe ---------------------------------------------------------------------------------------


def subscriber(scene: RabbitScene, name: str, **settings: str) -> WorkerProcess:
    """A subscriber with an empty queue of its own."""
    worker = scene.worker("subscriber", SUBSCRIBER_NAME=name, **settings)
    return worker.wait_ready()


def announce(scene: RabbitScene, topic: str, orders: list[int], exchange: str = "events") -> None:
    """Publish an event of the type `topic` for each order."""
    bodies = [scene.event(order, type_=f"{topic}.v1", payment_reference="x") for order in orders]
    scene.amqp.publish(exchange, topic, bodies)


async def account(scene: RabbitScene, title: str, name: str, orders: list[int]) -> None:
    """Each of `orders` has exactly one note of the subscriber `name`."""

    async def all_there() -> bool:
        return set(orders) <= set(await scene.effects(name))

    await eventually(all_there, 60, f"{name} got {len(orders)} messages")
    effects = await scene.effects(name)
    Ledger.of(f"{title}: {name}", attempted=orders, accepted=orders, effects=effects).assert_clean()


async def test_each_subscriber_gets_each_message(scene: RabbitScene) -> None:
    # Given two subscribers of all that happens to orders, one of them with two replicas
    scene.amqp.delete("mailer", "stock")
    subscriber(scene, "mailer")
    stock = [subscriber(scene, "stock"), subscriber(scene, "stock")]
    paid, shipped, later = await scene.orders(100), await scene.orders(100), await scene.orders(100)
    # When messages of several types are published, and one subscriber is down for some of them
    announce(scene, "shop.order.paid", paid)
    announce(scene, "shop.order.shipped", shipped)
    await account(scene, "publish/subscribe", "stock", paid + shipped)
    assert [worker.sigterm() for worker in stock] == [0, 0]
    announce(scene, "shop.order.paid", later)
    await account(scene, "publish/subscribe", "mailer", paid + shipped + later)
    # Then it gets its own when it is back
    assert set(await scene.effects("stock")).isdisjoint(later)
    subscriber(scene, "stock")
    await account(scene, "publish/subscribe, after being down", "stock", paid + shipped + later)


async def test_a_pattern_takes_what_it_says(scene: RabbitScene) -> None:
    # Given one subscriber of one word after `shop.order`, and one of any number
    scene.amqp.delete("one_word", "any_words")
    subscriber(scene, "one_word", SUBSCRIBER_BINDING="shop.order.*")
    subscriber(scene, "any_words", SUBSCRIBER_BINDING="shop.order.#")
    paid, added = await scene.orders(5), await scene.orders(5)
    announce(scene, "shop.order.item.added", added)
    announce(scene, "shop.order.paid", paid)
    await account(scene, "pattern shop.order.#", "any_words", paid + added)
    await account(scene, "pattern shop.order.*", "one_word", paid)


async def test_a_fanout_exchange_reaches_all(scene: RabbitScene) -> None:
    # Given two subscribers of a fanout exchange
    scene.amqp.delete("first", "second")
    settings = {"SUBSCRIBER_EXCHANGE": "news", "SUBSCRIBER_EXCHANGE_TYPE": "fanout", "SUBSCRIBER_BINDING": ""}
    for name in ("first", "second"):
        subscriber(scene, name, **settings)
    orders = await scene.orders(20)
    # When somebody publishes to it, with whatever key
    connection = await aio_pika.connect(scene.server.url)
    async with connection:
        exchange = await (await connection.channel()).get_exchange("news")
        for order in orders:
            body = scene.event(order, type_="shop.news.v1")
            await exchange.publish(aio_pika.Message(body, delivery_mode=2), f"any.{order}")
    # Then both get all of it
    for name in ("first", "second"):
        await account(scene, "fanout", name, orders)


async def test_the_template_of_a_subscriber(scene: RabbitScene) -> None:
    scene.amqp.delete("order_watch", "order_watch.dead")
    scene.worker("order_watch").wait_ready()
    paid, shipped, cancelled = await scene.orders(3), await scene.orders(3), await scene.orders(3)
    announce(scene, "shop.order.cancelled", cancelled)
    announce(scene, "shop.order.paid", paid)
    announce(scene, "shop.order.shipped", shipped)
    await scene.until_processed(paid + shipped)
    assert sorted(await scene.effects()) == sorted(paid + shipped)
    # A type that it neither handles nor skips is kept for a person to see
    announce(scene, "shop.order.returned", [1])
    await eventually(lambda: scene.amqp.ready("order_watch.dead") == 1, 20)


# -- request/reply -------------------------------------------------------------------------------------------


class Ask(BaseModel):
    """Payload of a request to the faulty server."""

    order_id: int
    do: str = "process"
    seconds: float = 0


class Told(BaseModel):
    """Payload of its reply."""

    order_id: int


def client(url: str) -> RpcClient:
    """A client of a RabbitMQ of the test's."""
    return RpcClient(WorkerSettings(rabbitmq_url=SecretStr(url), outbox_source="/tests"))


@pytest.fixture
async def rpc(scene: RabbitScene) -> AsyncIterator[RpcClient]:
    """A client of the scene's RabbitMQ."""
    async with client(scene.server.url) as rpc:
        yield rpc


@pytest.fixture
def server(scene: RabbitScene) -> WorkerProcess:
    """The faulty server of requests."""
    return scene.worker("faulty_rpc").wait_ready()


async def test_many_calls_at_once(scene: RabbitScene, rpc: RpcClient, server: WorkerProcess) -> None:
    # Given two replicas
    scene.worker("faulty_rpc").wait_ready()
    orders = await scene.orders(300)
    # When 300 calls are made at once
    told = await asyncio.gather(*(rpc.call("rpc.work.v1", Ask(order_id=o), Told, timeout=60) for o in orders))
    # Then each gets its own reply, and what it replies to is committed
    assert [reply.order_id for reply in told] == orders
    effects = await scene.effects()
    Ledger.of("300 calls at once", attempted=orders, accepted=orders, effects=effects).assert_clean()


async def test_a_reply_comes_after_the_commit(
    scene: RabbitScene, rpc: RpcClient, server: WorkerProcess
) -> None:
    for order in await scene.orders(20):
        await rpc.call("rpc.work.v1", Ask(order_id=order), Told)
        assert order in await scene.effects()


async def test_the_template_of_a_server(postgres_url: str, rabbit: RabbitServer) -> None:
    class CancelOrder(BaseModel):
        order_id: int
        reason: str = "late"

    class OrderCancelled(BaseModel):
        order_id: int
        status: str

    with RabbitScene(postgres_url, rabbit, group="order_cancel", topic="rpc.order.cancel") as scene:
        scene.worker("order_cancel").wait_ready()
        order, processed = await scene.orders(2)
        await scene.sql("UPDATE customer_order SET status = 'processed' WHERE id = $1", processed)
        async with client(rabbit.url) as rpc:
            type_ = "rpc.order.cancel.v1"
            done = await rpc.call(type_, CancelOrder(order_id=order), OrderCancelled)
            assert done == OrderCancelled(order_id=order, status="cancelled")
            # What the service refuses is an error of the caller's
            with pytest.raises(RequestFailedError, match=f"order {processed} is processed") as refused:
                await rpc.call(type_, CancelOrder(order_id=processed), OrderCancelled)
            assert refused.value.error == "ConflictError"
        assert await scene.effects("cancelled") == [order]
        assert scene.dead() == []


@pytest.mark.parametrize("do", ["bug", "large"])
async def test_an_error_becomes_an_error_reply(
    scene: RabbitScene, rpc: RpcClient, server: WorkerProcess, do: str
) -> None:
    (order,) = await scene.orders(1)
    with pytest.raises(RequestFailedError, match=r"a bug|the reply has 300") as failed:
        await rpc.call("rpc.work.v1", Ask(order_id=order, do=do), Told)
    assert failed.value.error == {"bug": "KeyError", "large": "TooLarge"}[do]
    assert await scene.effects() == ([] if do == "bug" else [order])
    assert scene.dead() == []


async def test_what_may_pass_is_asked_again(
    scene: RabbitScene, rpc: RpcClient, server: WorkerProcess
) -> None:
    # Given a request that failed on something that may pass
    (order,) = await scene.orders(1)
    request = uuid.uuid4()
    with pytest.raises(TryAgainError, match="not yet"):
        await rpc.call("rpc.work.v1", Ask(order_id=order, do="flap"), Told, request_id=request)
    assert await scene.effects() == []
    # Then it has changed nothing, and can be asked again
    told = await rpc.call("rpc.work.v1", Ask(order_id=order, do="flap"), Told, request_id=request)
    assert told.order_id == order
    assert await scene.effects() == [order]


async def test_a_request_that_is_none(scene: RabbitScene, rpc: RpcClient, server: WorkerProcess) -> None:
    # Given a payload that the server does not understand
    class Wrong(BaseModel):
        order: str = "?"

    with pytest.raises(RequestFailedError, match="order_id: Field required"):
        await rpc.call("rpc.work.v1", Wrong(), Told)
    # And messages with no place for a reply, or with the queue of a consumer as one
    (order,) = await scene.orders(1)
    for replyto in ({}, {"replyto": "faulty_rpc"}, {"replyto": "mailer"}):
        event = json.loads(scene.event(order, type_="rpc.work.v1"))
        scene.send_raw(json.dumps(event | replyto).encode())
    # Then they are kept with the reason, and nothing is done and nothing written anywhere
    await eventually(lambda: len(scene.dead()) == 4, 20)
    assert sum("no queue for replies" in letter.reason for letter in scene.dead()) == 3
    assert await scene.effects() == []
    assert await asyncio.to_thread(scene.left) == 0


async def test_no_server_at_all(rpc: RpcClient) -> None:
    with pytest.raises(UnroutableError, match=r"rpc\.nobody"):
        await rpc.call("rpc.nobody.v1", Ask(order_id=1), Told)


async def test_a_late_reply_is_dropped(
    scene: RabbitScene, rpc: RpcClient, server: WorkerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a caller that waits for a second, and a handler that takes longer
    (order,) = await scene.orders(1)
    request = uuid.uuid4()
    began = time.monotonic()
    with pytest.raises(NoReplyError, match="no reply within 1 s"):
        await rpc.call("rpc.work.v1", Ask(order_id=order, do="wait"), Told, timeout=1, request_id=request)
    assert time.monotonic() - began < 2
    # When the handler is done
    with caplog.at_level("DEBUG", "app.core.rabbit_rpc"):
        scene.release()
        await eventually(lambda: "nobody waits for it" in caplog.text, 10)
    # Then the work is done once, however often it is asked for, and the caller is told so
    for _ in range(2):
        with pytest.raises(AlreadyDoneError):
            await rpc.call("rpc.work.v1", Ask(order_id=order), Told, request_id=request)
    effects = await scene.effects()
    Ledger.of("a late reply", attempted=[order], accepted=[order], effects=effects).assert_clean()


async def test_the_reply_of_an_earlier_call_serves_the_next(
    scene: RabbitScene, rpc: RpcClient, server: WorkerProcess
) -> None:
    # Given a request at work whose caller has given up and asks again with the same id
    (order,) = await scene.orders(1)
    request = uuid.uuid4()
    with pytest.raises(NoReplyError):
        await rpc.call("rpc.work.v1", Ask(order_id=order, do="wait"), Told, timeout=1, request_id=request)
    again = asyncio.ensure_future(
        rpc.call("rpc.work.v1", Ask(order_id=order), Told, timeout=20, request_id=request)
    )
    await eventually(lambda: scene.amqp.ready(scene.queue.name) == 0, 10)
    # When the first is done, its reply is the second's
    scene.release()
    assert (await again).order_id == order
    assert await scene.effects() == [order]


async def test_a_request_that_expired_is_not_done(scene: RabbitScene, rpc: RpcClient) -> None:
    # Given requests that wait for a server longer than their callers do
    orders = await scene.orders(20)
    scene.amqp.prepare(scene.queue)
    calls = [rpc.call("rpc.work.v1", Ask(order_id=order), Told, timeout=1) for order in orders]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {NoReplyError}
    assert scene.amqp.ready(scene.queue.name) == 20
    # When a server comes
    worker = scene.worker("faulty_rpc").wait_ready()
    await eventually(lambda: worker.log_text().count("came too late") == 20, 20)
    # Then none of them is done, and none kept
    assert scene.starts() == []
    assert await asyncio.to_thread(scene.left) == 0
    assert scene.dead() == []


async def test_a_caller_that_is_gone(scene: RabbitScene, server: WorkerProcess, rpc: RpcClient) -> None:
    # Given a caller that goes away while its request is done
    orders = await scene.orders(2)
    async with client(scene.server.url) as gone:
        calling = asyncio.ensure_future(gone.call("rpc.work.v1", Ask(order_id=orders[0], do="wait"), Told))
        await eventually(lambda: len(scene.starts()) == 1, 10)
        calling.cancel()
        await asyncio.wait([calling])
    scene.release()
    # Then the work is done, and the server goes on without a word about the reply
    await scene.until_processed(orders[:1])
    assert (await rpc.call("rpc.work.v1", Ask(order_id=orders[1]), Told)).order_id == orders[1]
    await eventually(lambda: scene.left() == 0, 20)
    assert "WARNING" not in server.log_text()
    assert "ERROR" not in server.log_text()
    effects = await scene.effects()
    Ledger.of("a caller that is gone", attempted=orders, accepted=orders, effects=effects).assert_clean()


async def test_a_closed_client_fails_its_calls(scene: RabbitScene, server: WorkerProcess) -> None:
    (order,) = await scene.orders(1)
    rpc = client(scene.server.url)
    calling = asyncio.ensure_future(rpc.call("rpc.work.v1", Ask(order_id=order, do="wait"), Told))
    await eventually(lambda: len(scene.starts()) == 1, 10)
    await rpc.close()
    with pytest.raises(BrokerDownError, match="the client was closed"):
        await calling


async def test_killed_between_commit_and_reply(
    scene: RabbitScene, rpc: RpcClient, server: WorkerProcess
) -> None:
    # Given a server that dies when it has committed
    (order,) = await scene.orders(1)
    request = uuid.uuid4()
    (scene.folder / "die").touch()
    calling = asyncio.ensure_future(
        rpc.call("rpc.work.v1", Ask(order_id=order), Told, timeout=60, request_id=request)
    )
    assert await asyncio.to_thread(server.wait, 30) == -9
    assert await scene.effects() == [order]
    # When another one gets the request
    scene.worker("faulty_rpc")
    # Then it does nothing, and says so
    with pytest.raises(AlreadyDoneError):
        await calling
    effects = await scene.effects()
    Ledger.of(
        "killed between commit and reply", attempted=[order], accepted=[order], effects=effects, recovered=1
    ).assert_clean()


async def test_reading_requests_are_done_again(
    scene: RabbitScene, rpc: RpcClient, server: WorkerProcess
) -> None:
    request = uuid.uuid4()
    for _ in range(2):
        told = await rpc.call("rpc.work.v2", Ask(order_id=5), Told, request_id=request)
        assert told.order_id == 5
    assert len(scene.starts()) == 2


async def test_one_request_is_not_asked_twice_at_once(rpc: RpcClient, server: WorkerProcess) -> None:
    request = uuid.uuid4()
    ask = Ask(order_id=1, seconds=1)
    first = asyncio.ensure_future(rpc.call("rpc.work.v2", ask, Told, request_id=request))
    await rpc.call("rpc.work.v2", Ask(order_id=2), Told)
    with pytest.raises(ValueError, match="is under way"):
        await rpc.call("rpc.work.v2", ask, Told, request_id=request)
    assert (await first).order_id == 1


async def test_a_deleted_reply_queue(scene: RabbitScene, rpc: RpcClient, server: WorkerProcess) -> None:
    # Given a call that waits
    (order,) = await scene.orders(1)
    calling = asyncio.ensure_future(rpc.call("rpc.work.v1", Ask(order_id=order, do="wait"), Told, timeout=30))
    await eventually(lambda: len(scene.starts()) == 1, 10)
    # When somebody closes the caller's connection
    await asyncio.to_thread(scene.server.rabbitmqctl, "close_all_connections", "a test")
    # Then the call fails at once, and the next one works
    with pytest.raises(BrokerDownError, match="it is not known whether the request is done"):
        await asyncio.wait_for(calling, 5)
    scene.release()
    assert (await rpc.call("rpc.work.v2", Ask(order_id=7), Told, timeout=30)).order_id == 7


async def test_a_restart_of_rabbitmq_fails_what_is_under_way(
    postgres_url: str, own_rabbit: RabbitServer
) -> None:
    with RabbitScene(postgres_url, own_rabbit, group="faulty_rpc", topic="rpc.work") as scene:
        server = scene.worker("faulty_rpc").wait_ready()
        orders = await scene.orders(10)
        async with client(own_rabbit.url) as rpc:
            # Given calls that wait
            calls = [
                asyncio.ensure_future(
                    rpc.call("rpc.work.v1", Ask(order_id=order, do="wait"), Told, timeout=120)
                )
                for order in orders
            ]
            await eventually(lambda: len(scene.starts()) == 10, 20)
            # When RabbitMQ is killed
            own_rabbit.kill()
            done, _ = await asyncio.wait(calls, timeout=5)
            # Then all of them fail at once, with one error that says what is known
            assert {str(call.exception()) for call in done} == {
                "RabbitMQ: the connection was lost: it is not known whether the request is done"
            }
            assert len(done) == 10
            # And new ones fail in their time while it is away
            with pytest.raises((BrokerDownError, NoReplyError)):
                await rpc.call("rpc.work.v2", Ask(order_id=1), Told, timeout=2)
            scene.release()
            await asyncio.to_thread(own_rabbit.start)
            # And work again when it is back
            await server.until_ready()
            assert (await rpc.call("rpc.work.v2", Ask(order_id=3), Told, timeout=20)).order_id == 3
        await scene.until_processed(orders)
        effects = await scene.effects()
        Ledger.of(
            "calls under way when RabbitMQ is killed", attempted=orders, accepted=orders, effects=effects
        ).assert_clean()


async def test_a_silent_rabbitmq_fails_calls_in_their_time(
    postgres_url: str, own_rabbit: RabbitServer
) -> None:
    with RabbitScene(postgres_url, own_rabbit, group="faulty_rpc", topic="rpc.work") as scene:
        server = scene.worker("faulty_rpc").wait_ready()
        async with client(own_rabbit.url) as rpc:
            await rpc.call("rpc.work.v2", Ask(order_id=1), Told)
            # Given a RabbitMQ that is frozen
            own_rabbit.pause()
            began = time.monotonic()
            with pytest.raises((BrokerDownError, NoReplyError)):
                await rpc.call("rpc.work.v2", Ask(order_id=1), Told, timeout=5)
            assert time.monotonic() - began < 7
            own_rabbit.resume()
            # Then the next call works
            await server.until_ready()
            assert (await rpc.call("rpc.work.v2", Ask(order_id=2), Told, timeout=20)).order_id == 2


async def test_an_outage_of_the_database(
    own_postgres: PostgresServer, own_postgres_url: str, rabbit: RabbitServer
) -> None:
    with RabbitScene(own_postgres_url, rabbit, group="faulty_rpc", topic="rpc.work") as scene:
        server = scene.worker("faulty_rpc").wait_ready()
        orders = await scene.orders(6)
        async with client(rabbit.url) as rpc:
            # Given a database that is away: requests wait for it, and their callers no longer than they want
            own_postgres.stop()
            calls = [rpc.call("rpc.work.v1", Ask(order_id=order), Told, timeout=3) for order in orders[:5]]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {NoReplyError}
            patient = asyncio.ensure_future(
                rpc.call("rpc.work.v1", Ask(order_id=orders[5]), Told, timeout=60)
            )
            # When it is back
            await asyncio.to_thread(own_postgres.start)
            # Then what somebody still waits for is done, and nothing else
            assert (await patient).order_id == orders[5]
            await eventually(lambda: server.log_text().count("came too late") == 5, 20)
        assert await scene.effects() == orders[5:]
        assert scene.dead() == []


async def test_in_the_lifespan_of_an_api(scene: RabbitScene, server: WorkerProcess) -> None:
    # Given an API that keeps a client
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            client(scene.server.url) as app.state.rpc,
            client(f"amqp://127.0.0.1:{free_port()}") as lost,
        ):
            app.state.lost = lost  # a broker that is away keeps no API from starting
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/orders/{order_id}")
    async def look(order_id: int) -> Told:
        rpc: RpcClient = app.state.rpc
        return await rpc.call("rpc.work.v2", Ask(order_id=order_id), Told)

    # When requests come in side by side
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://api") as browser:
            answers = await asyncio.gather(*(browser.get(f"/orders/{n}") for n in range(1, 51)))
        with pytest.raises(BrokerDownError):
            await app.state.lost.call("rpc.work.v2", Ask(order_id=1), Told)
    # Then each has its reply
    assert [answer.json()["order_id"] for answer in answers] == list(range(1, 51))


# -- priority ------------------------------------------------------------------------------------------------


def fill(scene: RabbitScene, lane: str, orders: list[int]) -> None:
    """Put messages into a lane of the template, before its worker runs."""
    queue = Queue(f"order_process.{lane}", f"shop.order.process.{lane}")
    scene.amqp.delete(queue.name)
    scene.amqp.prepare(queue)
    bodies = [scene.event(order, type_="shop.order.process.v1") for order in orders]
    scene.amqp.publish("events", queue.binding, bodies)
    scene.accepted += orders


@pytest.mark.parametrize(("many", "few"), [("low", "high"), ("high", "low")])
async def test_no_lane_waits_behind_another(scene: RabbitScene, many: str, few: str) -> None:
    # Given 1,000 messages in one lane, and 20 in the other
    crowd, others = await scene.orders(1000), await scene.orders(20)
    fill(scene, many, crowd)
    fill(scene, few, others)
    # When the worker starts
    worker = scene.worker("order_process")
    await scene.until_processed(crowd + others, 120)
    # Then the 20 were done long before the 1,000
    order = await scene.sql("SELECT order_id FROM order_event WHERE kind = 'processed' ORDER BY id")
    place = {row["order_id"]: number for number, row in enumerate(order)}
    assert max(place[one] for one in others) < 600
    assert (await worker.until_ready()).sigterm() == 0
    (await scene.ledger(f"20 {few} beside 1,000 {many}")).assert_clean()


async def test_a_lane_that_cannot_consume_is_named(scene: RabbitScene) -> None:
    scene.amqp.delete("order_process.high")
    scene.amqp.declare("order_process.high", {"x-queue-type": "classic"})
    worker = scene.worker("order_process")
    assert worker.wait(60) == 78
    (line,) = [line for line in worker.log_text().splitlines() if "CRITICAL" in line]
    assert "the queue order_process.high exists with another x-" in line
    scene.amqp.delete("order_process.high")


async def test_a_message_sent_to_both_lanes_is_done_once(scene: RabbitScene) -> None:
    # Given a message that was sent to the low lane, and then again to the high one
    (order,) = await scene.orders(1)
    body = scene.event(order, type_="shop.order.process.v1")
    fill(scene, "high", [])
    fill(scene, "low", [])
    for lane in ("low", "high"):
        scene.amqp.publish("events", f"shop.order.process.{lane}", [body])
    worker = scene.worker("order_process").wait_ready()
    await scene.until_processed([order])
    lanes = ("order_process.low", "order_process.high")
    await eventually(lambda: not any(scene.amqp.ready(lane) for lane in lanes), 10)
    # Then it is done once
    assert worker.sigterm() == 0
    assert not any(scene.amqp.ready(lane) for lane in lanes)
    assert await scene.effects() == [order]
