"""What a Redis does when its memory is full: one that deletes messages then is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core.outcomes import RefusedToStartError


def check_memory(memory: Mapping[str, Any]) -> None:
    """Look at a Redis' answer to INFO memory, which managed ones give too, unlike CONFIG.

    The policies allkeys-* take any key, a queue with all that waits in it, and tell nobody. The others are
    right: noeviction refuses what is sent, so that it stays where it is, and volatile-* take only keys that
    expire, as none with messages does. Without a limit nothing is deleted, whatever the policy.

    Raises RefusedToStartError.
    """
    limit, policy = memory.get("maxmemory"), str(memory.get("maxmemory_policy"))
    if limit and policy.startswith("allkeys"):
        raise RefusedToStartError(
            f"Redis: maxmemory-policy {policy} deletes messages when memory is full: noeviction is needed"
        )
