"""A TCP proxy that misbehaves on command, to stand between the code under test and a real server.

It runs in a thread with its own event loop: worker subprocesses connect through it while the test, async or
not, changes its behaviour. Every method returns when the change is in force.
"""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from support.ports import free_port
from support.proxy_link import Behaviour, Direction, Link, Trigger

T = TypeVar("T")


class FaultProxy:
    """Forwards 127.0.0.1:`port` to a server on `target_port`; starts in the mode "pass".

    A mode holds for present and for new connections until the next one is set.
    """

    host = "127.0.0.1"

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self._target = (target_host, target_port)
        self._behaviour = Behaviour()
        self._links: set[Link] = set()
        self._accepted = 0
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self.triggered = threading.Event()
        """Set when the condition of `close_after` has come true."""

    def start(self) -> Self:
        """Listen."""
        self._thread.start()
        self._run(self._listen())
        return self

    def close(self) -> None:
        """Reset every connection and stop listening for good."""
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, url: str) -> str:
        """`url` of the server, changed to lead through the proxy."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{self.host}:{self.port}"))

    @property
    def connections(self) -> int:
        """How many connections are open through the proxy."""
        return len(self._links)

    @property
    def accepted(self) -> int:
        """How many connections were ever accepted; it grows when a client connects anew."""
        return self._accepted

    def pass_through(self) -> None:
        """Forward everything, as a plain wire.

        What was held back by `half_open` now arrives. Connections that lost answers under `drop_responses`
        are reset, since nothing sensible could follow on them.
        """
        self._change(Behaviour())

    def half_open(self) -> None:
        """Keep connections, accept new ones, forward nothing in either direction and never say good-bye.

        This is what a client sees when a machine or a firewall between vanishes: no error, no end, no answer.
        """
        self._change(Behaviour(held=True))

    def drop_responses(self) -> None:
        """Requests reach the server and are carried out; its answers are swallowed."""
        self._change(Behaviour(drop_responses=True))

    def latency(self, milliseconds: float) -> None:
        """Forward everything, each piece later by this much, in each direction."""
        self._change(Behaviour(delay_s=milliseconds / 1000))

    def reset(self) -> None:
        """Reset (RST) every connection and refuse new ones, as a dead server does, until the next mode."""

        async def cut_off() -> None:
            await self._stop_listening()
            self._abort_links()

        self._run(cut_off())

    def lead_to(self, port: int) -> None:
        """Lead new connections to another server, as after a failover; those that are open are reset."""

        async def turn() -> None:
            self._target = (self._target[0], port)
            self._abort_links()

        self._run(turn())

    def reset_connections(self) -> None:
        """Reset every open connection once; new ones are accepted, and the mode stays."""

        async def cut() -> None:
            self._abort_links()

        self._run(cut())

    def close_after(
        self,
        pattern: bytes,
        direction: Literal["to_server", "to_client"],
        *,
        deliver: bool = False,
        times: int = 1,
    ) -> None:
        """Reset a connection when `pattern` passes in `direction`; after `times` such resets just pass.

        With direction "to_client" and `deliver` false the server has carried out the request and the client
        never hears of it: "COMMIT was executed but the answer got lost". With "to_server" and `deliver` false
        the request gets lost; with `deliver` true it arrives and the connection breaks before the answer.
        """
        self.triggered.clear()
        trigger = Trigger(pattern, Direction(direction), deliver, times, self.triggered)
        self._change(Behaviour(trigger=trigger))

    def _change(self, behaviour: Behaviour) -> None:
        async def change() -> None:
            former, self._behaviour = self._behaviour, behaviour
            former.over.set()
            if not (behaviour.held or behaviour.drop_responses):
                for link in [link for link in self._links if link.lost_answers]:
                    link.abort()
            await self._listen()

        self._run(change())

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        link = Link((reader, writer), self._target, lambda: self._behaviour)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    def _abort_links(self) -> None:
        for link in list(self._links):
            link.abort()

    async def _shut(self) -> None:
        await self._stop_listening()
        self._abort_links()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)

    def _run(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
