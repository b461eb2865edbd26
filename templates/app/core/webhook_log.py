"""What became of an endpoint's webhooks: each delivery with its tries, and the way to send one again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from app.core.database import get_session
from app.core.job import submit
from app.core.job_manage import ENDED
from app.core.outcomes import WorkerError
from app.core.webhooks import KIND, TRIED, Delivery, deliver

LOG = text(
    """
    SELECT job.id, job.payload->>'message_id' AS message_id, job.payload->>'type' AS type, job.state,
           job.error, job.created_at, job.finished_at,
           CASE WHEN job.state = 'queued' THEN job.next_try_at END AS next_try_at,
           coalesce(log.tries, '[]') AS tries
    FROM job LEFT JOIN LATERAL (
        SELECT jsonb_agg(e.data || jsonb_build_object('at', e.created_at) ORDER BY e.id) AS tries
        FROM job_event AS e WHERE e.job_id = job.id AND e.type = :tried) AS log ON true
    WHERE job.owner = :owner AND job.kind = :kind AND job.payload->>'endpoint_id' = :endpoint
      AND (CAST(:state AS varchar) IS NULL OR job.state = :state)
    ORDER BY job.created_at DESC, job.id DESC LIMIT :limit
    """
)
FIND = text(
    """
    SELECT state, payload FROM job
    WHERE id = :id AND owner = :owner AND kind = :kind AND payload->>'endpoint_id' = :endpoint
    """
)


class GoingOnError(WorkerError):
    """The delivery has not ended yet."""


@dataclass(frozen=True, slots=True)
class DeliveryInfo:
    """A delivery. `tries` are those that came to an end: when, the receiver's status or why there was none,
    and how long it took. The last one says how it stands.
    """

    id: uuid.UUID
    message_id: str
    type: str
    state: str
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    next_try_at: datetime | None
    tries: list[dict[str, Any]]


async def deliveries(
    endpoint_id: uuid.UUID, owner: str, *, state: str | None = None, limit: int = 50
) -> Sequence[DeliveryInfo]:
    """The latest deliveries to an endpoint of the owner's, the newest first."""
    values = {
        "endpoint": str(endpoint_id),
        "owner": owner,
        "kind": KIND,
        "tried": TRIED,
        "state": state,
        "limit": limit,
    }
    async with get_session() as session:
        rows = (await session.execute(LOG, values)).all()
    return [DeliveryInfo(**row._mapping) for row in rows]  # noqa: SLF001  # SQLAlchemy's public name for it


async def replay(id_: uuid.UUID, endpoint_id: uuid.UUID, owner: str) -> uuid.UUID | None:
    """Send a delivery that has ended again, under its old `webhook-id`; the id of the new delivery. None
    without such a delivery. Raises GoingOnError.
    """
    values = {"id": id_, "endpoint": str(endpoint_id), "owner": owner, "kind": KIND}
    async with get_session() as session:
        row = (await session.execute(FIND, values)).one_or_none()
        if row is None:
            return None
        if row.state not in ENDED:
            raise GoingOnError(f"the delivery is {row.state}")
        return (await submit(session, deliver, Delivery.model_validate(row.payload), owner=owner)).id
