"""The job of the page: summarises a document, as `app.llm.summarise_document` does, and tells its owner."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.job import JobContext, job
from app.core.webhooks import announce
from app.llm.summarise_document import SummariseDocument, ask, summarise_document


@job(
    "shop.document.summary.v1",
    SummariseDocument,
    ask=ask,
    via="table",
    queue="llm",
    timeout=timedelta(minutes=10),
    deadline=timedelta(hours=6),
)
async def document_summary(context: JobContext[SummariseDocument], session: AsyncSession) -> dict[str, str]:
    """Store the summary. It, the end of the job and the webhook are one transaction."""
    await summarise_document.handle(context, session)
    summary = context.answer.text
    told = {"job_id": str(context.id), "document_id": context.data.document_id, "summary": summary}
    await announce(session, owner=context.owner, type="document.summarised", data=told)
    return {"text": summary}
