"""How messages gather into batches, and what becomes of each; the database is a set of ids."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError

from app.core import batch, inbox
from app.core.batch import ALONE_AT_ONCE, CLAIM_ALL, on_batch
from app.core.consumer import Route
from app.core.deadline import end
from app.core.envelope import Envelope, Message, current_traceparent
from app.core.failures import classify
from app.core.outcomes import Dead, Done, Down, Outcome, PermanentError, Postpone, TransientError
from app.core.worker_settings import WorkerSettings
from support.wait import eventually

LONG = 30.0
AWAY = InterfaceError(None, None, OSError("connection refused"))


class Data(BaseModel):
    """A payload."""

    number: int


class Database:
    """Ids that are committed, and the numbers that the handler was given, call by call."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.calls: list[list[int]] = []
        self.open = self.most_open = 0
        self.away = False

    @asynccontextmanager
    async def session(self) -> AsyncIterator["Session"]:
        """A transaction."""
        if self.away:
            raise AWAY
        session = Session(self)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            yield session
        finally:
            self.open -= 1
        self.done |= session.claimed

    def handler(self, act: Callable[[int], Awaitable[None]] | None = None) -> batch.BatchHandler[Data]:
        """Notes what it is given, then acts on each number."""

        async def handle(messages: Sequence[Message[Data]], _session: Any) -> None:
            numbers = [message.data.number for message in messages]
            self.calls.append(numbers)
            await asyncio.sleep(0)
            for number in numbers:
                if act is not None:
                    await act(number)

        return handle


