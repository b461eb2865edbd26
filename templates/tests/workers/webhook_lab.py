"""The receiver of webhooks for the tests of their sender: a server on this machine, which checks signatures
as Standard Webhooks has them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any


class Try:
    """A request that came, and what it was answered with; 0 as long as it was not."""

    def __init__(self, id_: str, timestamp: str, signatures: str, body: bytes) -> None:
        self.id, self.timestamp, self.signatures, self.body = id_, timestamp, signatures, body
        self.status = 0

    def is_signed(self, secret: str) -> bool:
        """Whether the signature is right."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        text = f"{self.id}.{self.timestamp}.".encode() + self.body
        right = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return f"v1,{right}" in self.signatures.split()


class Receiver:
    """Answers 204, and the next requests with the statuses of `script`."""

    def __init__(self, serve: Callable[..., Any]) -> None:
        self.script: deque[int] = deque()
        self.got: list[Try] = []
        self._go_on = threading.Event()
        self._go_on.set()
        self._server = serve(self.answer)
        self.url = f"{self._server.url}/hook"

    def close(self) -> None:
        """Take no more requests."""
        self.release()
        self._server.close()

    def hold(self) -> None:
        """Let requests have no answer."""
        self._go_on.clear()

    def release(self) -> None:
        """Let them have theirs."""
        self._go_on.set()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer a request."""
        said = request.headers
        came = Try(said["webhook-id"], said["webhook-timestamp"], said["webhook-signature"], body)
        self.got.append(came)
        status = self.script.popleft() if self.script else 204
        self._go_on.wait()
        came.status = status
        try:
            request.send_response(status)
            request.send_header("Location", self.url)  # nobody is to follow it
            request.send_header("Connection", "close")
            request.end_headers()
        except ConnectionError:  # the sender has died
            request.close_connection = True

    def tries(self, id_: str) -> list[Try]:
        """The requests with a webhook."""
        return [came for came in self.got if came.id == id_]

    def taken(self) -> list[str]:
        """The webhooks that were answered with success, each once: a receiver looks at their ids."""
        return list(dict.fromkeys(came.id for came in self.got if 200 <= came.status < 300))


def start(serve: Callable[..., Any]) -> Receiver:
    """A receiver; `serve` is what `http_lab` starts a server with."""
    return Receiver(serve)
