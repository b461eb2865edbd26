"""The provider of language models for the tests of LLM jobs: a server on this machine. It speaks like
Anthropic's Messages and like OpenAI's Chat Completions.
"""

from __future__ import annotations

import json
import select
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

WORDS = ("An ", "answer ", "in ", "words.")
OPENAI = "/chat/completions"


class Call:
    """A call that came; `key` is its idempotency key."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.dropped = False


class Model:
    """Answers with WORDS. `script` says what becomes of the next calls: a status, such as 429, or 0 for an
    answer that ends in the middle.
    """

    text = "".join(WORDS)

    def __init__(self, serve: Callable[..., Any]) -> None:
        self.script: deque[int] = deque()
        self.calls: list[Call] = []
        self._go_on = threading.Event()
        self._go_on.set()
        self._server = serve(self.answer)

    @property
    def environment(self) -> dict[str, str]:
        """How workers find it."""
        return {"LLM_BASE_URL": f"{self._server.url}/v1", "LLM_API_KEY": "test"}

    def close(self) -> None:
        """Take no more calls."""
        self.release()
        self._server.close()

    def hold(self) -> None:
        """Let answers stop in the middle."""
        self._go_on.clear()

    def release(self) -> None:
        """Let them go on."""
        self._go_on.set()

    def calls_of(self, job: str) -> list[Call]:
        """The calls that a job has made."""
        key = str(uuid.uuid5(uuid.NAMESPACE_URL, f"job {job}"))
        return [call for call in self.calls if call.key == key]

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer a call."""
        assert json.loads(body)["stream"] is True
        call = Call(request.headers["Idempotency-Key"])
        self.calls.append(call)
        status = self.script.popleft() if self.script else 200
        request.send_response(status or 200)
        request.send_header("Content-Type", "text/event-stream" if status in {0, 200} else "application/json")
        request.send_header("Connection", "close")
        request.end_headers()
        if status not in {0, 200}:
            request.wfile.write(b'{"error": {"type": "api_error"}}')
            return
        events = openai() if request.path.endswith(OPENAI) else anthropic()
        try:
            for number, event in enumerate(events):
                if number == len(WORDS) // 2:
                    if status == 0:
                        return
                    self._wait(request)
                data = event if isinstance(event, str) else json.dumps(event)
                request.wfile.write(f"data: {data}\n\n".encode())
        except ConnectionError:
            call.dropped = True

    def _wait(self, request: BaseHTTPRequestHandler) -> None:
        """Wait in the middle of an answer. Raises ConnectionError when the client goes."""
        while not self._go_on.wait(0.05):
            if select.select([request.connection], [], [], 0)[0]:  # nothing but its end can come
                raise ConnectionError


def anthropic() -> Iterator[dict[str, Any]]:
    """The events of an answer."""
    usage = {"input_tokens": 5, "output_tokens": 1}
    yield {"type": "message_start", "message": {"usage": usage}}
    for word in WORDS:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
    yield {"type": "message_stop"}


def openai() -> Iterator[dict[str, Any] | str]:
    """The events of an answer."""
    for word in WORDS:
        yield {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}
    yield "[DONE]"


def start(serve: Callable[..., Any]) -> Model:
    """A provider; `serve` is what `http_lab` starts a server with."""
    return Model(serve)
