"""Routes of customers."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import PathId, SessionDep
from app.models.customers import Customer
from app.schemas.customers import CustomerIn, CustomerOut
from app.services.customers import CustomerService

router = APIRouter(prefix="/customers", tags=["customers"])


@router.post("", status_code=201, response_model=CustomerOut)
async def create_customer(body: CustomerIn, session: SessionDep) -> Customer:
    """Register a customer."""
    return await CustomerService(session).create(body.email, body.name)


@router.get("", response_model=list[CustomerOut])
async def list_customers(
    session: SessionDep,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Sequence[Customer]:
    """List customers in the order of their ids, from the one behind `after`."""
    return await CustomerService(session).page(after, limit)


@router.get("/{customer_id}", response_model=CustomerOut)
async def get_customer(customer_id: PathId, session: SessionDep) -> Customer:
    """Show a customer."""
    return await CustomerService(session).get(customer_id)
