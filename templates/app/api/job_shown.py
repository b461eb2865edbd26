"""What clients see of a job."""

from __future__ import annotations

import hashlib
import math
import uuid
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict

from app.core.job_manage import JobInfo

LONGEST_PAUSE = 10
State = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"]


class JobOut(BaseModel):
    """A job. `result` is there when it has succeeded; `error` says why it ended otherwise, or why it is tried
    again. `deadline_at` is when it is given up, `ahead` how many jobs of yours go first while it waits.
    """

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    kind: str
    state: State
    progress: float
    note: str | None
    attempt: int
    result: Any
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    deadline_at: datetime
    ahead: int | None


def shown(job: JobInfo, status: int = 200, *, if_none_match: str | None = None) -> Response:
    """A job's representation, or 304 when the client has it."""
    response = answer(JobOut.model_validate(job), status)
    response.headers["ETag"] = tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
    response.headers["Cache-Control"] = "private, no-cache"
    if not job.ended:
        # Whoever waits for long asks less often.
        age = (datetime.now(UTC) - job.created_at).total_seconds()
        response.headers["Retry-After"] = str(math.ceil(min(LONGEST_PAUSE, max(1.0, age / 10))))
    if if_none_match and (if_none_match == "*" or tag in if_none_match):
        return Response(status_code=304, headers={"ETag": tag})
    return response


def answer(body: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with JSON."""
    return Response(body.model_dump_json(), status, headers, media_type="application/json")
