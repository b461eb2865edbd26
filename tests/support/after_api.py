"""The shop with routes that leave work for after the response, to be run by uvicorn."""

import asyncio
from typing import Annotated

from fastapi import BackgroundTasks, Depends
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.dependencies import SessionDep
from app.core.after_response import after_response
from app.core.database import session_dependency
from app.main import app
from app.models.customers import Customer

DefaultScope = Annotated[AsyncSession, Depends(session_dependency)]


async def count(session: AsyncSession, name: str) -> None:
    """Note how many customers of a name there are, and that the database is not in another transaction."""
    found = await session.scalar(select(func.count()).where(Customer.name == name))
    session.add(Customer(name=f"{name} was seen {found} times", email=f"{name}@count.test"))


async def fail(_session: AsyncSession) -> None:
    """A bug."""
    raise LookupError("no such cache")


async def linger(session: AsyncSession, name: str, seconds: float) -> None:
    """Take long, then write."""
    await asyncio.sleep(seconds)
    session.add(Customer(name=name, email=f"{name}@late.test"))


@app.post("/right/{name}", status_code=201)
async def right(name: str, session: SessionDep, tasks: BackgroundTasks) -> dict[str, str]:
    """As the template says; the first task fails."""
    session.add(Customer(name=name, email=f"{name}@right.test"))
    after_response(tasks, fail)
    after_response(tasks, count, name)
    return {"name": name}


@app.post("/wrong/{name}", status_code=201)
async def wrong(name: str, session: DefaultScope, tasks: BackgroundTasks) -> dict[str, str]:
    """With FastAPI's default scope for the session."""
    session.add(Customer(name=name, email=f"{name}@wrong.test"))
    after_response(tasks, count, name)
    return {"name": name}


@app.post("/slow/{name}", status_code=202)
async def slow(name: str, tasks: BackgroundTasks, seconds: float) -> dict[str, str]:
    """It answers at once, and is busy for a while."""
    after_response(tasks, linger, name, seconds)
    return {"name": name}
