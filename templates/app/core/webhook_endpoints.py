"""Where owners want to be told of events: endpoints are added, looked at, switched off and on, and their keys
replaced. Every function sees the endpoints of `owner` only; another's are as if they were not there.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Row, TextClause, text

from app.core.database import get_session
from app.core.outcomes import WorkerError
from app.core.webhook_settings import webhook_settings
from app.core.webhook_sign import new_secret
from app.core.webhook_target import RefusedTargetError, parse

# A stranger who registers one address many times would have it hit as often.
MOST = 20
LONGEST_URL = 2000
COLUMNS = "id, url, created_at, rotated_at, failing_since, disabled_at, last_error"
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))")
ADD = text(
    f"""
    INSERT INTO webhook_endpoint (id, owner, url, secrets)
    SELECT CAST(:id AS uuid), CAST(:owner AS varchar), :url, ARRAY[CAST(:secret AS text)]
    WHERE (SELECT count(*) FROM webhook_endpoint WHERE owner = :owner) < :most
    RETURNING {COLUMNS}
    """  # noqa: S608  # ours, as below
)
ALL = text(f"SELECT {COLUMNS} FROM webhook_endpoint WHERE owner = :owner ORDER BY created_at, id")  # noqa: S608
# The key before the last one is forgotten: nobody has two changes under way.
ROTATE = text(
    f"""
    UPDATE webhook_endpoint SET secrets = ARRAY[CAST(:secret AS text), secrets[1]], rotated_at = now()
    WHERE id = :id AND owner = :owner RETURNING {COLUMNS}
    """  # noqa: S608
)
DISABLE = text(
    f"""
    UPDATE webhook_endpoint SET disabled_at = coalesce(disabled_at, now())
    WHERE id = :id AND owner = :owner RETURNING {COLUMNS}
    """  # noqa: S608
)
ENABLE = text(
    f"""
    UPDATE webhook_endpoint SET disabled_at = NULL, failing_since = NULL, last_error = NULL
    WHERE id = :id AND owner = :owner RETURNING {COLUMNS}
    """  # noqa: S608
)
REMOVE = text(f"DELETE FROM webhook_endpoint WHERE id = :id AND owner = :owner RETURNING {COLUMNS}")  # noqa: S608


class TooManyEndpointsError(WorkerError):
    """The owner has as many endpoints as there may be."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as its owner sees it. `failing_since` is since when it has taken nothing; when that was too
    long it is disabled, and `last_error` says why.
    """

    id: uuid.UUID
    url: str
    created_at: datetime
    rotated_at: datetime | None
    failing_since: datetime | None
    disabled_at: datetime | None
    last_error: str | None


async def add(owner: str, url: str) -> tuple[Endpoint, SecretStr]:
    """Send the owner's events to a URL from now on; the secret is what the receiver checks with.

    Raises RefusedTargetError for what is no https URL, and TooManyEndpointsError. What the URL's name stands
    for is checked at each delivery.
    """
    if len(url) > LONGEST_URL:
        raise RefusedTargetError(f"a URL of at most {LONGEST_URL} characters is needed")
    if parse(url).scheme != "https" and not webhook_settings().webhook_allowed_networks:
        raise RefusedTargetError("an https URL is needed")
    secret = new_secret()
    values = {"id": uuid.uuid4(), "owner": owner, "url": url, "secret": secret.get_secret_value()}
    async with get_session() as session:
        await session.execute(LOCK, {"lock": f"webhook endpoints of {owner}"})
        row = (await session.execute(ADD, {**values, "most": MOST})).one_or_none()
    if row is None:
        raise TooManyEndpointsError(f"{MOST} endpoints are there already")
    return of(row), secret


async def endpoints(owner: str) -> Sequence[Endpoint]:
    """All of the owner's, the oldest first."""
    async with get_session() as session:
        return [of(row) for row in await session.execute(ALL, {"owner": owner})]


async def rotate(id_: uuid.UUID, owner: str) -> tuple[Endpoint, SecretStr] | None:
    """Sign with a new secret from now on, and for WEBHOOK_ROTATION_HOURS with the present one, too."""
    secret = new_secret()
    endpoint = await changed(ROTATE, id_, owner, secret=secret.get_secret_value())
    return None if endpoint is None else (endpoint, secret)


async def disable(id_: uuid.UUID, owner: str) -> Endpoint | None:
    """Send nothing more; what still waits to be sent fails, and can be replayed."""
    return await changed(DISABLE, id_, owner)


async def enable(id_: uuid.UUID, owner: str) -> Endpoint | None:
    """Send again what happens from now on."""
    return await changed(ENABLE, id_, owner)


async def remove(id_: uuid.UUID, owner: str) -> Endpoint | None:
    """Forget an endpoint. What was not delivered fails."""
    return await changed(REMOVE, id_, owner)


async def changed(statement: TextClause, id_: uuid.UUID, owner: str, **values: str) -> Endpoint | None:
    """The owner's endpoint of that id, after the statement."""
    async with get_session() as session:
        row = (await session.execute(statement, {"id": id_, "owner": owner, **values})).one_or_none()
    return None if row is None else of(row)


def of(row: Row[Any]) -> Endpoint:
    """The endpoint in a row."""
    return Endpoint(**row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
