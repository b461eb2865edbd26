"""Liveness and readiness: over HTTP for platforms, as a command for exec probes.

    python -m app.core.health ready        exit code 0 or 1, the reasons on stdout

The answers come from a thread of their own, so that a blocked event loop is reported instead of being one
more request that hangs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from app.core.worker_settings import WorkerSettings, worker_settings

PULSE = 0.5
logger = logging.getLogger(__name__)
UNREADY_AFTER = 5.0


class Health:
    """Serves /live and /ready. `problems` says what keeps the workers from working."""

    def __init__(self, settings: WorkerSettings, problems: Callable[[], Sequence[str]]) -> None:
        self._settings = settings
        self._problems = problems
        self._pulse = time.monotonic()
        self._server: ThreadingHTTPServer | None = None

    def pulse(self) -> None:
        """The event loop runs; the age of this is what the probes look at."""
        self._pulse = time.monotonic()

    async def beat(self) -> None:
        """Show that the event loop runs, for ever."""
        while True:
            self.pulse()
            await asyncio.sleep(PULSE)

    def live(self) -> list[str]:
        """Reasons to restart the process: its event loop is stuck. An outage elsewhere is none."""
        return self._blocked(self._settings.worker_stall_seconds)

    def ready(self) -> list[str]:
        """Reasons why no messages are being consumed."""
        return [*self._blocked(UNREADY_AFTER), *self._problems()]

    def _blocked(self, limit: float) -> list[str]:
        age = time.monotonic() - self._pulse
        return [f"event loop blocked for {age:.0f} s"] if age > limit else []

    def start(self) -> None:
        """Listen on the configured port, unless it is 0. Raises OSError when the port is taken."""
        port = self._settings.worker_health_port
        if not port:
            return
        try:
            self._server = Server((self._settings.worker_health_host, port), handler_for(self))
        except OSError as error:
            hint = "each process of a machine needs its own, 0 is none"
            if "worker_health_port" not in self._settings.model_fields_set:
                logger.warning("no probes: WORKER_HEALTH_PORT=%d: %s; %s", port, error, hint)
                return
            raise OSError(f"WORKER_HEALTH_PORT={port}: {error}; {hint}") from error
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class Server(ThreadingHTTPServer):
    """Answers each probe in a thread."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone away is no news either."""


def handler_for(health: Health) -> type[BaseHTTPRequestHandler]:
    """A request handler that answers for `health`."""
    checks = {"/live": health.live, "/ready": health.ready}

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # a client that sends nothing must not keep a thread

        def do_GET(self) -> None:
            check = checks.get(self.path.partition("?")[0])
            if check is None:
                self.send_error(404)
                return
            found = check()
            body = json.dumps({"ok": not found, "problems": found}).encode()
            self.send_response(503 if found else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
            """Probes come every few seconds; they are no news."""

    return Handler


def probe(kind: str, settings: WorkerSettings) -> int:
    """Ask the worker on this machine; exit code 0 when it is well. An exec probe calls it."""
    url = f"http://127.0.0.1:{settings.worker_health_port}/{kind}"
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # our own address
            sys.stdout.write(answer.read().decode() + "\n")
            return 0
    except urllib.error.HTTPError as error:
        sys.stdout.write(error.read().decode() + "\n")
    except OSError as error:
        sys.stdout.write(f"no answer from {url}: {error}\n")
    return 1


if __name__ == "__main__":
    if sys.argv[1:] not in (["live"], ["ready"]):
        sys.exit("usage: python -m app.core.health live|ready")
    sys.exit(probe(sys.argv[1], worker_settings()))
