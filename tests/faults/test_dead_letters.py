"""Dead letters: looked at, sent back, dropped, exported and imported by the command, as a user runs it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.core.dead_letters import Letter
from app.core.letter_lines import from_line, to_line
from app.core.rabbit import RabbitConnection
from app.core.rabbit_dead_letters import RabbitDeadLetters
from app.core.rabbit_look import PAGE
from app.core.rabbit_topology import Queue
from app.workers import dead_letters
from support import forked, reaper
from support.ports import free_port
from support.scene import FAULTY, RabbitScene, RedisScene, Scene
from support.scenes import SceneMaker
from support.servers import RabbitServer
from support.wait import eventually
from support.workers import IMPORT_PATH

MODULE = "app.workers.dead_letters"
NOBODY = 1_000_000  # orders from here on are not there, so that their messages die
AWKWARD = [
    b"",
    b"\x00",
    b'{"id": "\xff\xfe"}',
    b"\xef\xbb\xbf{}",
    b'{"lone": "\\ud800"}',
    "line\u2028end\r\n\t\x1b[31mred".encode(),
    b"[" * 20_000,
    b"x" * 1_000_000,
]


@pytest.fixture
def scene(make_scene: SceneMaker, postgres_url: str) -> Scene:
    """A scene with the broker whose turn it is."""
    return make_scene(postgres_url)


@pytest.fixture
def rabbit_scene(postgres_url: str, rabbit: RabbitServer) -> Iterator[RabbitScene]:
    with RabbitScene(postgres_url, rabbit) as scene:
        yield scene


def environment(scene: Scene) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [FAULTY, *IMPORT_PATH])),
        "DATABASE_URL": scene.postgres_url,
        "FAULTY_FOLDER": str(scene.folder),
        "FAULTY_BROKER": scene.broker,
        **scene.environment(),
        **scene.settings,
    }


def run(
    scene: Scene, *arguments: str, code: int = 0, given: str = "", consumer: str = "faulty"
) -> subprocess.CompletedProcess[str]:
    """The command, as a user runs it; it has to end with `code`."""
    words = [sys.executable, "-m", MODULE, consumer, *arguments]
    result = forked.run(words, env=environment(scene), cwd=scene.folder, given=given)
    assert result.returncode == code, f"{arguments}: {result.returncode}\n{result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def lines(scene: Scene, *arguments: str) -> list[dict[str, Any]]:
    """What `export -` writes."""
    return [json.loads(line) for line in run(scene, "export", "-", *arguments).stdout.splitlines()]


def left(scene: Scene) -> int:
    """Dead letters that nobody holds."""
    if isinstance(scene, RedisScene):
        return int(scene.redis.xlen(f"{{{scene.topic}}}:dead:{scene.group}"))
    assert isinstance(scene, RabbitScene)
    return scene.amqp.ready(scene.queue.dead)


async def until_dead(scene: Scene, count: int) -> None:
    """Wait for the dead letters, then end the workers."""
    await eventually(lambda: left(scene) == count, 60, f"{count} dead letters")
    for worker in scene.workers:
        if worker.running:
            worker.sigterm()


async def mend(scene: Scene, orders: Iterable[int]) -> None:
    """Place the orders that were missing."""
    await scene.orders(1)
    await scene.sql(
        "INSERT INTO customer_order (id, customer_id, status, total_cents)"
        " SELECT id, 1, 'placed', 100 FROM unnest($1::bigint[]) AS id",
        list(orders),
    )


def put_letters(scene: Scene, bodies: Sequence[bytes]) -> None:
    """Many dead letters at once, without a worker's work."""
    if isinstance(scene, RedisScene):
        pipe = scene.redis.pipeline(transaction=False)
        for body in bodies:
            pipe.xadd(f"{{{scene.topic}}}:dead:{scene.group}", {"event": body, "dead.reason": "many"})
        pipe.execute()
    elif isinstance(scene, RabbitScene):
        scene.amqp.prepare(scene.queue)
        scene.amqp.publish("", scene.queue.dead, bodies, headers={"dead-reason": "many"})


# -- looking -------------------------------------------------------------------------------------------


