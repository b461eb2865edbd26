"""Routes."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from library.core.database import db
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


@router.post("/exports", status_code=201, dependencies=[Depends(member)])
async def export(body: ExportIn, session: Session) -> dict[str, Any]:
    """Export all books."""
    row = await BookService(session).export(body.reference)
    return {"id": row.id, "lines": row.lines}


@router.post("/books/{book_id}/summary", status_code=201, dependencies=[Depends(member)])
async def summarise(book_id: int, session: Session) -> dict[str, Any]:
    """Summarise a book."""
    row = await BookService(session).summarise(book_id)
    return {"id": row.id, "text": row.text}
