"""Messages on the wire."""

import json
import uuid
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from app.core.envelope import Envelope, Message, Reader, build, topic_of
from app.core.outcomes import InvalidMessageError


class Paid(BaseModel):
    """A payload."""

    order_id: int
    note: str = ""


READER = Reader({"a.v1": Paid, "shop.paid.v1": Paid})


def read(raw: bytes) -> Envelope:
    """A message that is none to be skipped."""
    envelope = READER.read(raw, 1000)
    assert envelope is not None
    return envelope


def test_what_is_built_can_be_read() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    raw = build(
        "shop.paid.v1", Paid(order_id=7), source="/shop", id_="1", subject="7", time=at, traceparent="00-a"
    )
    assert json.loads(raw) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/shop",
        "type": "shop.paid.v1",
        "subject": "7",
        "time": "2026-11-22T00:00:00Z",
        "datacontenttype": "application/json",
        "traceparent": "00-a",
        "data": {"order_id": 7, "note": ""},
    }
    envelope = read(raw)
    assert envelope.data == Paid(order_id=7)
    assert (envelope.time, envelope.traceparent) == (at, "00-a")


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    with suppress(InvalidMessageError):
        READER.read(raw, 250)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)
    | st.dictionaries(st.text(), st.text())
)
def test_no_payload_raises_anything_else(data: object) -> None:
    raw = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "a.v1", "data": data}).encode()
    with suppress(InvalidMessageError):
        READER.read(raw, 100_000)


def test_a_type_needs_a_version() -> None:
    with pytest.raises(ValueError, match=r"shop\.order\.paid\.v1"):
        build("shop.paid", Paid(order_id=1), source="/s", id_="1")
    with pytest.raises(ValueError, match=r"shop\.order\.paid\.v1"):
        topic_of("shop.paid")


def test_versions_share_a_topic() -> None:
    assert topic_of("shop.order.paid.v1") == topic_of("shop.order.paid.v22") == "shop.order.paid"


def test_reasons_hold_no_values() -> None:
    raw = json.dumps(
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "a.v1", "data": {"order_id": "hunter2"}}
    )
    with pytest.raises(InvalidMessageError) as caught:
        READER.read(raw.encode(), 1000)
    assert "hunter2" not in str(caught.value)


def message(consumer: str = "c", source: str = "/s", id_: str = "1", delivery: int = 1) -> Message[Paid]:
    raw = build("a.v1", Paid(order_id=1), source=source, id_=id_)
    return Message(consumer, read(raw), Paid(order_id=1), delivery)


def test_the_idempotency_key() -> None:
    # The same on each delivery, another for each consumer, message and source; short enough for any provider
    key = message().idempotency_key
    assert key == message(delivery=4).idempotency_key
    assert (
        len({key, *(m.idempotency_key for m in (message("d"), message(source="/t"), message(id_="2")))}) == 4
    )
    assert uuid.UUID(key)