async def test_looking_at_them(scene: Scene) -> None:
    # Given letters of three kinds, given up by a worker
    started = datetime.now(UTC) - timedelta(seconds=1)
    scene.send_raw(scene.event(NOBODY + 4711, id_="order-4711"))
    scene.send_raw(scene.event(NOBODY + 4712))
    scene.send_raw(scene.event(1, type_="shop.work.v9"))
    scene.send_raw(b'{"id": "\xff\x1b[31m"}')
    scene.worker()
    await until_dead(scene, 4)
    # Then each is listed with its id, time, deliveries, type and reason
    listed = [line.split("\t") for line in run(scene, "list").stdout.splitlines()]
    by_type = {cells[3]: cells for cells in listed}
    assert len(listed) == 4
    assert [cells[2] for cells in listed] == ["1"] * 4
    assert set(by_type) == {"shop.work.v1", "shop.work.v9", "-"}
    assert all(started <= datetime.fromisoformat(cells[1]) + timedelta(seconds=1) for cells in listed)
    # And those whose reasons differ by a number only are one group
    groups = [line.split("\t") for line in run(scene, "groups").stdout.splitlines()]
    assert (groups[0][0], groups[0][4]) == ("2", "shop.work.v1")
    assert sorted(int(cells[0]) for cells in groups) == [1, 1, 2]
    # And one is shown with its body, of which nothing can steer a terminal
    shown = run(scene, "show", "order-4711").stdout
    assert f'    "order_id": {NOBODY + 4711}' in shown
    assert "message: /tests order-4711" in shown
    broken = run(scene, "show", by_type["-"][0]).stdout
    assert '{"id": "\\xff\\x1b[31m"}' in broken
    # And filters choose
    assert len(lines(scene, "--reason", "UNKNOWN version", "--since", "1h")) == 1
    assert len(lines(scene, "--type", "shop.work.*", "--until", "2999-01-01")) == 3
    assert len(lines(scene, "--until", started.isoformat())) == 0
    assert len(lines(scene, "--id", "order-4711", "--id", by_type["shop.work.v9"][0])) == 2
    # And the newest come first when asked for
    whole = [line["id"] for line in lines(scene)]
    newest = run(scene, "list", "--newest", "--limit", "3", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in newest] == whole[:0:-1]
    # And looking has changed nothing
    assert run(scene, "list", "--limit", "2").stdout.splitlines() == ["\t".join(c) for c in listed[:2]]
    await eventually(lambda: left(scene) == 4, 10)


async def test_a_look_that_is_killed_loses_nothing(scene: Scene) -> None:
    # Given more letters than the pipe takes, and an export that stands still in the middle
    bodies = [b"%d " % n + b"x" * 5000 for n in range(3 * PAGE)]
    put_letters(scene, bodies)
    process = start(scene, "export", "-")
    assert process.stdout is not None
    process.stdout.readline()
    # When it is killed
    process.kill()
    process.communicate()
    # Then all letters are there
    await eventually(lambda: left(scene) == len(bodies), 20)
    exported = sorted(line["body"].encode() for line in lines(scene))
    assert (len(exported), exported == sorted(bodies)) == (len(bodies), True)


async def test_a_reader_that_has_seen_enough(scene: Scene) -> None:
    # Given an export whose reader goes away, as `head` does
    put_letters(scene, [b"%d " % n + b"x" * 5000 for n in range(3 * PAGE)])
    process = start(scene, "export", "-")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    error = await asyncio.to_thread(process.stderr.read)
    process.stderr.close()
    # Then it ends without a complaint, and all letters are there
    assert await asyncio.to_thread(process.wait, 30) == 1
    assert error.decode().splitlines()[-1].startswith("exported ")
    assert b"Error" not in error
    await eventually(lambda: left(scene) == 3 * PAGE, 10)


async def test_memory_is_bounded(scene: Scene) -> None:
    # Given letters of 200 MB together
    put_letters(scene, [b"%06d" % n + b"x" * 100_000 for n in range(2000)])
    # When they are exported
    script = (
        "import pathlib, sys; from app.workers.dead_letters import main;"
        "code = main(sys.argv[1:]);"
        "sys.stderr.write(pathlib.Path('/proc/self/status').read_text()); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "faulty", "export", "letters.jsonl"],
        env=environment(scene),
        cwd=scene.folder,
        capture_output=True,
        check=True,
        timeout=120,
    )
    # Then a page of them was in memory at a time
    assert (scene.folder / "letters.jsonl").stat().st_size > 200_000_000
    (peak,) = [line for line in result.stderr.splitlines() if line.startswith(b"VmHWM")]
    assert int(peak.split()[1]) < 170_000, peak


