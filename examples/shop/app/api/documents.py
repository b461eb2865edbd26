"""Routes of documents."""

from fastapi import APIRouter

from app.api.dependencies import PathId, SessionDep
from app.models.documents import Document
from app.schemas.documents import DocumentIn, DocumentOut
from app.services.documents import DocumentService

router = APIRouter(prefix="/documents", tags=["documents"])


@router.post("", status_code=201, response_model=DocumentOut)
async def create_document(body: DocumentIn, session: SessionDep) -> Document:
    """Store a document."""
    return await DocumentService(session).create(body.title, body.body)


@router.get("/{document_id}", response_model=DocumentOut)
async def get_document(document_id: PathId, session: SessionDep) -> Document:
    """Show a document."""
    return await DocumentService(session).get(document_id)


@router.post("/{document_id}/summary", response_model=DocumentOut)
async def summarise_document(document_id: PathId, session: SessionDep) -> Document:
    """Have a document summarised, and wait for it."""
    return await DocumentService(session).summarise(document_id)
