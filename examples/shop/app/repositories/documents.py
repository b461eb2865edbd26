"""Rows of documents."""

from app.models.documents import Document
from app.repositories.base import Repository


class DocumentRepository(Repository[Document]):
    """Documents in the database."""

    model = Document
