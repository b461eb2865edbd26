"""The API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from app.api import bookings
from app.core.database import get_session
from app.services.bookings import BookingService, UnknownBookingError


async def count_occupancy() -> None:
    """For the dashboard."""
    async with get_session() as session:
        await BookingService(session).count_occupancy()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Count while we run."""
    scheduler = AsyncIOScheduler()
    scheduler.add_job(count_occupancy, "interval", seconds=10)
    scheduler.start()
    yield
    scheduler.shutdown()


app = FastAPI(title="Bookings", lifespan=lifespan)
app.include_router(bookings.router)


@app.exception_handler(UnknownBookingError)
async def unknown(_: Request, error: UnknownBookingError) -> JSONResponse:
    """Answer 404."""
    return JSONResponse({"detail": str(error)}, 404)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer."""
    return {"status": "ok"}
