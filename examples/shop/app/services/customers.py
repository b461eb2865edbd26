"""What the shop does with customers."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.exceptions import ConflictError, NotFoundError
from app.models.customers import Customer
from app.repositories.customers import CustomerRepository


class CustomerService:
    """Customers, inside the transaction of the given session."""

    def __init__(self, session: AsyncSession) -> None:
        self.customers = CustomerRepository(session)

    async def create(self, email: str, name: str) -> Customer:
        """Register a customer; `ConflictError` when the address is taken."""
        customer = await self.customers.add_unless_known(email, name)
        if customer is None:
            raise ConflictError("this address is already registered")
        return customer

    async def get(self, customer_id: int) -> Customer:
        """Return a customer; `NotFoundError` without one."""
        customer = await self.customers.get(customer_id)
        if customer is None:
            raise NotFoundError(f"customer {customer_id} does not exist")
        return customer

    async def page(self, after: int, limit: int) -> Sequence[Customer]:
        """Return up to `limit` customers with ids above `after`."""
        return await self.customers.page(after, limit)
