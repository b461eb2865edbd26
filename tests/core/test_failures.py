"""Which failures are retried, waited for, or given up."""

import asyncio
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, InterfaceError, NotSupportedError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core import failures
from app.core.exceptions import ConflictError, ExternalServiceError, NotFoundError
from app.core.failures import classify
from app.core.outcomes import Dead, Down, PermanentError, Postpone, Retry, TransientError


class Original(Exception):
    """A driver's error."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("driver")
        self.sqlstate = sqlstate


def database(sqlstate: str | None, *, invalidated: bool = False) -> DBAPIError:
    error = DBAPIError("SELECT 1", {}, Original(sqlstate))
    error.connection_invalidated = invalidated
    return error


class OfPsycopg(Exception):
    """psycopg's OperationalError: without a SQLSTATE the connection is at fault."""

    sqlstate = None


OfPsycopg.__module__, OfPsycopg.__name__ = "psycopg", "OperationalError"


def stale_statement() -> DBAPIError:
    """What SQLAlchemy raises, once in a process, when a column's type was changed."""
    original = AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError("the plan is old")  # type: ignore[no-untyped-call]
    return NotSupportedError("SELECT 1", {}, original)


def provider(status: int, **headers: str) -> httpx2.HTTPStatusError:
    request = httpx2.Request("POST", "http://provider")
    return httpx2.HTTPStatusError(
        "x", request=request, response=httpx2.Response(status, headers=headers, request=request)
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TransientError("x"), Retry),
        (PermanentError("x"), Dead),
        (KeyError("a bug"), Dead),
        (ValueError("x"), Dead),
        (NotFoundError("order 7"), Dead),
        (ConflictError("order 7"), Dead),
        (ConnectionRefusedError(), Retry),
        (TimeoutError(), Retry),
        (MemoryError(), Retry),
        (PoolTimeoutError(), Postpone),
        (database("08006"), Down),
        (database("57P01"), Down),
        (database("57P03"), Down),
        (database("53300"), Down),
        (database("53100"), Down),
        (database("25006"), Down),
        (database(None, invalidated=True), Down),
        (InterfaceError(None, None, Original(None)), Down),
        (InterfaceError("SELECT 32,768 parameters", {}, Original(None)), Retry),
        (database("28P01"), Down),
        (database("3D000"), Down),
        (database("58030"), Retry),
        (database("XX000"), Retry),
        (database("0A000"), Retry),
        (database("42P01"), Retry),
        (database("42703"), Retry),
        (stale_statement(), Retry),
        (ExceptionGroup("tasks", [ConnectionRefusedError()]), Retry),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [KeyError("x"), database("08006")])]), Down),
        (ExceptionGroup("tasks", [KeyError("a bug")]), Dead),
        # What is raised while a connection is made does not always come as SQLAlchemy's
        (OperationalError(None, None, OfPsycopg()), Down),
        (OfPsycopg("x"), Down),
        (asyncpg.InterfaceError("connection is closed"), Down),
        (asyncpg.ConnectionDoesNotExistError("x"), Down),
        (asyncpg.AdminShutdownError("x"), Down),
        (asyncpg.CannotConnectNowError("x"), Down),
        (asyncpg.TooManyConnectionsError("x"), Down),
        (asyncpg.DeadlockDetectedError("x"), Retry),
        (asyncpg.UniqueViolationError("x"), Dead),
        (asyncpg.DataError("a value that does not fit"), Dead),
        (asyncpg.exceptions.TargetServerAttributeNotMatched("x"), Down),
        (asyncpg.InternalClientError("x"), Dead),
        (database("40001"), Retry),
        (database("40P01"), Retry),
        (database("55P03"), Retry),
        (database("57014"), Retry),
        (database("23505"), Dead),
        (database("22003"), Dead),
        (database(None), Dead),
        (provider(503), Retry),
        (provider(529), Retry),
        (provider(400), Dead),
        (provider(404), Dead),
        (ExternalServiceError("mail", 503), Retry),
        (ExternalServiceError("mail", 400), Dead),
        (ExternalServiceError("mail", 429, 3.0), Retry),
    ],
)
def test_outcomes(error: Exception, kind: type) -> None:
    assert isinstance(classify(error), kind)


def test_retry_after_is_carried_along() -> None:
    assert classify(provider(429, **{"retry-after": "7"})) == Retry("HTTPStatusError: x", 7.0)
    assert classify(ExternalServiceError("mail", 429, 3.0)) == Retry(
        "ExternalServiceError: mail answered 429", 3.0
    )
    assert classify(TransientError("later", 9)) == Retry("TransientError: later", 9)


def test_the_cause_decides_when_the_error_itself_says_nothing() -> None:
    error = ExternalServiceError("mail")
    error.__cause__ = httpx2.ConnectTimeout("x")
    assert isinstance(classify(error), Retry)


def test_what_was_being_handled_is_no_cause() -> None:
    # Given a final verdict raised while a timeout was being handled
    error = ConflictError("declined")
    error.__context__ = TimeoutError()
    assert isinstance(classify(error), Dead)


def test_the_text_of_an_error_decides_nothing() -> None:
    assert isinstance(classify(ValueError("connection timeout, please retry: 503")), Dead)


def test_a_cycle_of_causes_ends() -> None:
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    assert isinstance(classify(a), Dead)


def test_the_projects_own_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "TRANSIENT", (ConflictError,))
    monkeypatch.setattr(failures, "PERMANENT", (TimeoutError,))
    assert isinstance(classify(ConflictError("x")), Retry)
    assert isinstance(classify(TimeoutError()), Dead)


async def test_a_deadline_in_the_database_is_not_one_at_a_provider() -> None:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    # Given a database that accepts connections and never answers
    clients: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = create_async_engine(f"postgresql+asyncpg://nobody@127.0.0.1:{port}/none")

    async def query() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def call() -> None:
        async with httpx2.AsyncClient(timeout=None) as client:
            await client.get(f"http://127.0.0.1:{port}/")

    assert isinstance(classify(await deadline(query)), Down)
    assert isinstance(classify(await deadline(call)), Retry)
    await engine.dispose()
    for writer in clients:
        writer.close()
        await writer.wait_closed()
    server.close()


async def deadline(work: Any) -> BaseException:
    """What `work` raises when its time is up."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.2):
            await work()
    return caught.value
