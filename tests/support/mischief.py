"""What the misbehaving workers of the fault tests do, and what they note; runs inside worker processes."""

import asyncio
import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel

FOLDER = Path(os.environ.get("FAULTY_FOLDER", "."))


class Work(BaseModel):
    """What to do with one order."""

    order_id: int
    do: str = "process"
    seconds: float = 0
    times: int = 1


async def misbehave(work: Work) -> None:
    """What has nothing to do with the delivery or the database."""
    match work.do:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            await asyncio.sleep(work.seconds)
        case "wait":
            await until_released()
        case "bug":
            raise KeyError("a bug")


def note(line: str, file: str = "starts") -> None:
    """Append a line; O_APPEND keeps lines of several processes apart."""
    with (FOLDER / file).open("a") as lines:
        lines.write(line + "\n")


async def until_released() -> None:
    """Wait for the file `release`."""
    (FOLDER / "waiting").touch()
    while not (FOLDER / "release").exists():
        await asyncio.sleep(0.02)


def block(seconds: float) -> None:
    """Block the event loop, as a careless library does."""
    time.sleep(seconds)
