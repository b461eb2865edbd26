"""The shop's API. Run it with `uvicorn app.main:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api import customers, documents, health, orders, reports
from app.api.problems import install_problem_handlers
from app.core.database import engine


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the database connections when the server stops; they are opened on first use."""
    yield
    await engine.dispose()


app = FastAPI(title="Shop", lifespan=lifespan)
install_problem_handlers(app)
for module in (customers, orders, documents, reports, health):
    app.include_router(module.router)
