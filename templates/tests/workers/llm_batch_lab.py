"""The provider of language models for the tests of jobs that are asked in batches: a server on this machine.
It speaks like Anthropic's Message Batches and like OpenAI's Batch.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

TEXT = "An answer in words."
FILES, ANTHROPIC, OPENAI = "/v1/files", "/v1/messages/batches", "/v1/batches"
USED = (5, 4)


class Batch:
    """A batch that was accepted. `ends` says for each request how it ends: `succeeded`, `expired`, `errored`
    and a type of error, or `missing`.
    """

    def __init__(self, requests: list[dict[str, Any]], ends: list[str], metadata: Any) -> None:
        self.id = f"batch_{uuid.uuid4().hex}"
        self.created_at = time.time()
        self.requests, self.ends, self.metadata = requests, ends, metadata
        self.cancelled = self.failed = False

    @property
    def names(self) -> list[str]:
        """What the requests are called."""
        return [request["custom_id"] for request in self.requests]


class Model:
    """Answers with TEXT. `statuses` are what the next requests are answered with, and nothing is done then;
    `ends` how the next requests of batches end. What has `poison` in it is refused with its whole batch.
    """

    text = TEXT

    def __init__(self, serve: Callable[..., Any]) -> None:
        self.statuses: deque[int] = deque()
        self.ends: deque[str] = deque()
        self.poison = "no prompt has this in it"
        self.page = 100
        self.batches: list[Batch] = []
        self.polls = 0
        self._files: dict[str, str] = {}
        self._lock = threading.Lock()
        self._end, self._answer, self._rest = threading.Event(), threading.Event(), threading.Event()
        self.release()
        self._server = serve(self.serve)

    @property
    def environment(self) -> dict[str, str]:
        """How workers find it."""
        return {"LLM_BASE_URL": f"{self._server.url}/v1", "LLM_API_KEY": "test"}

    def close(self) -> None:
        """Take no more requests."""
        self.release()
        self._server.close()

    def hold(self) -> None:
        """Let batches not end."""
        self._end.clear()

    def hold_answers(self) -> None:
        """Let batches be accepted, and those who have sent them not be told."""
        self._answer.clear()

    def hold_results(self) -> None:
        """Let results stop after three quarters of them."""
        self._rest.clear()

    def release(self) -> None:
        """Let all go on."""
        for event in (self._end, self._answer, self._rest):
            event.set()

    def asked(self, job: str) -> int:
        """In how many batches a job is."""
        with self._lock:
            return sum(name.endswith(uuid.UUID(job).hex) for batch in self.batches for name in batch.names)

    # -- requests --------------------------------------------------------------------------------------

    def serve(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer a request."""
        url = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        with self._lock:
            status = self.statuses.popleft() if self.statuses else 200
            answer = self._answered(request.command, url.path, query, body) if status == 200 else None
        if request.command == "POST" and url.path in {ANTHROPIC, OPENAI}:
            self._answer.wait()
        if isinstance(answer, int):
            status = answer
        text = answer if isinstance(answer, str) else json.dumps(answer or {"error": {"type": "api_error"}})
        raw = text.encode()
        try:
            request.send_response(status)
            request.send_header("Content-Length", str(len(raw)))
            request.end_headers()
            if isinstance(answer, str):
                request.wfile.write(raw[: len(raw) * 3 // 4])
                self._rest.wait()
                raw = raw[len(raw) * 3 // 4 :]
            request.wfile.write(raw)
        except ConnectionError:  # its sender has died
            request.close_connection = True

    def _answered(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        """What is answered: JSON, a text, or a status."""
        home = ANTHROPIC if path.startswith(ANTHROPIC) else OPENAI
        if path == FILES:
            id_ = f"file_{len(self._files)}"
            (part,) = (part for part in body.split(b"\r\n--") if b"filename=" in part)
            self._files[id_] = part.split(b"\r\n\r\n", 1)[1].decode()
            return {"id": id_}
        if path.startswith(FILES):
            return self._files[path.split("/")[3]]
        if path == home:
            return self._submitted(home, json.loads(body)) if method == "POST" else self._page(home, query)
        _, id_, action = f"{path.removeprefix(home)}//".split("/")[:3]
        batch = next((batch for batch in self.batches if batch.id == id_), None)
        if batch is None:
            return 404
        if action == "results":
            return "".join(f"{line}\n" for line in self._lines(batch, home))
        self.polls += not action
        batch.cancelled = batch.cancelled or action == "cancel"
        return self._shown(batch, home)

    def _submitted(self, home: str, body: dict[str, Any]) -> Any:
        if home == ANTHROPIC:
            requests = body["requests"]
            assert not any("stream" in request["params"] for request in requests)
            assert len({request["custom_id"] for request in requests}) == len(requests)
            assert all(len(request["custom_id"]) <= 64 for request in requests)
        else:
            requests = [json.loads(line) for line in self._files[body["input_file_id"]].splitlines()]
            assert body["completion_window"] == "24h"
        poisoned = self.poison in json.dumps(requests)
        if poisoned and home == ANTHROPIC:
            return 400
        ends = [self.ends.popleft() if self.ends else "succeeded" for _ in requests]
        batch = Batch(requests, ends, body.get("metadata"))
        batch.failed = poisoned
        self.batches.append(batch)
        return self._shown(batch, home)

    def _page(self, home: str, query: dict[str, str]) -> Any:
        """The newest first."""
        newest = self.batches[::-1]
        after = query.get("after_id" if home == ANTHROPIC else "after")
        start = next((number for number, batch in enumerate(newest, 1) if batch.id == after), 0)
        shown = newest[start : start + min(self.page, int(query["limit"]))]
        return {
            "data": [self._shown(batch, home) for batch in shown],
            "has_more": start + len(shown) < len(newest),
        }

    def _shown(self, batch: Batch, home: str) -> dict[str, Any]:
        """What is shown of a batch."""
        ended = self._end.is_set() or batch.cancelled
        if home == ANTHROPIC:
            return {
                "id": batch.id,
                "created_at": datetime.fromtimestamp(batch.created_at, UTC).isoformat(),
                "processing_status": "ended" if ended else "in_progress",
                "request_counts": {"processing": len(batch.requests), "succeeded": 0},
            }
        lines = list(self._lines(batch, home)) if ended and not batch.failed else []
        files = {}
        for name, good in (("output_file_id", True), ("error_file_id", False)):
            part = [line for line in lines if ('"choices"' in line) is good]
            if part:
                files[name] = f"file_{name}_{batch.id}"
                self._files[files[name]] = "".join(f"{line}\n" for line in part)
        ending = "cancelled" if batch.cancelled else "expired" if "expired" in batch.ends else "completed"
        status = "failed" if batch.failed else ending if ended else "in_progress"
        return {
            "id": batch.id,
            "created_at": int(batch.created_at),
            "status": status,
            "metadata": batch.metadata,
            "errors": {"data": [{"code": "invalid_value"}]} if batch.failed else None,
            **files,
        }

    @staticmethod
    def _lines(batch: Batch, home: str) -> Iterator[str]:
        """The results of a batch."""
        write = anthropic if home == ANTHROPIC else openai
        for name, end in zip(batch.names, batch.ends, strict=True):
            kind, _, error = ("canceled" if batch.cancelled else end).partition(" ")
            if kind != "missing":
                yield json.dumps({"custom_id": name, **write(kind, error)})


def anthropic(kind: str, error: str) -> dict[str, Any]:
    """A result."""
    if kind == "succeeded":
        message = {
            "id": "msg_1",
            "content": [{"type": "text", "text": TEXT}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": USED[0], "output_tokens": USED[1]},
        }
        return {"result": {"type": kind, "message": message}}
    told = {"error": {"type": "error", "error": {"type": error, "message": "secret prompt"}}}
    return {"result": {"type": kind, **(told if error else {})}}


def openai(kind: str, error: str) -> dict[str, Any]:
    """A line of the output file, or of the error file."""
    if kind == "succeeded":
        body = {
            "id": "chatcmpl_1",
            "choices": [{"message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": USED[0], "completion_tokens": USED[1]},
        }
        return {"response": {"status_code": 200, "body": body}, "error": None}
    if error:
        status = {"inv": 400, "ove": 429}.get(error[:3], 500)
        return {"response": {"status_code": status, "body": {"error": {"type": error}}}, "error": None}
    return {"response": None, "error": {"code": f"batch_{kind}", "message": "secret"}}


def start(serve: Callable[..., Any]) -> Model:
    """A provider; `serve` is what `http_lab` starts a server with."""
    return Model(serve)
