"""Types that several schemas share."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# The range of the identity columns: a larger number could not even be looked up.
RowId = Annotated[int, Field(ge=1, le=2**63 - 1)]


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain the character U+0000")
    return value


# PostgreSQL cannot store U+0000 in text.
CleanText = Annotated[str, AfterValidator(_without_nul)]


class RequestModel(BaseModel):
    """Base of what the API takes: unknown fields are refused, since they are mostly misspelt ones."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class ResponseModel(BaseModel):
    """Base of what the API answers, read from a model's attributes."""

    model_config = ConfigDict(from_attributes=True)
