"""Dead letters as values: which ones are meant, groups, the pace of a replay, and text."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pamqp.encode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.dead_letters import Groups, Letter, Pace, Wanted, alike
from app.core.letter_lines import LineError, from_line, group_line, harmless, page, row, to_line
from app.core.rabbit_dead_letters import told
from app.core.rabbit_queue import sendable

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def event(**attributes: Any) -> bytes:
    return json.dumps({"specversion": "1.0", **attributes}).encode()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NotFoundError: order 4711", "NotFoundError: order 12"),
        ("no row 6f1c2a34-1111-4222-8333-944455556666", "no row 00000000-1111-4222-8333-944455556666"),
        ("charge ch_3NxYz81 failed", "charge ch_9AbCd27 failed"),
        ("delivered 5 times and never finished", "delivered 8 times and never finished"),
        (
            "TimeoutError: the handler took longer than 1.5 s",
            "TimeoutError: the handler took longer than 60 s",
        ),
    ],
)
def test_reasons_that_differ_by_numbers_and_ids_are_alike(one: str, other: str) -> None:
    assert alike(one).replace("#.#", "#") == alike(other)
    assert alike(one) != one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("unknown version v9 of shop.work", "unknown version v8 of shop.work"),
        ("Client error '404 Not Found' for url", "Client error '410 Gone' for url"),
        ("HTTP 503", "HTTP 429"),
        ("KeyError: 'name'", "KeyError: 'town'"),
    ],
)
def test_reasons_that_are_different_stay_so(one: str, other: str) -> None:
    assert alike(one) != alike(other)


def test_groups() -> None:
    groups = Groups()
    for n in range(3):
        at = NOON + timedelta(minutes=n)
        groups.add(Letter(f"id-{n}", event(type="a.v1"), f"order {n}", at=at))
    groups.add(Letter("x", b"{", "order 5"))
    first, second = groups.largest_first()
    assert (first.type, first.reason, first.count, first.example) == ("a.v1", "order #", 3, "id-0")
    assert (first.oldest, first.newest) == (NOON, NOON + timedelta(minutes=2))
    assert (second.type, second.count, second.oldest) == ("", 1, None)
    assert group_line(first)["oldest"] == "2026-11-22T12:00:00+00:00"
    assert group_line(second)["oldest"] is None


def test_wanted() -> None:
    letter = Letter("e-1", event(id="m-1", type="shop.paid.v1"), "HTTP 503", at=NOON)
    fitting = [
        Wanted(),
        Wanted(ids=frozenset({"e-1"})),
        Wanted(ids=frozenset({"m-1", "m-2"})),
        Wanted(reason="http 5"),
        Wanted(type="shop.*"),
        Wanted(since=NOON, until=NOON + timedelta(seconds=1)),
    ]
    assert all(wanted.fits(letter) for wanted in fitting)
    others = [
        Wanted(ids=frozenset({"m"})),
        Wanted(reason="404"),
        Wanted(type="paid"),
        Wanted(until=NOON),
        Wanted(since=NOON + timedelta(seconds=1)),
        Wanted(reason="HTTP", type="other"),
    ]
    assert not any(wanted.fits(letter) for wanted in others)
    # A letter without a time, and one without an id of its own
    assert not Wanted(since=NOON).fits(Letter("e", b"", ""))
    assert not Wanted(until=NOON).fits(Letter("e", b"", ""))
    assert Wanted(ids=frozenset({"e"})).fits(Letter("e", None, ""))


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000, b'{"id": 7}', None])
def test_bodies_that_are_no_events(body: bytes | None) -> None:
    assert Letter("1", body, "").event == {}


async def test_the_pace() -> None:
    # Given a clock that only sleeping moves
    now, gone = 0.0, []

    def clock() -> float:
        return now

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(50, clock, sleep)
    # When 23 letters and then 4 more go
    for count in (23, 4):
        async for portion in pace.portions([Letter(str(n), b"", "") for n in range(count)]):
            gone += [(round(now, 3), letter.id) for letter in portion]
    # Then they go in portions of a tenth of a second, at no time more than the rate allows
    assert [at for at, _ in gone[::5]] == [0, 0.1, 0.2, 0.3, 0.4, 0.46]
    assert [id_ for _, id_ in gone] == [str(n) for n in [*range(23), *range(4)]]
    assert all(at >= n / 50 - 0.1 for n, (at, _) in enumerate(gone))


KEYS = st.text() | st.sampled_from(["$base64", "$time", "$decimal", "$table", "$"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
    | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)
LETTERS = st.builds(
    Letter,
    id=st.text(),
    body=st.none() | st.binary() | st.text().map(str.encode),
    reason=st.text(),
    deliveries=st.integers(0, 1000),
    at=st.none() | st.datetimes(timezones=st.just(UTC)),
    origin=st.text(),
    headers=st.dictionaries(KEYS, VALUES, max_size=3),
    properties=st.dictionaries(KEYS, VALUES, max_size=3),
)


@given(LETTERS)
def test_lines_can_be_read_back_exactly(letter: Letter) -> None:
    line = to_line(letter)
    assert line.isascii()
    assert line.isprintable()
    assert from_line(line) == letter


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"reason": "r", "body": 1}',
        '{"reason": "r", "body_base64": "?"}',
        '{"reason": "r", "at": "soon"}',
        '{"reason": "r", "deliveries": "many"}',
        '{"reason": "r", "headers": [1]}',
        '{"reason": "r", "headers": {"a": {"$base64": "?"}}}',
        '{"reason": "r", "headers": {"a": {"$decimal": "?"}}}',
        "[" * 100_000,
    ],
)
def test_lines_that_are_none(line: str) -> None:
    with pytest.raises(LineError, match="not a line that `export` wrote"):
        from_line(line)


@given(LETTERS)
def test_nothing_in_a_letter_steers_a_terminal(letter: Letter) -> None:
    assert all(line.isprintable() for line in page(letter))
    assert row(letter).replace("\t", "").isprintable()


def test_a_letter_for_people() -> None:
    letter = Letter("e", event(id="1", source="/s", type="a.v1", data={"name": "é\x1b"}), "x\ny", 3, NOON)
    text = "\n".join(page(letter))
    assert "message: /s 1" in text
    assert "set aside: 2026-11-22T12:00:00Z" in text
    assert '    "name": "é\\u001b"' in text
    assert row(letter) == "e\t2026-11-22T12:00:00Z\t3\ta.v1\tx\\ny"
    assert harmless("a\u202eb\ud800") == "a\\u202eb\\ud800"


DEATH = {"queue": "q", "reason": "delivery_limit", "count": 2, "time": NOON}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ("", 0, None, "")),
        ({"dead-reason": "r", "dead-deliveries": 3, "dead-at": NOON, "dead-queue": "q"}, ("r", 3, NOON, "q")),
        ({"x-death": [DEATH], "worker-attempts": 4}, ("RabbitMQ: delivery_limit", 6, NOON, "q")),
        # it had waited for a retry before
        (
            {"x-death": [{"queue": "events.pause.8s", "reason": "expired"}, DEATH]},
            ("RabbitMQ: delivery_limit", 2, NOON, "q"),
        ),
        # replayed by hand with the worker's notes, then set aside again
        ({"x-death": [DEATH], "dead-reason": "r"}, ("RabbitMQ: delivery_limit", 2, NOON, "q")),
        # what strangers write
        ({"x-death": "?", "dead-reason": 7, "dead-deliveries": "many", "dead-at": "now"}, ("7", 0, None, "")),
        ({"x-death": [1, {"count": None, "time": "x"}]}, ("RabbitMQ: None", 0, None, "None")),
    ],
)
def test_what_headers_tell(headers: dict[str, Any], expected: tuple[Any, ...]) -> None:
    found = told(headers, "q")
    assert (found["reason"], found["deliveries"], found["at"], found["origin"]) == expected


def test_headers_that_pamqp_reads_and_does_not_write() -> None:
    given = {"text": b"\xff", "list": [1e300, 0.5, {"deep": b"\x00"}], "n": None}
    sent = sendable(given)
    assert sent == {
        "text": bytearray(b"\xff"),
        "list": ["1e+300", 0.5, {"deep": bytearray(b"\x00")}],
        "n": None,
    }
    assert pamqp.encode.field_table(sent)
    # The wrong form
    with pytest.raises(TypeError):
        pamqp.encode.field_table({"text": b"\xff"})
    with pytest.raises(OverflowError):
        pamqp.encode.field_table({"large": 1e300})
