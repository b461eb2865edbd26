"""Rows of sent e-mail."""

from app.models.emails import EmailLog
from app.repositories.base import Repository


class EmailLogRepository(Repository[EmailLog]):
    """Sent e-mail in the database."""

    model = EmailLog
