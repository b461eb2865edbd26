"""What the shop does with documents."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import settings
from app.core.exceptions import NotFoundError
from app.core.http import post_json
from app.models.documents import Document
from app.repositories.documents import DocumentRepository


class DocumentService:
    """Documents, inside the transaction of the given session."""

    def __init__(self, session: AsyncSession) -> None:
        self.documents = DocumentRepository(session)

    async def create(self, title: str, body: str) -> Document:
        """Store a document that has no summary yet."""
        return await self.documents.add(Document(title=title, body=body))

    async def get(self, document_id: int) -> Document:
        """Return a document; `NotFoundError` without one."""
        document = await self.documents.get(document_id)
        if document is None:
            raise NotFoundError(f"document {document_id} does not exist")
        return document

    async def summarise(self, document_id: int) -> Document:
        """Have a language model summarise the document, and store the summary.

        Every call is a paid one. Raises `NotFoundError` and `ExternalServiceError`.
        """
        return await self.store_summary(document_id, await _complete(await self.summary_prompt(document_id)))

    async def summary_prompt(self, document_id: int) -> str:
        """Return what a language model is asked for a summary; `NotFoundError` without the document."""
        document = await self.get(document_id)
        return f"Summarise in two sentences:\n\n{document.body}"

    async def store_summary(self, document_id: int, summary: str) -> Document:
        """Store a summary, in place of an older one; `NotFoundError` without the document."""
        document = await self.get(document_id)
        document.summary, document.summarised_at = summary, datetime.now(UTC)
        # Flushed here, so that a row that cannot be stored fails in the call that made it.
        await self.documents.add(document)
        return document


async def _complete(prompt: str) -> str:
    return await post_json(
        "llm",
        f"{settings.llm_url}/complete",
        {"prompt": prompt, "max_tokens": 200},
        wanted="text",
        api_key=settings.llm_api_key,
    )
