"""A worker's main process and what it cannot use, without a broker."""

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker.consumer import Consumer as CelerysConsumer

from app.core import celery_consumer, celery_letters
from app.core.celery_consumer import Consumer


class Timer:
    """What is to be called later, and when."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Any, tuple[Any, ...]]] = []

    def call_after(self, seconds: float, call: Any, args: tuple[Any, ...]) -> None:
        """See kombu."""
        self.calls.append((seconds, call, args))


def consumer(handle: Any = None) -> Any:
    """A consumer that never started."""
    made: Any = object.__new__(Consumer)
    made.timer, made.connection_errors, made.channel_errors = Timer(), (ConnectionError,), ()
    made.handle, made.health = handle, SimpleNamespace(pulse=lambda: None)
    return made


def message(log: list[str]) -> Any:
    """A message, and what becomes of it."""

    def reject(*_: object, requeue: bool) -> None:
        log.append("back" if requeue else "dropped")

    return SimpleNamespace(
        headers={"task": "future", "id": "7"},
        body="{}",
        content_type="application/json",
        content_encoding="utf-8",
        ack_log_error=lambda *_: log.append("done"),
        reject_log_error=reject,
    )


def test_what_cannot_be_kept_now_goes_back_and_holds_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a broker that does not take the letter
    def put(*_: object, **__: object) -> None:
        raise TimeoutError("silent")

    monkeypatch.setattr(celery_consumer, "put", put)
    worker, log = consumer(), list[str]()
    # When a message is to be set aside
    worker.keep(message(log), "unknown task")
    # Then it goes back to the queue, after a pause: no hot loop
    assert log == []
    ((seconds, call, args),) = worker.timer.calls
    call(*args)
    assert seconds >= 1
    assert log == ["back"]


@pytest.mark.parametrize(
    ("body", "raw"),
    [
        (b"{", b"{"),
        (memoryview(b"{"), b"{"),
        ("{", b"{"),
        ("\ud800", b"\xed\xa0\x80"),
        (None, b""),
        ({"a": 1}, b'{"a": 1}'),
        (10**12, b"1000000000000"),
    ],
)
def test_whatever_the_body_is_it_is_kept(body: Any, raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    letters: list[dict[str, Any]] = []
    monkeypatch.setattr(celery_consumer, "put", lambda _, letter, **__: letters.extend(letter))
    log = list[str]()
    odd = message(log)
    odd.body = body
    consumer().on_decode_error(odd, ValueError("no text"))
    assert [base64.b64decode(letter["body"]) for letter in letters] == [raw]
    assert log == ["done"]


@pytest.mark.parametrize("error", [MemoryError(), BlockingIOError()])
def test_trouble_of_the_machine_is_no_fault_of_the_message(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(*_: object, **__: object) -> Any:
        def handle(_: object) -> None:
            raise error

        return handle

    monkeypatch.setattr(CelerysConsumer, "create_task_handler", handler)
    log = list[str]()
    with pytest.raises(type(error)):
        consumer().create_task_handler()(message(log))
    assert log == []


@pytest.mark.parametrize("letter", [[], None, {}, {"body": "%"}, {"body": 7}])
async def test_a_letter_that_is_none_is_kept_too(letter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, Any]] = []

    async def bury(_: object, **letter: Any) -> None:
        kept.append(letter)

    class Session:
        async def __aenter__(self) -> None:
            """Nothing is written."""

        async def __aexit__(self, *_: object) -> None:
            """Nothing is committed."""

    monkeypatch.setattr(celery_letters, "get_session", Session)
    monkeypatch.setattr(celery_letters, "bury", bury)
    monkeypatch.setattr(celery_letters, "PAUSE", 0)
    await celery_letters.keep(letter)
    (found,) = kept
    assert json.loads(found["body"]) == letter
    assert found["source"] == celery_consumer.KEEP
