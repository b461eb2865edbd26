"""The route to follow a job while it runs, as server-sent events.

    app.include_router(job_events_router(current_owner))

Start uvicorn with `--timeout-graceful-shutdown`: without it an open stream holds up a shutdown for ever.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Response
from fastapi.sse import EventSourceResponse
from starlette.types import Send

from app.api.jobs import id_of, there
from app.api.worker_answers import Problem, asked
from app.core import job_manage
from app.core.job_events import Event, read
from app.core.job_follow import Followers
from app.core.job_manage import JobOut

# Then the client comes again, from where it was: perhaps to a newer process, and with rights looked at anew.
LONGEST = 900.0
PING = b": ping\n\n"
# Proxies must neither keep the stream nor collect it.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
TEXT = {"type": "string"}
EVENT = {"data": TEXT, "event": TEXT, "id": TEXT, "retry": {"type": "integer", "minimum": 0}}
# As OpenAPI 3.2 has it.
STREAM: dict[str, Any] = {
    "content": {"text/event-stream": {"itemSchema": {"type": "object", "properties": EVENT}}}
}
POSITION = re.compile(r"(?P<id>\d{1,18})(?P<end>-end)?")


def job_events_router(current_owner: Callable[..., Any], followers: Followers | None = None) -> APIRouter:
    """The route; `current_owner` is what `jobs_router` takes. It must not keep a database session: it lives
    as long as the stream does.
    """
    # Not Annotated: that is read in the module, where `current_owner` is not known.
    caller = Depends(current_owner)
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    readers = followers or Followers()

    async def position(
        job_id: str,
        after: Annotated[str | None, Query()] = None,
        last_event_id: Annotated[str | None, Header()] = None,
        owner: Any = caller,
    ) -> tuple[JobOut, int]:
        """The job, and where its reader is. Raises 204, which tells browsers not to come again, when it has
        seen the end.
        """
        job = there(await asked(job_manage.find(id_of(job_id), str(owner))))
        where = POSITION.fullmatch(last_event_id or after or "0")
        if where is None:
            raise Problem(422, "Last-Event-ID, after: the id of an event is needed")
        reached = int(where["id"])
        if where["end"] and job.ended:
            page = (await asked(read({job.id: reached}))).get(job.id)
            if page is None or not page.events:
                raise HTTPException(204)
        return job, reached

    place = Depends(position)

    @router.get("/{job_id}/events", response_class=Response, responses={200: STREAM})  # noqa: FAST003  # `place` has it
    async def follow_job(at: Any = place) -> Response:
        """Follow a job. Its events come in their order, from the first one or from behind `Last-Event-ID` or
        `after`; the last one is `end`, with the job's state.
        """
        job, after = at
        return EventStream(stream(readers, job.id, after), headers=HEADERS)

    return router


async def stream(readers: Followers, job: uuid.UUID, after: int) -> AsyncGenerator[bytes, None]:
    """Server-sent events, ready to be sent. FastAPI's own form, a route that yields, has two tasks and two
    queues for each reader: with a thousand of them it cannot keep up.
    """
    ends = time.monotonic() + LONGEST
    yield b"retry: 1000\n\n"
    async with aclosing(readers.follow(job, after)) as events:
        async for event in events:
            if isinstance(event, Event):
                after = event.id
                yield event.sse
            elif event is None:
                yield PING
            else:
                end = json.dumps({"state": event.state, "error": event.error})
                yield f"event: end\ndata: {end}\nid: {after}-end\n\n".encode()
            if time.monotonic() > ends:
                return


class EventStream(EventSourceResponse):
    """Closes what it streams at once, however the stream ends: it may hold what others pay for."""

    async def stream_response(self, send: Send) -> None:
        """See StreamingResponse."""
        try:
            await super().stream_response(send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()