# -- replaying -----------------------------------------------------------------------------------------


async def test_replayed_after_the_cause_is_mended(scene: Scene) -> None:
    # Given letters about orders that are not there, and one that is hopeless
    orders = [NOBODY + n for n in range(20)]
    scene.send(orders)
    scene.send_raw(b"hopeless")
    scene.worker()
    await until_dead(scene, 21)
    # When the orders are there, and their letters are replayed
    await mend(scene, orders)
    assert run(scene, "replay", "--reason", "NotFoundError", "--dry-run").stdout.count("\n") == 20
    assert left(scene) == 21
    result = run(scene, "replay", "--reason", "NotFoundError", "--format", "json")
    assert json.loads(result.stdout) == {"replayed": 20, "refused": 0}
    # Then each is done once, and the other letter is still there
    scene.worker()
    await scene.until_processed(orders)
    await eventually(lambda: scene.left() == 0, 20)
    assert left(scene) == 1
    (await scene.ledger(f"dead letters replayed, {scene.broker}")).assert_clean()


async def test_a_fresh_set_of_attempts_and_the_same_bytes(scene: Scene) -> None:
    # Given a message that failed twice, with two attempts allowed
    (order,) = await scene.orders(1)
    scene.send([order], do="flap", times=3)
    scene.worker(WORKER_MAX_DELIVERIES="2")
    await until_dead(scene, 1)
    (before,) = lines(scene)
    assert before["deliveries"] == 2
    # When it is replayed, with five attempts allowed
    run(scene, "replay", before["id"])
    scene.worker(WORKER_MAX_DELIVERIES="5")
    await scene.until_processed([order])
    # Then its deliveries are counted from one
    assert [delivery for _, delivery, _ in scene.starts()] == [1, 2, 1, 2, 3, 4]
    (await scene.ledger(f"a fresh set of attempts, {scene.broker}")).assert_clean()


async def test_what_dies_again_is_the_same_letter(scene: Scene) -> None:
    # Given a letter that is replayed although nothing is mended, with more behind it
    for n in range(3):
        scene.send_raw(scene.event(NOBODY + n))
    scene.worker()
    await eventually(lambda: left(scene) == 3, 30)
    before = lines(scene)
    # When all are replayed while the worker runs
    result = run(scene, "replay", "--all")
    # Then each is replayed once: what comes back meanwhile is left alone
    assert result.stdout == "replayed 3\n"
    await until_dead(scene, 3)
    after = lines(scene)
    telling = ("body", "message_id", "headers", "reason", "deliveries")
    picked = [sorted(str([line[name] for name in telling]) for line in some) for some in (before, after)]
    assert picked[0] == picked[1]
    assert "dead" not in str(after[0]["headers"])
    assert "worker" not in str(after[0]["headers"])


async def test_killed_in_the_middle_of_a_replay(scene: Scene) -> None:
    # Given 400 letters whose cause is mended
    orders = [NOBODY + n for n in range(400)]
    scene.send(orders)
    scene.worker()
    await until_dead(scene, 400)
    await mend(scene, orders)
    # When a replay is killed in the middle, twice
    for rest in (300, 150):
        process = start(scene, "replay", "--all", "--rate", "200")
        await until_queued(scene, 400 - rest)
        process.kill()
        process.communicate()
        await eventually(lambda: queued(scene) + left(scene) >= 400, 20, "each is here or there")
        assert left(scene) > 0
    # And repeated
    run(scene, "replay", "--all", "--rate", "1000")
    assert left(scene) == 0
    # Then nothing is lost, and nothing is done twice
    scene.worker()
    await scene.until_processed(orders)
    await eventually(lambda: scene.left() == 0, 20)
    (await scene.ledger(f"a replay killed twice, {scene.broker}")).assert_clean()


