"""Summarises a document with a language model, as a job: reads and writes it through `DocumentService`.

job = await submit(session, summarise_document, SummariseDocument(document_id=document.id), owner=user.id)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.job import JobContext, job
from app.core.llm import provider
from app.core.llm_call import call
from app.core.llm_provider import Answer, Message, Prompt
from app.core.llm_settings import llm_settings
from app.services.documents import DocumentService


class SummariseDocument(BaseModel):
    """Payload of `shop.document.summarise.v1`."""

    document_id: int


class Summarised(BaseModel):
    """What the job's owner gets."""

    summary: str


async def ask(context: JobContext[SummariseDocument]) -> Answer:
    """Ask the model. The session is closed by then: a call takes long, and connections are few."""
    async with get_session() as session:
        document = await DocumentService(session).get(context.data.document_id)
    question = Message("user", f"Summarise in two sentences:\n\n{document.body}")
    return await call(context, provider(), Prompt(llm_settings().llm_model, (question,), max_tokens=200))


@job(
    "shop.document.summarise.v1",
    SummariseDocument,
    ask=ask,
    via="table",
    queue="llm",
    timeout=timedelta(minutes=10),
    deadline=timedelta(hours=6),
)
async def summarise_document(context: JobContext[SummariseDocument], session: AsyncSession) -> Summarised:
    """Store the summary; it commits together with the note that this job has succeeded."""
    document = await DocumentService(session).get(context.data.document_id)
    document.summary, document.summarised_at = context.answer.text, datetime.now(UTC)
    return Summarised(summary=context.answer.text)
