"""What clients see of a job."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime

from fastapi import Response
from pydantic import BaseModel

from app.core.job_manage import JobOut

LONGEST_PAUSE = 10


def shown(job: JobOut, status: int = 200, *, if_none_match: str | None = None) -> Response:
    """A job's representation, or 304 when the client has it."""
    response = answer(job, status)
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
