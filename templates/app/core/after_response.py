"""Work after the response, in the API's own process, for what may be lost: a counter, a cache, a date.

    @router.get("/documents/{document_id}")
    async def read(document_id: PathId, session: SessionDep, tasks: BackgroundTasks) -> Document:
        after_response(tasks, count_view, document_id)
        return await DocumentService(session).get(document_id)

`count_view(session, document_id)` gets a session of its own. It runs once the response is on its way; when it
fails, one line in the log says so, and nothing tries again. What a killed process, a full grace period or a
failure must not lose (an e-mail, a payment, an event for others) belongs into the outbox: `enqueue`. So does
what takes longer than `TIMEOUT_SECONDS` or comes in bursts: it shares the loop and the pool with requests.

The route's session has to be `Depends(..., scope="function")`. In FastAPI's default scope (>= 0.118) the
request commits after this work, which then sees the old state. uvicorn waits for such work on SIGTERM, unless
`--timeout-graceful-shutdown` ends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Concatenate, ParamSpec

from fastapi import BackgroundTasks
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session

P = ParamSpec("P")
Work = Callable[Concatenate[AsyncSession, P], Awaitable[object]]

TIMEOUT_SECONDS = 10.0  # below the platform's grace period

logger = logging.getLogger(__name__)


def after_response(tasks: BackgroundTasks, work: Work[P], *args: P.args, **kwargs: P.kwargs) -> None:
    """Have `work` run in a transaction of its own when the response has been sent. Pass ids, not models."""
    tasks.add_task(partial(attempt, work, *args, **kwargs))


async def attempt(work: Work[P], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run it once. Its errors end here: the response is out, and the next task must not suffer."""
    name = getattr(work, "__qualname__", repr(work))
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), get_session() as session:
            await work(session, *args, **kwargs)
    except asyncio.CancelledError:
        logger.error("%s is lost: the server stops", name)  # noqa: TRY400  # where it was does not matter
        raise
    except Exception:  # a bug of `work`, too: nobody is left who could be told
        logger.exception("%s is lost, and not tried again", name)
