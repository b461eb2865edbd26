"""What the stub remembers: scripts, calls, effects, and which key had which effect."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from world.schemas import Behaviour, Call, Count, Effect

_OK = Behaviour(kind="ok")


class KeyReusedError(Exception):
    """An idempotency key came a second time, with another body.

    Answered with 422, as the IETF draft on the Idempotency-Key header proposes.
    """


class Ledger:
    """The memory of one process; it is gone when the process ends."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.effects: list[Effect] = []
        self._scripts: defaultdict[str, deque[Behaviour]] = defaultdict(deque)
        self._by_key: dict[tuple[str, str], Effect] = {}
        self._released = asyncio.Event()

    def clear(self) -> None:
        """Forget everything, scripts and keys included, and let the waiting calls go on."""
        for memory in (self.calls, self.effects, self._scripts, self._by_key):
            memory.clear()
        self._released.set()
        self._released = asyncio.Event()

    def script(self, target: str, behaviours: list[Behaviour]) -> None:
        """Replace the script of `target`."""
        self._scripts[target] = deque(behaviour.model_copy() for behaviour in behaviours)

    def next_behaviour(self, target: str) -> Behaviour:
        """Return how the present call goes, and use up one of its times."""
        queue = self._scripts[target]
        if not queue:
            return _OK
        behaviour = queue[0]
        if behaviour.times is not None:
            behaviour.times -= 1
            if behaviour.times == 0:
                queue.popleft()
        return behaviour

    def record(self, target: str, key: str | None, headers: dict[str, str], raw: bytes, body: Any) -> Call:
        """Note a call at its arrival; what becomes of it is filled in later."""
        text = raw.decode(errors="replace")
        number = len(self.calls) + 1
        call = Call(
            number=number, at=datetime.now(UTC), target=target, key=key, headers=headers, raw=text, body=body
        )
        self.calls.append(call)
        return call

    def work(self, call: Call, status: int, make_answer: Callable[[int], dict[str, Any]]) -> Effect:
        """Do the work of this call, or return what its key has done before.

        `make_answer` makes the answer from the number of the effect. Raises `KeyReusedError`.
        """
        if call.key is None or (effect := self._by_key.get((call.target, call.key))) is None:
            return self._first_work(call, status, make_answer)
        if effect.body != call.body:
            raise KeyReusedError
        return effect

    def _first_work(self, call: Call, status: int, make_answer: Callable[[int], dict[str, Any]]) -> Effect:
        number = len(self.effects) + 1
        effect = Effect(
            number=number,
            at=datetime.now(UTC),
            target=call.target,
            key=call.key,
            body=call.body,
            status=status,
            answer=make_answer(number),
        )
        self.effects.append(effect)
        if call.key is not None:
            self._by_key[call.target, call.key] = effect
        call.effect = True
        return effect

    async def wait(self, seconds: float) -> None:
        """Wait `seconds`, or until everything is cleared."""
        if seconds == 0:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._released.wait(), seconds)

    def counts(self) -> dict[str, Count]:
        """Return the numbers of calls and effects by target."""
        counts: defaultdict[str, Count] = defaultdict(Count)
        for call in self.calls:
            counts[call.target].calls += 1
        for effect in self.effects:
            counts[effect.target].effects += 1
        return dict(counts)
