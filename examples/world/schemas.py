"""What the stub takes and tells, as models that server and client share."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# The targets of a script: the three services, and each webhook receiver by its name.
Target = Annotated[str, StringConstraints(pattern=r"^(mail|payments|llm|webhooks/[A-Za-z0-9_.-]+)$")]


class Behaviour(BaseModel):
    """How the next `times` calls of a target go; None means every call until the next script.

    ok: does the work and answers. fail: answers `status`, with Retry-After if `retry_after` is given
    (seconds, or any text for the header). hang: does the work and answers `seconds` later. drop: does the
    work and closes the connection without an answer. Every kind waits `seconds` before it ends the call.

    `effect` says whether fail and drop do the work: by default drop does and fail does not. `answer`
    replaces the usual answer to work that is done now.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["ok", "fail", "hang", "drop"]
    times: Annotated[int, Field(ge=1)] | None = 1
    status: Annotated[int, Field(ge=400, le=599)] = 503
    retry_after: float | str | None = None
    seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    effect: bool | None = None
    answer: dict[str, Any] | None = None

    @property
    def works(self) -> bool:
        """Whether a call that goes this way does the work."""
        if self.kind in ("ok", "hang"):
            return True
        return self.kind == "drop" if self.effect is None else self.effect


class Script(BaseModel):
    """The behaviours of one target, in order. It replaces the script that the target had."""

    model_config = ConfigDict(extra="forbid")

    target: Target
    behaviour: list[Behaviour]


class Call(BaseModel):
    """One call as it came in.

    `status` is None while the call is open, and stays None when the connection was dropped. `effect` says
    whether this very call did the work: False for a failure and for a repeated key.
    """

    number: int
    at: datetime
    target: str
    key: str | None
    headers: dict[str, str]
    raw: str
    body: Any
    status: int | None = None
    effect: bool = False


class Effect(BaseModel):
    """One piece of work that was done: a message sent, money taken, a text written, a webhook received."""

    number: int
    at: datetime
    target: str
    key: str | None
    body: Any
    status: int
    answer: dict[str, Any]


class Count(BaseModel):
    """How often a target was called, and how often it did its work."""

    calls: int = 0
    effects: int = 0
