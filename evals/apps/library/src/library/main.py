"""The API."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from library.api import books
from library.services.books import UnknownBookError

app = FastAPI(title="Library")
app.include_router(books.router)


@app.exception_handler(UnknownBookError)
async def unknown(_: Request, error: UnknownBookError) -> JSONResponse:
    """Answer 404."""
    return JSONResponse({"detail": str(error)}, 404)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer."""
    return {"status": "ok"}