async def test_a_connection_that_is_lost_in_the_middle(scene: Scene) -> None:
    # Given a replay of 200 letters whose cause is mended
    orders = [NOBODY + n for n in range(200)]
    scene.send(orders)
    scene.worker()
    await until_dead(scene, 200)
    await mend(scene, orders)
    process = start(scene, "replay", "--all", "--rate", "5")
    await until_queued(scene, 5)
    # When an operator closes its connections
    if isinstance(scene, RabbitScene):
        scene.server.rabbitmqctl("close_all_connections", "maintenance")
    elif isinstance(scene, RedisScene):
        scene.redis.client_kill_filter(_type="normal")
    out, error = await asyncio.to_thread(process.communicate, None, 60)
    # Then it says what is done and what went wrong, and can be repeated
    assert process.returncode == 1
    assert int(out.decode().removeprefix("replayed ")) > 0
    assert error.startswith((b"RabbitMQ: ", b"Redis: "))
    assert error.count(b"\n") == 1
    await eventually(lambda: queued(scene) + left(scene) >= 200, 20, "each is here or there")
    run(scene, "replay", "--all", "--rate", "1000")
    scene.worker()
    await scene.until_processed(orders)
    await eventually(lambda: scene.left() == 0, 20)
    (await scene.ledger(f"a replay that lost its connection, {scene.broker}")).assert_clean()


async def until_queued(scene: Scene, count: int) -> None:
    """Wait until so many are replayed."""
    await eventually(lambda: queued(scene) >= count, 60, f"{count} are replayed")


def queued(scene: Scene) -> int:
    """Messages that the consumer has yet to do."""
    if isinstance(scene, RabbitScene):
        return scene.amqp.ready(scene.queue.name)
    return scene.left()


