"""Customers, as the API takes and answers them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from app.schemas.base import CleanText, RequestModel, ResponseModel

# Not the whole grammar of RFC 5322: only what keeps nonsense and line breaks out of a header.
EmailAddress = Annotated[
    CleanText, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", max_length=254, to_lower=True)
]


class CustomerIn(RequestModel):
    """A new customer."""

    email: EmailAddress
    name: Annotated[CleanText, Field(min_length=1, max_length=200)]


class CustomerOut(ResponseModel):
    """A customer."""

    id: int
    email: str
    name: str
    created_at: datetime
