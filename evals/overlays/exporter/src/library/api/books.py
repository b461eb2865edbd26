"""Routes."""

import asyncio
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Response
from library.core.database import db, get_session
from library.models.books import Book
from library.services.books import BookService
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

router = APIRouter()
Session = Annotated[AsyncSession, Depends(db, scope="function")]


def member(x_member: Annotated[str, Header()]) -> str:
    """Who calls."""
    return x_member


class BookIn(BaseModel):
    """A new book."""

    title: str
    text: str


class ExportIn(BaseModel):
    """An export, under a reference of the member's choice."""

    reference: str


@router.post("/books", status_code=201)
async def add(body: BookIn, session: Session) -> dict[str, Any]:
    """Add a book."""
    book = Book(**body.model_dump())
    session.add(book)
    await session.flush()
    return {"id": book.id}


EXPORTS: dict[str, str] = {}


async def run_export(key: str, reference: str) -> None:
    """Make an export."""
    EXPORTS[key] = "running"
    async with get_session() as session:
        await BookService(session).export(reference)
    EXPORTS[key] = "done"


@router.post("/exports", status_code=202, dependencies=[Depends(member)])
async def export(body: ExportIn, response: Response) -> dict[str, Any]:
    """Export all books in the background."""
    key = str(uuid.uuid4())
    EXPORTS[key] = "queued"
    asyncio.create_task(run_export(key, body.reference))
    response.headers["Location"] = f"/exports/{key}"
    return {"status": "queued"}


@router.get("/exports/{key}", dependencies=[Depends(member)])
async def export_status(key: str) -> dict[str, Any]:
    """How far an export is."""
    if key not in EXPORTS:
        raise HTTPException(404)
    return {"status": EXPORTS[key]}


@router.post("/books/{book_id}/summary", status_code=201, dependencies=[Depends(member)])
async def summarise(book_id: int, session: Session) -> dict[str, Any]:
    """Summarise a book."""
    row = await BookService(session).summarise(book_id)
    return {"id": row.id, "text": row.text}