class Session:
    """Knows the two claims."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.claimed: set[str] = set()

    async def execute(self, statement: Any, values: dict[str, Any]) -> Any:
        """The ids that are new, or whether the one is."""
        wanted = values["message_ids"] if statement is CLAIM_ALL else [values["message_id"]]
        new = [id_ for id_ in wanted if id_ not in self.database.done]
        self.claimed |= set(new)
        return Answer(new)


class Answer:
    """Rows."""

    def __init__(self, rows: list[str]) -> None:
        self.rows = rows

    def scalars(self) -> list[str]:
        """All of them."""
        return self.rows

    def first(self) -> str | None:
        """The first of them."""
        return self.rows[0] if self.rows else None


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    for module in (batch, inbox):
        monkeypatch.setattr(module, "get_session", database.session)
    concurrency(monkeypatch, 1000)
    return database


def concurrency(monkeypatch: pytest.MonkeyPatch, slots: int) -> None:
    settings = WorkerSettings(worker_concurrency=slots)
    monkeypatch.setattr(batch, "worker_settings", lambda: settings)


def message(number: int, *, id_: str | None = None, delivery: int = 1, consumer: str = "c") -> Message[Data]:
    envelope = Envelope(specversion="1.0", id=id_ or str(number), source="/t", type="a.v1", data=None)
    return Message(consumer, envelope, Data(number=number), delivery)


def start(route: Route, *messages: Message[Data], timeout: float = LONG) -> list[asyncio.Task[Outcome]]:
    """A slot for each message."""

    async def slot(one: Message[Data]) -> Outcome:
        return await route.process(one, timeout)

    return [asyncio.create_task(slot(one)) for one in messages]


async def outcomes(route: Route, *messages: Message[Data], timeout: float = LONG) -> list[Any]:
    """What becomes of messages that arrive together: an outcome or an error."""
    slots = start(route, *messages, timeout=timeout)
    async with asyncio.timeout(10):
        return list(await asyncio.gather(*slots, return_exceptions=True))


async def test_a_full_batch_begins_at_once_in_order_of_arrival(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), most=3, wait=LONG)
    found = await outcomes(route, *(message(n) for n in (5, 3, 4, 2, 9, 1)))
    assert database.calls == [[5, 3, 4], [2, 9, 1]]
    assert found == [Done()] * 6


async def test_a_batch_that_does_not_fill_up_begins_after_its_wait(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), most=100, wait=0.02)
    assert await outcomes(route, message(1), message(2)) == [Done()] * 2
    assert database.calls == [[1, 2]]


async def test_no_batch_waits_for_more_than_the_slots_can_hold(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    concurrency(monkeypatch, 2)
    route = on_batch("a.v1", Data, database.handler(), most=100, wait=LONG)
    assert await outcomes(route, message(1), message(2)) == [Done()] * 2


@pytest.mark.parametrize(("most", "wait"), [(0, 0.1), (1, -0.1)])
def test_impossible_batches_are_refused(most: int, wait: float) -> None:
    with pytest.raises(ValueError, match=r"batches of a\.v1"):
        on_batch("a.v1", Data, Database().handler(), most=most, wait=wait)


async def test_a_message_twice_in_a_batch_is_handled_once(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), most=4, wait=LONG)
    found = await outcomes(route, message(1), message(2), message(1), message(3))
    assert database.calls == [[1, 2, 3]]
    assert found == [Done(), Done(), Done(repeated=True), Done()]


async def test_what_was_done_before_is_left_out(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), most=2, wait=LONG)
    await outcomes(route, message(1), message(2))
    assert await outcomes(route, message(2), message(3)) == [Done(repeated=True), Done()]
    assert await outcomes(route, message(1), message(3)) == [Done(repeated=True)] * 2
    assert database.calls == [[1, 2], [3]]


async def test_the_claim_limits_its_transaction(database: Database) -> None:
    seen: list[dict[str, Any]] = []

    class Watched(Session):
        async def execute(self, statement: Any, values: dict[str, Any]) -> Any:
            seen.append(values)
            return await super().execute(statement, values)

    await batch.claim_all(Watched(database), "c", ["b", "a"], 60)  # type: ignore[arg-type]
    assert seen == [{"consumer": "c", "message_ids": ["b", "a"], "idle": "65000ms", "patience": "2000ms"}]


async def test_a_bad_message_does_not_spoil_the_rest(database: Database) -> None:
    async def act(number: int) -> None:
        if number == 2:
            raise PermanentError("bad")
        if number == 3:
            raise TransientError("busy", retry_after=7)

    route = on_batch("a.v1", Data, database.handler(act), most=4, wait=LONG)
    found = await outcomes(route, *(message(n) for n in (1, 2, 3, 4)))
    assert [type(outcome) for outcome in found] == [Done, PermanentError, TransientError, Done]
    assert database.calls[0] == [1, 2, 3, 4]
    assert sorted(database.calls[1:]) == [[1], [2], [3], [4]]
    assert database.done == {"/t 1", "/t 4"}


async def test_a_batch_of_one_is_tried_once(database: Database) -> None:
    async def act(_number: int) -> None:
        raise PermanentError("bad")

    route = on_batch("a.v1", Data, database.handler(act), wait=0.01)
    (found,) = await outcomes(route, message(1))
    assert isinstance(found, PermanentError)
    assert database.calls == [[1]]


async def test_a_database_that_is_away_concerns_all_and_nothing_is_tried_alone(database: Database) -> None:
    database.away = True
    route = on_batch("a.v1", Data, database.handler(), most=3, wait=LONG)
    found = await outcomes(route, *(message(n) for n in (1, 2, 3)))
    assert [type(outcome) for outcome in found] == [Down] * 3
    assert database.calls == []


async def test_what_was_delivered_before_joins_no_batch(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), most=2, wait=LONG)
    assert await outcomes(route, message(1, delivery=2), message(2, delivery=3)) == [Done()] * 2
    assert sorted(database.calls) == [[1], [2]]


async def test_few_are_done_alone_at_once(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), wait=LONG)
    found = await outcomes(route, *(message(n, delivery=2) for n in range(30)))
    assert found == [Done()] * 30
    assert database.most_open == ALONE_AT_ONCE


async def test_who_gets_no_turn_has_made_no_attempt(database: Database) -> None:
    # Given messages that never end, as many as may be done alone at once
    async def act(number: int) -> None:
        if number:
            await asyncio.Event().wait()

    route = on_batch("a.v1", Data, database.handler(act))
    hanging = start(route, *(message(n + 1, delivery=2) for n in range(ALONE_AT_ONCE)))
    # Then one more gives up its place before its own deadline
    (found,) = await outcomes(route, message(0, delivery=2), timeout=0.1)
    assert isinstance(found, Postpone)
    await end(hanging)


async def test_a_slot_that_is_cancelled_leaves_a_batch_that_has_not_begun(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), most=3, wait=LONG)
    first, second = start(route, message(1), message(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await outcomes(route, message(3), message(4)) == [Done()] * 2
    assert await second == Done()
    assert first.cancelled()
    assert database.calls == [[2, 3, 4]]


async def test_a_batch_that_everybody_has_left_never_begins(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), wait=0.02)
    slots = start(route, message(1), message(2))
    await asyncio.sleep(0)
    await end(slots)
    assert await outcomes(route, message(3), message(4)) == [Done()] * 2
    assert database.calls == [[3, 4]]


async def test_a_slot_that_is_cancelled_does_not_cancel_the_others_batch(database: Database) -> None:
    going, go_on = asyncio.Event(), asyncio.Event()

    async def act(_number: int) -> None:
        going.set()
        await go_on.wait()

    route = on_batch("a.v1", Data, database.handler(act), most=2, wait=LONG)
    first, second = start(route, message(1), message(2))
    await going.wait()
    first.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert await second == Done()
    # What it did of the one that left is committed, and a repeat finds it
    assert database.done == {"/t 1", "/t 2"}
    assert await outcomes(route, message(1, delivery=2)) == [Done(repeated=True)]


async def test_a_batch_that_nobody_waits_for_is_cancelled(database: Database) -> None:
    going, ended = asyncio.Event(), asyncio.Event()

    async def act(_number: int) -> None:
        going.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    route = on_batch("a.v1", Data, database.handler(act), most=2, wait=LONG)
    slots = start(route, message(1), message(2))
    await going.wait()
    await end(slots)
    async with asyncio.timeout(5):
        await ended.wait()
    await eventually(lambda: database.open == 0, 5)
    assert database.done == set()


async def test_a_batch_that_hangs_leaves_time_to_do_its_messages_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given one of three that never ends, in a database that is well
    async def act(number: int) -> None:
        if number == 2:
            await asyncio.Event().wait()

    async def as_it_is(outcome: Outcome, *, overrun: bool) -> Outcome:
        assert overrun
        return outcome

    monkeypatch.setattr(batch, "really_down", as_it_is)
    route = on_batch("a.v1", Data, database.handler(act), most=3, wait=LONG)
    first, hanging, third = start(route, message(1), message(2), message(3), timeout=0.4)
    # Then the others are done before their deadline
    async with asyncio.timeout(0.4):
        assert [await first, await third] == [Done()] * 2
    assert not hanging.done()
    await end([hanging])


async def test_a_handler_that_cancels_itself_leaves_nobody_waiting(database: Database) -> None:
    async def act(number: int) -> None:
        if len(database.calls) == 1 and number == 2:
            raise asyncio.CancelledError

    route = on_batch("a.v1", Data, database.handler(act), most=2, wait=LONG)
    assert await outcomes(route, message(1), message(2)) == [Done()] * 2


async def test_consumers_that_share_a_route_share_no_batch(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), most=2, wait=LONG)
    messages = [message(n, consumer=name) for n, name in ((1, "x"), (2, "y"), (3, "x"), (4, "y"))]
    assert await outcomes(route, *messages) == [Done()] * 4
    assert database.calls == [[1, 3], [2, 4]]


async def test_a_batch_belongs_to_no_trace(database: Database) -> None:
    seen: list[str | None] = []

    async def act(_number: int) -> None:
        await asyncio.sleep(0)
        seen.append(current_traceparent.get())

    route = on_batch("a.v1", Data, database.handler(act), most=2, wait=LONG)
    token = current_traceparent.set("00-trace-of-another-message-01")
    await outcomes(route, message(1), message(2))
    current_traceparent.reset(token)
    assert seen == [None, None]


def test_a_route_outlives_its_event_loop(database: Database) -> None:
    route = on_batch("a.v1", Data, database.handler(), most=2, wait=0.01)

    async def leave_one_behind() -> None:
        start(route, message(1))
        await asyncio.sleep(0)

    asyncio.run(leave_one_behind())
    assert asyncio.run(outcomes(route, message(2), message(3))) == [Done()] * 2
    assert database.calls == [[2, 3]]


async def test_unknown_errors_reach_each_message(database: Database) -> None:
    async def act(number: int) -> None:
        if number == 2:
            raise KeyError("a bug")

    route = on_batch("a.v1", Data, database.handler(act), most=2, wait=LONG)
    good, bad = await outcomes(route, message(1), message(2))
    assert good == Done()
    assert isinstance(bad, KeyError)
    assert isinstance(classify(bad), Dead)
