"""What a task of the peers does, apart from nothing: a write, or a call of a language model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Doing = Callable[[str, int], Awaitable[object]]


def doing(task: str) -> Doing:
    """A coroutine function of a message's id and its order's; imported late, since both need settings."""
    if task == "llm":
        from benchmarks.calling import call

        return call
    from benchmarks.writing import write

    return write
