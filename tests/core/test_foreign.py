"""What senders that write no CloudEvents send."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from app.consumers.order_settled import translate
from app.core.consumer import Consumer, on_without_transaction
from app.core.deadline import Watch
from app.core.envelope import Message, build
from app.core.foreign import Foreign, is_event
from app.core.outcomes import Dead, Done, Outcome
from app.core.worker_settings import WorkerSettings


class Scan(BaseModel):
    """A payload."""

    parcel: int


seen: list[Message[Scan]] = []


async def note(message: Message[Scan]) -> Outcome:
    seen.append(message)
    return Done()


def as_scan(message: Foreign) -> bytes:
    data = Scan.model_validate_json(message.body)
    return build("depot.scanned.v1", data, source="/depot", id_=message.id)


consumer = Consumer(
    "depot", "depot.scanned", (on_without_transaction("depot.scanned.v1", Scan, note),), translate=as_scan
)


async def decided(message: Foreign, **settings: Any) -> Outcome:
    """What becomes of a message."""
    seen.clear()
    return await consumer.decide(lambda: message, 1, Watch(), WorkerSettings(**settings))


async def test_what_is_foreign_is_translated_and_what_is_not_is_taken_as_it_is() -> None:
    assert await decided(Foreign("7-0", b'{"parcel": 7}')) == Done()
    assert [(m.message_id, m.data.parcel) for m in seen] == [("/depot 7-0", 7)]
    event = build("depot.scanned.v1", Scan(parcel=8), source="/ours", id_="8")
    assert await decided(Foreign("8-0", event)) == Done()
    assert [(m.message_id, m.data.parcel) for m in seen] == [("/ours 8", 8)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"parcel": "x"}',
        b'{"specversion": "1.0"}',
        b'{"specversion": "1.0", "parcel": 7}',
    ],
)
async def test_what_cannot_be_translated_is_set_aside(body: bytes) -> None:
    assert isinstance(await decided(Foreign("7-0", body)), Dead)
    assert seen == []


async def test_the_reason_names_the_field() -> None:
    outcome = await decided(Foreign("7-0", b'{"parcel": "x"}'))
    assert isinstance(outcome, Dead)
    assert "not translated: parcel: Input should be a valid integer" in outcome.reason


async def test_what_has_no_id_is_set_aside() -> None:
    assert isinstance(await decided(Foreign("", b'{"parcel": 7}')), Dead)


async def test_size_is_that_of_the_message() -> None:
    body = json.dumps({"parcel": 7, "note": "x" * 3000}).encode()
    assert isinstance(await decided(Foreign("7-0", body), worker_max_message_bytes=2000), Dead)


def test_only_an_object_with_a_specversion_claims_to_be_an_event() -> None:
    assert is_event(b'{"specversion": "0.3"}')
    assert not is_event(b'{"note": "specversion"}')
    assert not is_event(b'{"note": {"specversion": "1.0"}}')
    assert not is_event(b'["specversion"]')
    assert not is_event(b'"specversion"')
    assert not is_event(b'{"specversion"')


def test_the_template_says_what_an_entry_is() -> None:
    fields = {"order_id": "7", "payment_reference": "p", "receipt": "r1", "till": "3"}
    event = json.loads(translate(Foreign("1-0", b"", fields)))
    assert (event["id"], event["source"]) == ("r1", "/tills")
    assert event["data"] == {"order_id": 7, "payment_reference": "p"}
