"""OpenAI's Batch over plain HTTP. Its list shows the id that a batch was given in its metadata."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from app.core.job import BusyError
from app.core.llm_batch_http import UNANSWERED, HttpBatches, id_of, raised, unstreamed
from app.core.llm_batch_provider import Look, Result, name
from app.core.llm_http import error_type, note, openai_body, word
from app.core.llm_provider import Prompt, fail
from app.core.outcomes import Dead, Postpone, TransientError

METADATA = "llm_batch"
# What OpenAI says of a batch that was not at fault.
CROWDED = "token_limit_exceeded"


class OpenAiBatches(HttpBatches):
    """See BatchProvider."""

    PATH = "/batches"

    async def submit(self, batch: UUID, requests: Sequence[tuple[UUID, Prompt]]) -> str:
        """See BatchProvider."""
        lines = (
            json.dumps(
                {
                    "custom_id": name(batch, job),
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": unstreamed(openai_body(prompt)),
                }
            )
            for job, prompt in requests
        )
        file = ("batch.jsonl", "\n".join(lines).encode(), "application/jsonl")
        uploaded = await self.ask("POST", "/files", data={"purpose": "batch"}, files={"file": file})
        asked = {
            "input_file_id": id_of(uploaded),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {METADATA: str(batch)},
        }
        return id_of(await self.ask("POST", self.PATH, json=asked))

    async def find(
        self,
        batch: UUID,
        requests: int,  # noqa: ARG002  # the id is enough
        since: datetime,
        known: Collection[str],  # noqa: ARG002
    ) -> str | None:
        """See BatchProvider."""
        async for found in self.listed(self.PATH, "after", since):
            metadata = found.get("metadata")
            if isinstance(metadata, dict) and metadata.get(METADATA) == str(batch):
                return id_of(found)
        return None

    async def poll(self, id_: str) -> Look:
        """See BatchProvider."""
        batch = await self.ask("GET", self.path(id_))
        if (status := batch.get("status")) == "failed":
            errors = (batch.get("errors") or {}).get("data") or [{}]
            code = word(errors[0].get("code")) or "no reason given"
            reason = f"the model's provider did not begin the batch: {code}"
            return Look(ended=True, refused=Postpone(reason, 60) if code == CROWDED else Dead(reason))
        files = [batch.get("output_file_id"), batch.get("error_file_id")]
        sources = tuple(f"/files/{quote(file, safe='')}/content" for file in files if isinstance(file, str))
        return Look(status in {"completed", "expired", "cancelled"}, sources, whole=status == "completed")

    async def results(self, source: str) -> AsyncGenerator[Result, None]:
        """See BatchProvider."""
        async for line in self.lines(source):
            yield read_openai(line)


def read_openai(line: dict[str, Any]) -> Result:
    """A line of an output file, or of an error file."""
    found = Result(str(line.get("custom_id")))
    match line:
        case {"response": {"status_code": 200, "body": {"choices": [dict(choice), *_], **rest}}}:
            message = choice.get("message")
            found.text = str((message.get("content") if isinstance(message, dict) else None) or "")
            found.usage.request_id, found.usage.stop = word(rest.get("id")), word(choice.get("finish_reason"))
            note(found.usage, rest.get("usage"), "prompt_tokens", "completion_tokens")
        case {"response": {"status_code": int(status), "body": dict(body)}} if status >= 300:
            found.problem = raised(lambda: fail(status, {}, error_type(body)))
        case {"error": {"code": str(code)}}:  # batch_expired, batch_cancelled
            found.problem = BusyError(f"{UNANSWERED}: {word(code)}")
        case _:
            found.problem = TransientError(UNANSWERED)
    return found
