"""Wakes loops up when a transaction commits that sent a NOTIFY. Only a hint: whoever waits polls, too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from app.core.database import get_session
from app.core.failures import describe

CHECK_EVERY = 15.0
logger = logging.getLogger(__name__)


async def listen(
    channel: str, wake: Callable[[], None], pause: float, told: Callable[[str | None], None] = lambda _: None
) -> None:
    """Call `wake` at each notification of `channel`, until cancelled, and `told` with what it says, or with
    None where some may have been missed; after a failure again in `pause` seconds. Returns when the driver is
    not asyncpg: polling has to do then.
    """
    while True:
        try:
            async with get_session() as session:
                connection = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
                driver: Any = (await connection.get_raw_connection()).driver_connection
                if not hasattr(driver, "add_listener"):
                    return
                await hear(driver, channel, wake, told)
        except Exception as error:  # only a hint is missed: whoever waits polls, too
            logger.debug("not listening: %s", describe(error))
        await asyncio.sleep(pause)


async def hear(
    driver: Any, channel: str, wake: Callable[[], None], told: Callable[[str | None], None]
) -> None:
    """Listen on a connection until it breaks; a look now and then finds one that broke in silence."""

    def heard(_: object, __: object, ___: object, said: str | None) -> None:
        wake()
        told(said)

    await driver.add_listener(channel, heard)
    heard(None, None, None, None)  # what was committed before is not told
    try:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            async with asyncio.timeout(CHECK_EVERY):
                await driver.execute("SELECT 1")
    finally:
        with suppress(Exception):
            await driver.remove_listener(channel, heard)
