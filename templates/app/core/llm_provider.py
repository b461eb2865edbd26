"""The port to providers of language models: what a worker asks, and what comes back.

An adapter tries each call once: when to try again is the job's business, and two that retry multiply.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn, Protocol

from app.core.job import BusyError
from app.core.outcomes import PermanentError, TransientError
from app.core.retry import parse_retry_after

# Where the service is overloaded or we are too fast for it, the request was not at fault and was not done.
BUSY = frozenset({429, 529})
TRANSIENT = frozenset({408, 425, 500, 502, 503, 504})
# The same inside of a stream, where there is no status. The names are Anthropic's and OpenAI's.
BUSY_TYPES = frozenset({"overloaded_error", "rate_limit_error", "rate_limit_exceeded"})
PERMANENT_TYPES = frozenset(
    {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "billing_error",
        "not_found_error",
        "request_too_large",
    }
)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked. `max_tokens` bounds the answer."""

    model: str
    messages: tuple[Message, ...]
    system: str | None = None
    max_tokens: int = 1024

    @property
    def characters(self) -> int:
        """Its length."""
        return len(self.system or "") + sum(len(message.content) for message in self.messages)


@dataclass(slots=True)
class Usage:
    """What a call has used, as far as the provider has said it. `stop` is why the answer ended, in the
    provider's words; without one it is not complete.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    request_id: str | None = None
    stop: str | None = None


@dataclass(slots=True)
class Answer:
    """A complete answer."""

    text: str
    model: str
    usage: Usage = field(default_factory=Usage)


class Provider(Protocol):
    """What adapters implement. One of them serves all calls of an event loop."""

    def stream(
        self, prompt: Prompt, usage: Usage, *, idempotency_key: str | None = None
    ) -> AsyncGenerator[str, None]:
        """The pieces of an answer; what is known of the usage is put into `usage` as soon as it is. Closing
        the generator drops the connection. Returns normally only after a complete answer.

        Raises BusyError, TransientError and PermanentError, and what a connection raises.
        """

    async def aclose(self) -> None:
        """Close idle connections."""


def fail(status: int, headers: Mapping[str, str], kind: str = "") -> NoReturn:
    """Raise what an error status means. What providers write may quote the prompt: it is left out."""
    reason = f"the model's provider answered {status} {kind}".rstrip()
    if status in BUSY:
        raise BusyError(reason, parse_retry_after(headers))
    if status in TRANSIENT:
        raise TransientError(reason, parse_retry_after(headers))
    raise PermanentError(reason)


def fail_inside(kind: str) -> NoReturn:
    """Raise what an error in the middle of an answer means."""
    reason = f"the model's provider broke off: {kind or 'no reason given'}"
    if kind in BUSY_TYPES:
        raise BusyError(reason)
    if kind in PERMANENT_TYPES:
        raise PermanentError(reason)
    raise TransientError(reason)
