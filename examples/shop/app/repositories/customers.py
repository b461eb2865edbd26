"""Rows of customers."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.models.customers import Customer
from app.repositories.base import Repository


class CustomerRepository(Repository[Customer]):
    """Customers in the database."""

    model = Customer

    async def add_unless_known(self, email: str, name: str) -> Customer | None:
        """Insert a customer, or return None when the address is taken.

        A statement that fails would spoil the transaction of the caller; ON CONFLICT does not.
        """
        statement = (
            insert(Customer)
            .values(email=email, name=name)
            .on_conflict_do_nothing(index_elements=[Customer.email])
            .returning(Customer)
        )
        return (await self.session.scalars(statement)).one_or_none()

    async def page(self, after: int, limit: int) -> Sequence[Customer]:
        """Return up to `limit` customers with ids above `after`, in the order of their ids."""
        statement = select(Customer).where(Customer.id > after).order_by(Customer.id).limit(limit)
        return (await self.session.scalars(statement)).all()
