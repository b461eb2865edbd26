"""Job `shop.document.summarise.v1`: a language model is asked.

`DocumentService.summary_prompt` says what, `DocumentService.store_summary` gets the answer.

job = await submit(session, summarise_document, data, owner=str(user.id))
"""

from __future__ import annotations

from datetime import timedelta

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


async def ask(context: JobContext[SummariseDocument]) -> Answer:
    """Ask the model. The session is closed by then: a call takes long, and connections are few."""
    async with get_session() as session:
        question = await DocumentService(session).summary_prompt(
            document_id=context.data.document_id,
        )
    return await call(context, provider(), Prompt(llm_settings().llm_model, (Message("user", question),)))


@job(
    "shop.document.summarise.v1",
    SummariseDocument,
    ask=ask,
    via="table",
    queue="llm",
    timeout=timedelta(minutes=10),
    deadline=timedelta(hours=6),
)
async def summarise_document(context: JobContext[SummariseDocument], session: AsyncSession) -> dict[str, str]:
    """Call the service; what it writes commits together with the note that this job has succeeded. What is
    returned, a Pydantic model or a mapping, is the job's result.
    """
    await DocumentService(session).store_summary(
        document_id=context.data.document_id,
        summary=context.answer.text,
    )
    return {"text": context.answer.text}
