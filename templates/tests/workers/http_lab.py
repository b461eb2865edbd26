"""A server of HTTP on this machine, for the tests of what calls one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class Server:
    """Has requests answered by `answer`, each in a thread of its own, with its body; at once from now on."""

    def __init__(self, answer: Answer) -> None:
        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:  # the name that http.server looks for
                """Answer it."""
                answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            do_POST = do_GET  # noqa: N815  # as above

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()


def start(answer: Answer) -> Server:
    """A server."""
    return Server(answer)
