"""What the routers ask FastAPI for."""

from datetime import date
from typing import Annotated

from fastapi import Depends, Path
from pydantic import AfterValidator
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import session_dependency
from app.schemas.base import RowId

# scope="function": the transaction is committed before the response is sent, not after it.
SessionDep = Annotated[AsyncSession, Depends(session_dependency, scope="function")]

PathId = Annotated[RowId, Path()]


def _reportable(day: date) -> date:
    # The day after 9999-12-31 does not exist, and time zones reach before 0001-01-01.
    if not date(2000, 1, 1) <= day <= date(9999, 1, 1):
        raise ValueError("must be a day from 2000-01-01 to 9999-01-01")
    return day


PathDay = Annotated[date, Path(), AfterValidator(_reportable)]
