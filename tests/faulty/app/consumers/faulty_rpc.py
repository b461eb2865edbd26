"""A server of requests for the fault tests: the request says what goes wrong."""

import asyncio
import os
import signal
from typing import Any

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer
from app.core.envelope import Message
from app.core.outcomes import TransientError
from app.core.rabbit_rpc_server import RpcServer, answer, answer_without_transaction
from app.services.orders import OrderService
from support.mischief import FOLDER, note, until_released


class Ask(BaseModel):
    """What to do with one order."""

    order_id: int
    do: str = "process"
    seconds: float = 0


class Told(BaseModel):
    """What was done."""

    order_id: int
    text: str = ""


async def handle(message: Message[Ask], session: AsyncSession) -> Told:
    """Do as the request says, then the shop's own work."""
    ask = message.data
    note(f"{ask.order_id} {message.delivery} {os.getpid()}")
    await OrderService(session).process(ask.order_id)
    match ask.do:
        case "wait":
            await until_released()
        case "bug":
            raise KeyError("a bug")
        case "flap" if not (FOLDER / "flapped").exists():
            (FOLDER / "flapped").touch()
            raise TransientError("not yet")
        case "large":
            return Told(order_id=ask.order_id, text="x" * 300_000)
    return Told(order_id=ask.order_id)


async def look(message: Message[Ask]) -> Told:
    """Change nothing, after a while."""
    note(f"{message.data.order_id} {message.delivery} {os.getpid()}")
    await asyncio.sleep(message.data.seconds)
    return Told(order_id=message.data.order_id)


class Mortal(RpcServer):
    """Dies between commit and reply, once, when the test wants it."""

    async def _reply(self, *answer: Any) -> None:
        if (FOLDER / "die").exists():
            (FOLDER / "die").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        await super()._reply(*answer)


consumer = Consumer(
    name="faulty_rpc",
    topic="rpc.work",
    routes=(
        answer("rpc.work.v1", Ask, handle),
        answer_without_transaction("rpc.work.v2", Ask, look),
    ),
)


def worker() -> RpcServer:
    """What the fault tests run."""
    return Mortal(consumer)
