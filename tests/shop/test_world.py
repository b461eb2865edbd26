"""The stub of the outside world does what its script says."""

import asyncio
import time

import httpx2
import pytest

from world.client import World, drop, fail, hang, ok

CAPTURE = {"order_id": 1, "amount_cents": 300}
PATHS = {
    "mail": "/mail/messages",
    "payments": "/payments/captures",
    "llm": "/llm/complete",
    "webhooks/shop": "/webhooks/shop",
}


async def post(
    world: World, path: str = "/payments/captures", key: str | None = None, patience: float = 10.0
) -> httpx2.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    async with httpx2.AsyncClient(base_url=world.base_url, timeout=patience) as client:
        return await client.post(path, json=CAPTURE, headers=headers)


@pytest.mark.parametrize("target", PATHS)
async def test_without_a_script_every_target_works(world: World, target: str) -> None:
    response = await post(world, PATHS[target])
    assert response.is_success
    (call,) = await world.calls(target)
    (effect,) = await world.effects(target)
    assert (call.number, call.body, call.status, call.effect) == (1, CAPTURE, response.status_code, True)
    assert (effect.body, effect.answer) == (CAPTURE, response.json())


async def test_fails_as_often_as_told_and_then_works(world: World) -> None:
    await world.script("payments", fail(503, 2), fail(400))
    statuses = [(await post(world)).status_code for _ in range(4)]
    assert statuses == [503, 503, 400, 201]
    assert [call.effect for call in await world.calls()] == [False, False, False, True]


async def test_fails_until_the_next_script(world: World) -> None:
    await world.script("payments", fail(500, None))
    assert {(await post(world)).status_code for _ in range(3)} == {500}
    await world.script("payments")
    assert (await post(world)).status_code == 201


@pytest.mark.parametrize("wait", [2, 0.5, "Sun, 22 Nov 2026 12:00:00 GMT"])
async def test_asks_to_wait(world: World, wait: float | str) -> None:
    await world.script("payments", fail(429, retry_after=wait))
    response = await post(world)
    assert response.headers["Retry-After"] in (str(wait), f"{wait}.0")


async def test_script_of_one_target_leaves_the_others_alone(world: World) -> None:
    await world.script("payments", fail(500, None))
    await world.script("webhooks/shop", fail(410))
    assert (await post(world, "/mail/messages")).status_code == 202
    assert (await post(world, "/webhooks/other")).status_code == 200
    assert (await post(world, "/webhooks/shop")).status_code == 410


async def test_hangs_after_the_work(world: World) -> None:
    # Given a target that answers late
    await world.script("payments", hang(30))

    # When a caller gives up before
    with pytest.raises(httpx2.ReadTimeout):
        await post(world, patience=0.2)

    # Then the work is done and the call is still open
    (call,) = await world.calls()
    assert (call.status, call.effect) == (None, True)
    assert len(await world.effects()) == 1


async def test_answers_after_hanging(world: World) -> None:
    await world.script("payments", hang(0.1))
    begin = time.monotonic()
    assert (await post(world)).status_code == 201
    assert time.monotonic() - begin >= 0.1


async def test_reset_lets_a_hanging_call_go(world: World) -> None:
    await world.script("payments", hang(3600))
    hanging = asyncio.create_task(post(world))
    await world.wait_for_calls("payments", 1)
    await world.reset()
    assert (await hanging).status_code == 201
    assert await world.calls() == []


@pytest.mark.parametrize("works", [True, False])
async def test_drops_the_connection_without_an_answer(world: World, *, works: bool) -> None:
    # Given a target that closes the connection
    await world.script("payments", drop(effect=works))

    # When it is called
    with pytest.raises(httpx2.RemoteProtocolError, match="without sending a response"):
        await post(world)

    # Then the work was done or not, as scripted, and no status is known
    (call,) = await world.calls()
    assert (call.status, call.effect) == (None, works)
    assert len(await world.effects()) == works


