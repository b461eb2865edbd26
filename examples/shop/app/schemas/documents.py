"""Documents, as the API takes and answers them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.schemas.base import CleanText, RequestModel, ResponseModel


class DocumentIn(RequestModel):
    """A new document."""

    title: Annotated[CleanText, Field(min_length=1, max_length=200)]
    body: Annotated[CleanText, Field(min_length=1, max_length=200_000)]


class DocumentOut(ResponseModel):
    """A document with its summary, if there is one."""

    id: int
    title: str
    body: str
    summary: str | None
    created_at: datetime
    summarised_at: datetime | None
