"""Rows of payments."""

from app.models.payments import Payment
from app.repositories.base import Repository


class PaymentRepository(Repository[Payment]):
    """Payments in the database."""

    model = Payment
