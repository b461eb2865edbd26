"""Messages that are no messages: each is kept as it came, with a reason, and the consumer goes on."""

import json

import pytest

from support.scene import RedisScene, Scene
from support.wait import eventually

GOOD = {
    "specversion": "1.0",
    "id": "1",
    "source": "/foreign",
    "type": "shop.work.v1",
    "data": {"order_id": 1},
}


def changed(**changes: object) -> bytes:
    """A good message with something else in it; None removes."""
    merged = {**GOOD, **changes}
    return json.dumps({key: value for key, value in merged.items() if value is not None}).encode()


BAD = {
    "not JSON": (b"{'single': 'quotes'}", "Invalid JSON"),
    "empty": (b"", "Invalid JSON"),
    "not UTF-8": (b'{"id": "\xff\xfe"}', "not UTF-8: invalid start byte at byte 8"),
    "a list": (b"[1, 2]", "not a CloudEvents 1.0 message"),
    "1 MB": (changed(data={"order_id": 1, "text": "x" * 1_000_000}), "at most 262144 are allowed"),
    "no id": (changed(id=None), "id: Field required"),
    "no type": (changed(type=None), "type: Field required"),
    "another CloudEvents version": (changed(specversion="0.3"), "specversion: Input should be '1.0'"),
    "missing field": (changed(data={}), "payload of shop.work.v1: order_id: Field required"),
    "wrong type": (changed(data={"order_id": "seven"}), "order_id: Input should be a valid integer"),
    "no data": (changed(data=None), "data: Field required"),
    "unknown type": (changed(type="shop.other.v1"), "unknown type 'shop.other.v1'"),
    "unknown version": (changed(type="shop.work.v9"), "unknown version v9 of shop.work, known: shop.work.v1"),
    "an id out of range": (changed(id="9", data={"order_id": 10**30}), "value out of int64 range"),
    "an order that is not there": (changed(id="8", data={"order_id": 10**9}), "NotFoundError"),
    "a bug": (changed(id="7", data={"order_id": 1, "do": "bug"}), "KeyError: 'a bug'"),
}


async def test_bad_messages_are_set_aside(scene: Scene) -> None:
    # Given every kind of bad message among good ones
    (first, last) = await scene.orders(2)
    scene.send([first])
    for raw, _ in BAD.values():
        scene.send_raw(raw)
    scene.send([last])
    worker = scene.worker()
    # Then the good ones are done
    await scene.until_processed([first, last])
    await eventually(lambda: len(scene.dead()) == len(BAD), 30)
    # And the bad ones are kept byte for byte, each with a reason that names what is wrong, at the first try
    letters = {letter.event: letter for letter in scene.dead()}
    for name, (raw, reason) in BAD.items():
        assert reason in letters[raw].reason, f"{name}: {letters[raw].reason}"
        assert letters[raw].deliveries == 1, name
    await eventually(lambda: scene.left() == 0, 20)
    await worker.until_ready()
    (await scene.ledger("bad input among good messages")).assert_clean()


async def test_types_that_are_none_of_its_business_are_skipped(scene: Scene) -> None:
    scene.send_raw(changed(type="shop.gossip.v1", data={"whatever": True}))
    (order,) = scene.send(await scene.orders(1))
    scene.worker()
    await scene.until_processed([order])
    await eventually(lambda: scene.left() == 0, 10)
    assert scene.dead() == []


async def test_two_producers_may_use_the_same_id(scene: Scene) -> None:
    # Given one id from two sources: CloudEvents makes source and id unique together
    orders = await scene.orders(2)
    for order, source in zip(orders, ["/a", "/b"], strict=True):
        scene.send_raw(changed(id="1", source=source, data={"order_id": order}))
    scene.accepted += orders
    scene.worker()
    await scene.until_processed(orders)
    (await scene.ledger("one id from two sources")).assert_clean()


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "WORKER_LEASE_SECONDS",
            "2",
            "WORKER_LEASE_SECONDS=2: at least 2.5 times WORKER_HEARTBEAT_SECONDS (1)",
        ),
        ("WORKER_MAX_DELIVERIES", "0", "WORKER_MAX_DELIVERIES=0: Input should be greater than or equal to 1"),
        ("WORKER_RETRY_BASE_SECONDS", "-1", "WORKER_RETRY_BASE_SECONDS=-1: Input should be greater than 0"),
        (
            "WORKER_RETRY_CAP_SECONDS",
            "0.1",
            "WORKER_RETRY_CAP_SECONDS=0.1: at least WORKER_RETRY_BASE_SECONDS",
        ),
        ("WORKER_CONCURRENCY", "many", "WORKER_CONCURRENCY=many: Input should be a valid integer"),
        (
            "WORKER_LEESE_SECONDS",
            "30",
            "WORKER_LEESE_SECONDS=30: unknown setting, did you mean WORKER_LEASE_SECONDS?",
        ),
        ("OUTBOX_SIGNING_SECRET", "hunter2", "OUTBOX_SIGNING_SECRET=…: unknown setting, "),
        ("WORKER_INBOX_KEEP_DAYS", "0.5", "WORKER_INBOX_KEEP_DAYS=0.5: more than OUTBOX_KEEP_HOURS (24 h)"),
    ],
)
@pytest.mark.slow
def test_settings_that_make_no_sense_are_refused(name: str, value: str, line: str) -> None:
    # Given no servers at all: the settings are read before anything else
    with RedisScene("postgresql+asyncpg://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1") as scene:
        worker = scene.worker(**{name: value})
        # Then the worker ends with the code for settings, and one line says what is wrong
        assert worker.wait(30) == 78
        lines = worker.log_text().splitlines()
        assert lines[0] == "settings refused:"
        assert lines[1].startswith(line)
        assert len(lines) == 2
