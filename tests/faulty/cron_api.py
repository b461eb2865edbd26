"""An API with the scheduler in its lifespan, and the routes of cron jobs behind a token."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException

from app.api.cron import cron_router
from app.core.cron_jobs import collect
from app.core.cron_lifespan import running
from app.core.cron_scheduler import CronScheduler
from app.core.database import engine

FOLDER = Path(os.environ["FAULTY_FOLDER"])


class Breakable(CronScheduler):
    """A scheduler that fails when the file `break_scheduler` is there."""

    async def _sleep(self) -> None:
        if (FOLDER / "break_scheduler").exists():
            raise RuntimeError("a bug")
        await super()._sleep()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """What a small application does."""
    async with running(Breakable(collect())):
        yield
    await engine.dispose()


def require_admin(x_token: Annotated[str, Header()] = "") -> None:
    """The project's own authorisation."""
    if x_token != "admin":
        raise HTTPException(403, "only for administrators")


app = FastAPI(lifespan=lifespan)
app.include_router(cron_router(require_admin))


@app.get("/pid")
async def pid() -> int:
    """Which process this is."""
    return os.getpid()
