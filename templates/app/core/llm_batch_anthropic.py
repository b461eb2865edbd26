"""Anthropic's Message Batches over plain HTTP.

Its list shows nothing of ours: the id of a batch is a part of each request's name, and can be read when the
batch has ended.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.job import BusyError
from app.core.llm_batch_http import UNANSWERED, HttpBatches, id_of, raised, unstreamed
from app.core.llm_batch_provider import Look, Result, name
from app.core.llm_http import anthropic_body, error_type, note, word
from app.core.llm_provider import Prompt, fail_inside
from app.core.outcomes import TransientError


class AnthropicBatches(HttpBatches):
    """See BatchProvider."""

    PATH = "/messages/batches"

    async def submit(self, batch: UUID, requests: Sequence[tuple[UUID, Prompt]]) -> str:
        """See BatchProvider."""
        asked = [
            {"custom_id": name(batch, job), "params": unstreamed(anthropic_body(prompt))}
            for job, prompt in requests
        ]
        return id_of(await self.ask("POST", self.PATH, json={"requests": asked}))

    async def find(self, batch: UUID, requests: int, since: datetime, known: Collection[str]) -> str | None:
        """See BatchProvider. One of the same size that nobody knows has to end before it can be told."""
        unclear = None
        async for found in self.listed(self.PATH, "after_id", since):
            id_, counts = id_of(found), found.get("request_counts")
            if id_ in known or not isinstance(counts, dict) or sum(counts.values()) != requests:
                continue
            if found.get("processing_status") != "ended":
                unclear = id_
            elif await self._first(id_) == batch.hex:
                return id_
        if unclear is not None:
            raise BusyError(f"{unclear} may be the batch, which shows when it has ended")
        return None

    async def _first(self, id_: str) -> str:
        """Whose the first result is."""
        async for line in self.lines(f"{self.path(id_)}/results"):
            return str(line.get("custom_id"))[:32]
        return ""

    async def poll(self, id_: str) -> Look:
        """See BatchProvider."""
        ended = (await self.ask("GET", self.path(id_))).get("processing_status") == "ended"
        return Look(ended, (f"{self.path(id_)}/results",))

    async def results(self, source: str) -> AsyncGenerator[Result, None]:
        """See BatchProvider."""
        async for line in self.lines(source):
            yield read_anthropic(line)


def read_anthropic(line: dict[str, Any]) -> Result:
    """A result of Message Batches."""
    found = Result(str(line.get("custom_id")))
    match line.get("result"):
        case {"type": "succeeded", "message": {"content": list(content), **rest}}:
            blocks = (block for block in content if isinstance(block, dict) and block.get("type") == "text")
            found.text = "".join(str(block.get("text")) for block in blocks)
            found.usage.request_id, found.usage.stop = word(rest.get("id")), word(rest.get("stop_reason"))
            note(found.usage, rest.get("usage"), "input_tokens", "output_tokens")
        case {"type": "errored", "error": dict(error)}:
            found.problem = raised(lambda: fail_inside(error_type(error)))
        case {"type": str(kind)}:  # expired, canceled
            found.problem = BusyError(f"{UNANSWERED}: {word(kind)}")
        case _:
            found.problem = TransientError(UNANSWERED)
    return found
