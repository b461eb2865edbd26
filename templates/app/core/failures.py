"""Which failures to retry, which to wait for, and which to give up: the one place that decides it.

Put the project's own error classes into TRANSIENT and PERMANENT. Everything else is judged by what
libraries say in numbers (SQLSTATE, HTTP status), never by the text of an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.outcomes import Dead, Down, Outcome, PermanentError, Postpone, Retry, TransientError
from app.core.retry import parse_retry_after

TRANSIENT: tuple[type[Exception], ...] = ()
PERMANENT: tuple[type[Exception], ...] = ()

# PostgreSQL, appendix A: connection exceptions, a password that is being changed, a database that is being
# restored, insufficient resources, operator intervention (restart, failover), and read-only transactions (the
# old primary after a failover).
DATABASE_DOWN = ("08", "28", "3D000", "53", "57P", "25006")
# Serialization failure, deadlock, lock not available, statement timeout, idle-in-transaction timeout, a
# statement prepared before a migration, a table or column of one to come, errors of its disks and its own.
DATABASE_BUSY = ("40001", "40P01", "55P03", "57014", "25P03", "25P04", "0A000", "42P01", "42703", "58", "XX")
RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
# What a driver calls a connection that was lost or never made; such errors have no SQLSTATE.
CONNECTION_LOST = frozenset({"InterfaceError", "OperationalError", "TargetServerAttributeNotMatched"})
# SQLAlchemy's for 0A000, without it.
STALE_STATEMENT = "InvalidCachedStatementError"
CLASS_NOTE = "'>: "  # ends the class that SQLAlchemy's asyncpg dialect puts before the driver's text
DRIVERS = frozenset({"asyncpg", "psycopg", "psycopg2"})
DATABASE_MODULES = frozenset({"sqlalchemy", *DRIVERS})


def classify(error: BaseException) -> Outcome:
    """What to do about `error`: the first link of its cause chain that says something decides.

    Returns Retry for what may pass, Down for a database that is away, Dead for everything else: an unknown
    error is a bug or a bad message, and repeating it helps neither.
    """
    for link in chain(error):
        outcome = judge(link)
        if outcome is not None:
            return outcome
    return Dead(describe(error))


def judge(error: BaseException) -> Outcome | None:
    """The outcome that this one error calls for, or None when it says nothing about retrying."""
    if isinstance(error, (*PERMANENT, PermanentError)):
        return Dead(describe(error))
    if isinstance(error, (*TRANSIENT, TransientError)):
        return Retry(describe(error), http_retry_after(error))
    # Not everything that a driver raises while a connection is made becomes an error of SQLAlchemy's.
    if isinstance(error, DBAPIError) or module_of(type(error)) in DRIVERS:
        return judge_database(error)
    if isinstance(error, PoolTimeoutError):
        return Postpone("no free database connection: lower the concurrency or enlarge the pool", 1.0)
    if isinstance(error, MemoryError):  # what its neighbours in the process hold will be free
        return Retry(describe(error))
    return judge_http(error) or judge_connection(error)


def judge_http(error: BaseException) -> Outcome | None:
    """The outcome for an answer with an error status."""
    status = http_status(error)
    if status is None:
        return None
    if status in RETRYABLE_STATUS:
        return Retry(describe(error), http_retry_after(error))
    return Dead(describe(error))


def judge_connection(error: BaseException) -> Outcome | None:
    """The outcome for a connection that failed or a deadline that passed."""
    if not (isinstance(error, OSError | TimeoutError | EOFError) or is_transport_error(error)):
        return None
    if passed_through_database(error):
        return Down(f"database: {describe(error)}")
    return Retry(describe(error))


def judge_database(error: BaseException) -> Outcome:
    """The outcome for an error of the database's driver, or of SQLAlchemy about one, by its SQLSTATE."""
    original = getattr(error, "orig", None) or error
    state = str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")  # psycopg2's
    names = {class_.__name__ for known in (error, original) for class_ in type(known).__mro__}
    if getattr(error, "connection_invalidated", False) or state.startswith(DATABASE_DOWN):
        return Down(f"database: {describe(error)}")
    if state.startswith(DATABASE_BUSY) or STALE_STATEMENT in names:
        return Retry(describe(error))
    # asyncpg's for values that do not fit is an InterfaceError, too.
    if state or "DataError" in names or names.isdisjoint(CONNECTION_LOST):
        return Dead(describe(error))
    # A statement that failed on a connection that goes on, say for too many parameters, must count.
    if getattr(error, "statement", None) is not None:
        return Retry(describe(error))
    return Down(f"database: {describe(error)}")


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, the errors of a group, and their explicit causes. The implicit context is left out: it is
    what was being handled, not why this error was raised.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        waiting = [*inner, link.__cause__, *waiting]


def describe(error: BaseException) -> str:
    """One line for people: the class and the first line of the text."""
    # SQLAlchemy's own text repeats the statement; what happened is in the driver's error.
    lines = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return f"{type(error).__name__}: {lines[0].rpartition(CLASS_NOTE)[2][:300]}"


def http_status(error: BaseException) -> int | None:
    """The HTTP status that the error carries itself or in its `response` (httpx, httpx2, SDK errors)."""
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) and status:
            return status
    return None


def http_retry_after(error: BaseException) -> float | None:
    """Seconds from the error's `retry_after` or from its response's `Retry-After` header."""
    after = getattr(error, "retry_after", None)
    if isinstance(after, int | float):
        return float(after)
    headers = getattr(getattr(error, "response", None), "headers", None)
    return parse_retry_after(headers) if headers is not None else None


def module_of(class_: type) -> str:
    """The name of the package that a class is from."""
    return class_.__module__.partition(".")[0]


def is_transport_error(error: BaseException) -> bool:
    """Whether an HTTP or Redis client says that the connection failed. Known by class name, because the
    project may use httpx or httpx2 and neither has to be installed.
    """
    roots = {(module_of(c), c.__name__) for c in type(error).__mro__}
    wanted = {("httpx", "TransportError"), ("httpx2", "TransportError")}
    wanted |= {("redis", "ConnectionError"), ("redis", "TimeoutError")}
    return not roots.isdisjoint(wanted)


def passed_through_database(error: BaseException) -> bool:
    """Whether the database driver was waiting when the error came up: tells a silent database from a silent
    provider. A deadline cancels the handler wherever it waits, and the cancellation's traceback says where.

    Only the standard library may lie deeper than the driver. Its frames further out mean nothing: a session
    that rolls back raises the same error again.
    """
    return any(waited_in_driver(link.__traceback__) for link in chain(error))


def waited_in_driver(traceback: TracebackType | None) -> bool:
    """Whether the innermost frame outside the standard library is the driver's."""
    innermost = ""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if module not in sys.stdlib_module_names:
            innermost = module
        traceback = traceback.tb_next
    return innermost in DATABASE_MODULES
