"""What can be done with books."""

import asyncio

import httpx2
from library.core.config import settings
from library.models.books import Arrival, Book, Export, Summary
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

EXPORT_SECONDS = 1.0  # what the real one takes is a hundred times that


class UnknownBookError(Exception):
    """There is no such book."""


class BookService:
    """Books, in the transaction of the session."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, book_id: int) -> Book:
        """Find a book; UnknownBookError without one."""
        book = await self.session.get(Book, book_id)
        if book is None:
            raise UnknownBookError(f"book {book_id}")
        return book

    async def receive(self, book_id: int, copies: int) -> None:
        """Copies came in."""
        book = await self.get(book_id)
        book.copies += copies
        self.session.add(Arrival(book_id=book_id, copies=copies))

    async def export(self, reference: str) -> Export:
        """Make the list of all books."""
        lines = await self.session.scalar(select(func.count()).select_from(Book))
        await asyncio.sleep(EXPORT_SECONDS)
        row = Export(reference=reference, lines=lines or 0)
        self.session.add(row)
        await self.session.flush()
        return row

    async def summarise(self, book_id: int, *, idempotency_key: str | None = None) -> Summary:
        """Have the model write a summary. It charges once per key, and on each call without one."""
        book = await self.get(book_id)
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        async with httpx2.AsyncClient(timeout=settings.llm_timeout_seconds) as client:
            prompt = f"Summarise book {book_id}: {book.title}\n\n{book.text}"
            answer = await client.post(
                f"{settings.llm_url}/complete", json={"prompt": prompt}, headers=headers
            )
            answer.raise_for_status()
        row = Summary(book_id=book_id, text=answer.json()["text"])
        self.session.add(row)
        await self.session.flush()
        return row
