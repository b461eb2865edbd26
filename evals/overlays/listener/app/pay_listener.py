"""Listens for payments."""

import asyncio
import contextlib
import json
import os

import redis.asyncio

from app.core.database import get_session
from app.services.bookings import BookingService

STREAM, GROUP = "pay.captured", "bookings"


async def main() -> None:
    """Read for ever."""
    client = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=30)
    with contextlib.suppress(redis.ResponseError):
        await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    start = "0"  # what was left over by the last run comes first
    while True:
        answer = await client.xreadgroup(GROUP, "listener", {STREAM: start}, count=10, block=5000)
        entries = answer[0][1] if answer else []
        if not entries:
            start = ">"
        for entry_id, fields in entries:
            data = json.loads(fields[b"event"])["data"]
            async with get_session() as session:
                await BookingService(session).mark_paid(data["booking_id"], data["payment_reference"])
            await client.xack(STREAM, GROUP, entry_id)


asyncio.run(main())
