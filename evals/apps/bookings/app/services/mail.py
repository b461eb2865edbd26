"""Mail, through the provider's HTTP API."""

import httpx2

from app.core.config import settings


async def send_mail(to: str, subject: str, text: str, *, idempotency_key: str | None = None) -> None:
    """Send one message; httpx2.HTTPError when the provider does not take it."""
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    async with httpx2.AsyncClient(timeout=settings.mail_timeout_seconds) as client:
        body = {"to": to, "subject": subject, "text": text}
        answer = await client.post(f"{settings.mail_url}/messages", json=body, headers=headers)
        answer.raise_for_status()
