"""The API."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from app.api import bookings
from app.services.bookings import UnknownBookingError

app = FastAPI(title="Bookings")
app.include_router(bookings.router)


@app.exception_handler(UnknownBookingError)
async def unknown(_: Request, error: UnknownBookingError) -> JSONResponse:
    """Answer 404."""
    return JSONResponse({"detail": str(error)}, 404)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer."""
    return {"status": "ok"}