def start(scene: Scene, *arguments: str) -> subprocess.Popen[bytes]:
    """The command, to be killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "faulty", *arguments],
        env=environment(scene),
        cwd=scene.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    reaper.watch(process.pid)
    return process


async def test_interrupted_by_a_person(scene: Scene) -> None:
    # Given a slow replay
    put_letters(scene, [scene.event(n) for n in range(50)])
    if isinstance(scene, RedisScene):
        scene.redis.xgroup_create(scene.topic, scene.group, id="0", mkstream=True)
    process = start(scene, "replay", "--all", "--rate", "10")
    await eventually(lambda: queued(scene) > 3, 30)
    # When Ctrl-C is pressed
    process.send_signal(signal.SIGINT)
    out, error = await asyncio.to_thread(process.communicate, None, 30)
    # Then it says what is done, and that the rest may follow
    assert process.returncode == 130
    done = int(out.decode().removeprefix("replayed "))
    assert b"interrupted" in error
    assert b"Traceback" not in error
    await eventually(lambda: left(scene) + queued(scene) >= 50, 10)
    assert queued(scene) in (done, done + 1)
    assert left(scene) in (50 - done, 49 - done)


async def test_in_rabbitmq_only_its_consumer_gets_it_again(rabbit_scene: RabbitScene) -> None:
    # Given another queue for the same messages
    scene = rabbit_scene
    other = Queue("another", scene.topic)
    scene.amqp.delete(other.name, other.dead)
    scene.amqp.prepare(other)
    scene.send_raw(scene.event(NOBODY))
    scene.worker()
    await until_dead(scene, 1)
    assert scene.amqp.ready(other.name) == 1
    # When the letter is replayed
    run(scene, "replay", "--all")
    # Then only its own queue has it
    assert (scene.amqp.ready(scene.queue.name), scene.amqp.ready(other.name)) == (1, 1)
    scene.amqp.delete(other.name, other.dead)


async def test_each_lane_of_a_rabbitmq_priority_has_its_own(rabbit_scene: RabbitScene) -> None:
    # Given a letter of the lane "high"
    high, low = Queue("order_process.high", "p.high"), Queue("order_process.low", "p.low")
    rabbit_scene.amqp.delete(high.name, high.dead, low.name, low.dead)
    for lane in (high, low):
        rabbit_scene.amqp.prepare(lane)
    rabbit_scene.amqp.publish("", high.dead, [b"x"])
    # Then it is that lane's
    assert run(rabbit_scene, "list", consumer="order_process.high").stdout.count("\n") == 1
    assert run(rabbit_scene, "list", consumer="order_process.low").stdout == ""
    # And without a lane the command says what to write
    result = run(rabbit_scene, "list", consumer="order_process", code=2)
    assert "its lanes have: high, low; write order_process.LANE" in result.stderr
    rabbit_scene.amqp.delete(high.name, high.dead, low.name, low.dead)


async def test_letters_that_rabbitmq_set_aside_itself(rabbit_scene: RabbitScene) -> None:
    # Given a message that was retried once, and then rejected
    scene = rabbit_scene
    (order,) = scene.send(await scene.orders(1))
    await reject(scene)
    await eventually(lambda: left(scene) == 1, 10)
    # Then it has a reason, a count, a queue and a time
    (letter,) = lines(scene)
    assert (letter["reason"], letter["deliveries"], letter["origin"]) == ("RabbitMQ: rejected", 1, "faulty")
    assert datetime.now(UTC) - datetime.fromisoformat(letter["at"]) < timedelta(minutes=2)
    assert run(scene, "groups").stdout.endswith("\tRabbitMQ: rejected\n")
    # And it can be replayed, also after it was exported, dropped and imported
    (scene.folder / "one.jsonl").write_text(json.dumps(letter) + "\n")
    run(scene, "drop", letter["id"], "--yes")
    run(scene, "import", "one.jsonl")
    assert lines(scene) == [letter]
    run(scene, "replay", letter["id"])
    scene.worker()
    await scene.until_processed([order])
    (await scene.ledger("a message that RabbitMQ set aside, replayed")).assert_clean()


async def reject(scene: RabbitScene) -> None:
    """Take a message from the queue and refuse it, as a careless consumer does."""
    connection = RabbitConnection(scene.server.url, "a test")
    channel = await connection.channel()
    message = await (await channel.get_queue(scene.queue.name)).get(timeout=10)
    assert message is not None
    await message.reject(requeue=False)
    await connection.close()


# -- dropping ------------------------------------------------------------------------------------------


async def test_dropping_needs_a_yes(scene: Scene) -> None:
    # Given three letters
    for n in range(3):
        scene.send_raw(scene.event(NOBODY + n, id_=f"order-{n}"))
    scene.worker()
    await until_dead(scene, 3)
    # When they are dropped without --yes
    result = run(scene, "drop", "--reason", "NotFoundError", code=4)
    # Then it says which, and drops none
    assert len(result.stdout.splitlines()) == 3
    assert "3 letters would be dropped; nothing was, add --yes" in result.stderr
    assert run(scene, "drop", "order-1", code=4).stdout.count("\n") == 1
    assert left(scene) == 3
    # And with it only those that were meant go
    assert run(scene, "drop", "order-1", "--yes").stdout == "dropped 1\n"
    assert {line["message_id"] for line in lines(scene)} == {"order-0", "order-2"}
    assert run(scene, "drop", "--all", "--limit", "1", "--yes").stdout == "dropped 1\n"
    assert run(scene, "drop", "--all", "--yes").stdout == "dropped 1\n"
    assert left(scene) == 0


async def test_ids_that_are_not_there(scene: Scene) -> None:
    scene.send_raw(scene.event(NOBODY, id_="order-0"))
    scene.worker()
    await until_dead(scene, 1)
    # Given an id that no letter has: the exit code says so, and the others are done
    assert "no letter has the id nobody" in run(scene, "show", "nobody", code=3).stderr
    assert run(scene, "replay", "nobody", "order-0", code=3).stdout == "replayed 1\n"
    assert run(scene, "drop", "nobody", "--yes", code=3).stdout == "dropped 0\n"
    # A filter that nothing fits is no failure
    assert run(scene, "replay", "--reason", "nothing").stdout == "replayed 0\n"
    assert run(scene, "list").stdout == ""


# -- exporting and importing ---------------------------------------------------------------------------


async def test_export_and_import_change_no_byte(scene: Scene) -> None:
    # Given letters with every kind of awkward body, set aside by a worker
    for body in AWKWARD:
        scene.send_raw(body)
    expected = list(AWKWARD)
    if isinstance(scene, RedisScene):  # and entries with other fields, without a message
        scene.redis.xadd(scene.topic, {"other": b"\xff", b"\xfe": "é", "$time": "x"})
        expected.append(b"")
    elif isinstance(scene, RabbitScene):
        at = datetime(2026, 11, 22, tzinfo=UTC)
        strange = {"t": at, "d": Decimal("1.5"), "n": {"$base64": [1, None, True]}, "x": bytearray(b"\xff")}
        properties = {"headers": strange, "correlation_id": "c", "priority": 3, "reply_to": "r", "type": "t"}
        scene.amqp.publish(scene.exchange, scene.topic, [b"strange"], **properties)
        expected.append(b"strange")
    scene.worker()
    await until_dead(scene, len(expected))
    # When they are exported, dropped and imported
    assert run(scene, "export", "letters.jsonl").stderr == f"exported {len(expected)}\n"
    file = scene.folder / "letters.jsonl"
    first = [json.loads(line) for line in file.read_text().splitlines()]
    run(scene, "drop", "--all", "--yes")
    assert left(scene) == 0
    assert run(scene, "import", "-", given=file.read_text()).stdout == f"imported {len(expected)}\n"
    # Then they are what they were; only Redis gives its entries new ids
    second = lines(scene)
    if scene.broker == "redis":
        first, second = ([{**line, "id": ""} for line in some] for some in (first, second))
    assert second == first
    bodies = [from_line(json.dumps(line)).body or b"" for line in second]
    assert sorted(bodies) == sorted(expected)
    # And a file that exists is not written over
    assert "File exists" in run(scene, "export", "letters.jsonl", code=1).stderr


async def test_a_replay_restores_all_fields(scene: Scene) -> None:
    # Given a letter with more than a body
    if isinstance(scene, RedisScene):
        scene.redis.xadd(scene.topic, {"event": b"\xff", "other": b"\xfe", b"\xfd": ""})
    elif isinstance(scene, RabbitScene):
        scene.amqp.prepare(scene.queue)
        given = {"message_id": "m-1", "priority": 2, "headers": {"a": "b", "n": [1, {"x": None}]}}
        scene.amqp.publish(scene.exchange, scene.topic, [b"\xff"], **given)
    scene.worker()
    await until_dead(scene, 1)
    # When it is replayed
    run(scene, "replay", "--all")
    # Then it is as it was sent
    if isinstance(scene, RedisScene):
        fields = [fields for _, fields in scene.redis.xrange(scene.topic)]
        assert fields[-1] == {b"event": b"\xff", b"other": b"\xfe", b"\xfd": b""}
    elif isinstance(scene, RabbitScene):
        (message,) = scene.amqp.take(scene.queue.name)
        assert (message.body, message.message_id, message.priority) == (b"\xff", "m-1", 2)
        headers = {name: value for name, value in message.headers.items() if not name.startswith("x-")}
        assert headers == {"a": "b", "n": [1, {"x": None}]}
        assert message.delivery_mode == 2


async def test_a_redis_entry_that_cannot_be_replayed_says_why(postgres_url: str, redis_url: str) -> None:
    # Given a letter without any field of its own: Redis had lost the entry
    with RedisScene(postgres_url, redis_url) as scene:
        scene.redis.xadd(f"{{{scene.topic}}}:dead:{scene.group}", {"dead.reason": "no field 'event'"})
        result = run(scene, "replay", "--all", code=1)
        assert result.stdout == "replayed 0, refused 1\n"
        assert "not replayed: there is no message in it" in result.stderr
        assert left(scene) == 1


async def test_lines_that_are_none(scene: Scene) -> None:
    put_letters(scene, [b"first"])
    (good,) = run(scene, "export", "-").stdout.splitlines()
    # Given lines of which the third is broken
    result = run(scene, "import", "-", given=f"{good}\n\n{{broken\n{good}\n", code=1)
    # Then it is named, and nothing of its portion is imported
    assert "line 3: not a line that `export` wrote" in result.stderr
    assert result.stdout == "imported 0\n"
    # And so is one that is not even text
    (scene.folder / "bytes.jsonl").write_bytes(b'{"reason": "\xff", "body": "\xff"}\n')
    assert "line 1: not a line" in run(scene, "import", "bytes.jsonl", code=1).stderr
    assert left(scene) == 1


# -- the command ---------------------------------------------------------------------------------------


async def test_rabbitmq_keeps_their_order_however_they_are_looked_at(rabbit_scene: RabbitScene) -> None:
    # Given letters over several pages
    scene = rabbit_scene
    expected = [b"%d" % n for n in range(5 * PAGE // 2)]
    put_letters(scene, expected)
    letters = RabbitDeadLetters(scene.server.url, scene.queue, patience=1800)
    # When some and all of them are looked at, and some dropped, over and over
    for at_most in (10, None, 10, PAGE + 7, None):
        seen = [letter.body async for letter in every(letters.pages(at_most))]
        assert seen == expected[:at_most]
        async with aclosing(letters.pages(at_most)) as pages:
            async for some in pages:
                await letters.drop(some[::3])
                expected = [body for body in expected if body not in {letter.body for letter in some[::3]}]
    # Then they are in their order still
    assert [letter.body async for letter in every(letters.pages())] == expected
    await letters.close()


async def test_held_for_no_longer_than_rabbitmq_allows(rabbit_scene: RabbitScene) -> None:
    # Given a RabbitMQ without any patience
    scene = rabbit_scene
    expected = [b"%d" % n for n in range(5 * PAGE // 2)]
    put_letters(scene, expected)
    letters = RabbitDeadLetters(scene.server.url, scene.queue, patience=0)
    # When the letters are handed back after each page, half of them dropped
    seen: list[bytes | None] = []
    async with aclosing(letters.pages()) as pages:
        async for some in pages:
            seen += [letter.body for letter in some]
            await letters.drop(some[::2])
    # Then each was seen once
    assert seen == expected
    assert left(scene) == len(expected) // 2
    await letters.close()


async def every(pages: AsyncGenerator[list[Letter], None]) -> AsyncGenerator[Letter, None]:
    async with aclosing(pages):
        async for some in pages:
            for letter in some:
                yield letter


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "line"), [("redis", "Redis: ConnectionError"), ("rabbitmq", "RabbitMQ: AMQPConnectionError")]
)
def test_a_broker_that_is_away(broker: str, line: str, tmp_path: Path) -> None:
    port = free_port()
    env = {
        "PYTHONPATH": os.pathsep.join(map(str, [FAULTY, *IMPORT_PATH])),
        "FAULTY_BROKER": broker,
        "REDIS_URL": f"redis://user:hunter2@127.0.0.1:{port}/0",
        "RABBITMQ_URL": f"amqp://user:hunter2@127.0.0.1:{port}/",
    }
    result = subprocess.run(
        [sys.executable, "-m", MODULE, "faulty", "list"],
        env={**os.environ, **env},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.stderr


async def test_a_rabbitmq_queue_that_is_not_there(rabbit_scene: RabbitScene) -> None:
    # Given a consumer that never ran here
    result = run(rabbit_scene, "list", code=1)
    assert result.stderr == "there is no queue faulty.dead: its worker has not run yet\n"
    letter = to_line(Letter("1", b"x", "bad"))
    assert "start its worker" in run(rabbit_scene, "import", "-", given=letter, code=1).stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["order_piad", "list"], "no consumer named order_piad; there are: order_"),
        (["outbox_relay", "list"], "no consumer named outbox_relay"),
        (["order_paid", "replay"], "replay: which letters? Give ids or a filter, or --all"),
        (["order_paid", "drop", "--yes"], "drop: which letters?"),
        (["order_paid", "replay", "--all", "--rate", "0"], "a number from 1 to 1000000 is needed"),
        (["order_paid", "list", "--limit", "0"], "1 or more is needed"),
        (
            ["order_paid", "list", "--since", "yesterday"],
            "argument --since: invalid moment value: 'yesterday'",
        ),
    ],
)
def test_wrong_usage(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        dead_letters.main(arguments)
    assert ended.value.code == 2
    assert error in capsys.readouterr().err


@pytest.mark.slow
def test_settings_that_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKER_LEESE_SECONDS", "3")
    assert dead_letters.main(["order_paid", "list"]) == 78
    assert "WORKER_LEESE_SECONDS=3: unknown setting" in capsys.readouterr().err


def test_ages_and_times() -> None:
    age = datetime.now(UTC) - dead_letters.moment("90s")
    assert timedelta(seconds=89) < age < timedelta(seconds=95)
    assert dead_letters.moment("99999d") < datetime(1800, 1, 1, tzinfo=UTC)
    assert dead_letters.moment("2026-11-22T10:00") == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert dead_letters.moment("2026-11-22T10:00+02:00") == datetime(2026, 11, 22, 8, tzinfo=UTC)