async def test_drop_sends_not_a_single_byte(world: World) -> None:
    await world.script("payments", drop())
    url = httpx2.URL(world.base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /payments/captures HTTP/1.1\r\nHost: world\r\nContent-Length: 2\r\n\r\n{}")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await writer.wait_closed()


async def test_same_key_has_one_effect_and_one_answer(world: World) -> None:
    first = await post(world, key="k-1")
    second = await post(world, key="k-1")
    other = await post(world, key="k-2")
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert other.json() != first.json()
    assert [(call.key, call.effect) for call in await world.calls()] == [
        ("k-1", True),
        ("k-1", False),
        ("k-2", True),
    ]
    assert [effect.key for effect in await world.effects()] == ["k-1", "k-2"]


async def test_key_holds_within_its_target_only(world: World) -> None:
    await post(world, "/payments/captures", key="k-1")
    await post(world, "/mail/messages", key="k-1")
    assert len(await world.effects()) == 2


async def test_failure_does_not_use_up_the_key(world: World) -> None:
    await world.script("payments", fail(500))
    assert (await post(world, key="k-1")).status_code == 500
    assert (await post(world, key="k-1")).status_code == 201


async def test_repeated_key_after_a_drop_answers_the_first_result(world: World) -> None:
    await world.script("payments", drop())
    with pytest.raises(httpx2.RemoteProtocolError):
        await post(world, key="k-1")
    assert (await post(world, key="k-1")).json()["reference"] == "pay-1"
    assert len(await world.effects()) == 1


async def test_key_with_another_body_is_refused(world: World) -> None:
    await post(world, key="k-1")
    async with httpx2.AsyncClient(base_url=world.base_url) as client:
        response = await client.post("/payments/captures", json={}, headers={"Idempotency-Key": "k-1"})
    assert response.status_code == 422
    assert len(await world.effects()) == 1


async def test_failure_after_the_work(world: World) -> None:
    await world.script("payments", fail(500, effect=True))
    assert (await post(world, key="k-1")).status_code == 500
    assert (await post(world, key="k-1")).json()["reference"] == "pay-1"
    assert len(await world.effects()) == 1


async def test_answer_can_be_scripted(world: World) -> None:
    await world.script("llm", ok(answer={"text": "as told"}))
    assert (await post(world, "/llm/complete")).json() == {"text": "as told"}


async def test_webhook_is_kept_byte_for_byte_with_its_headers(world: World) -> None:
    raw = b'{"b": 1,  "a":2}\n'
    async with httpx2.AsyncClient() as client:
        url = world.webhook_url("shop")
        for _ in range(2):
            await client.post(url, content=raw, headers={"webhook-id": "w-1", "webhook-signature": "v1,x"})
    first, second = await world.calls("webhooks/shop")
    assert first.raw.encode() == raw
    assert first.headers["webhook-signature"] == "v1,x"
    assert (first.key, first.effect, second.effect) == ("w-1", True, False)


async def test_body_that_is_no_json_object_is_refused_and_recorded(world: World) -> None:
    async with httpx2.AsyncClient(base_url=world.base_url) as client:
        response = await client.post("/mail/messages", content=b"[]")
    assert response.status_code == 400
    (call,) = await world.calls("mail")
    assert (call.raw, call.status, call.effect) == ("[]", 400, False)


@pytest.mark.parametrize(
    "script",
    [
        {"target": "mial", "behaviour": []},
        {"target": "mail", "behaviour": [{"kind": "explode"}]},
        {"target": "mail", "behaviour": [{"kind": "ok", "tiems": 2}]},
        {"target": "mail", "behaviour": [{"kind": "fail", "times": 0}]},
    ],
)
async def test_misspelt_script_is_refused(world: World, script: dict[str, object]) -> None:
    async with httpx2.AsyncClient(base_url=world.base_url) as client:
        assert (await client.post("/script", json=script)).status_code == 422


async def test_counts_and_waiting(world: World) -> None:
    await world.script("payments", fail(500))
    for _ in range(2):
        await post(world)
    counted = (await world.counts())["payments"]
    assert (counted.calls, counted.effects) == (2, 1)
    assert len(await world.wait_for_calls("payments", 2)) == 2
    with pytest.raises(TimeoutError, match="2 times, not 3"):
        await world.wait_for_calls("payments", 3, deadline_s=0.05)
