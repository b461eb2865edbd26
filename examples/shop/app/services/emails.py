"""What the shop does with e-mail."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import settings
from app.core.http import post_json
from app.models.customers import Customer
from app.models.emails import EmailLog
from app.repositories.emails import EmailLogRepository
from app.services.customers import CustomerService


class EmailService:
    """E-mail, inside the transaction of the given session. The provider holds the texts."""

    def __init__(self, session: AsyncSession) -> None:
        self.log = EmailLogRepository(session)
        self.customers = CustomerService(session)

    async def send(self, user_id: int, email_type: str, *, idempotency_key: str | None = None) -> EmailLog:
        """Send a customer the message `email_type` and log it.

        The provider sends once per `idempotency_key`, and on every call without one. Raises
        `NotFoundError` and `ExternalServiceError`.
        """
        customer = await self.customers.get(user_id)
        provider_id = await _post(customer, email_type, idempotency_key)
        return await self.log.add(
            EmailLog(
                customer_id=user_id,
                email_type=email_type,
                provider_id=provider_id,
                idempotency_key=idempotency_key,
            )
        )


async def _post(customer: Customer, email_type: str, idempotency_key: str | None) -> str:
    return await post_json(
        "mail",
        f"{settings.mail_url}/messages",
        {"to": customer.email, "template": email_type, "values": {"name": customer.name}},
        wanted="id",
        api_key=settings.mail_api_key,
        idempotency_key=idempotency_key,
    )
