"""The message format: CloudEvents 1.0 in JSON, structured mode, with a version in the type.

A type is `<name>.v<number>`, such as `shop.order.paid.v1`. Adding an optional field keeps the version;
anything else is a new version, and a consumer that does not know it sets the message aside.
Checked by pydantic rather than by the `cloudevents` package: one pass in compiled code, errors that name
the field.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from app.core.outcomes import InvalidMessageError

T = TypeVar("T", bound=BaseModel)
# W3C trace context of the message being handled; what a handler sends carries it on.
current_traceparent: ContextVar[str | None] = ContextVar("current_traceparent", default=None)

TYPE_PATTERN = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,180})\.v(?P<version>[0-9]{1,6})")


class Envelope(BaseModel):
    """The attributes of CloudEvents 1.0 that we use; unknown extensions are kept out of the way."""

    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"]
    id: str = Field(min_length=1, max_length=200)
    source: str = Field(min_length=1, max_length=200, pattern=r"^\S+$")
    type: str = Field(min_length=1, max_length=200)
    subject: str | None = None
    time: AwareDatetime | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None
    # Of request and reply (`app.core.rabbit_rpc`): where the reply goes, until when somebody waits for it;
    # and in the reply the id of its request.
    replyto: str | None = None
    expirytime: AwareDatetime | None = None
    correlationid: str | None = None
    data: Any


@dataclass(slots=True)
class Message(Generic[T]):
    """A message as a handler sees it. `delivery` is 1 for the first delivery."""

    consumer: str
    envelope: Envelope
    data: T
    delivery: int = 1

    @property
    def message_id(self) -> str:
        """Unique over all producers: CloudEvents makes source and id unique together, not the id alone."""
        return f"{self.envelope.source} {self.envelope.id}"

    @property
    def idempotency_key(self) -> str:
        """The key for calls to the outside: the same on each delivery, different for each consumer.

        Append a suffix when one handler makes several calls.
        """
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.consumer} {self.message_id}"))


class Reader:
    """Reads messages of the types in `payloads`, each with the model of its data."""

    def __init__(self, payloads: Mapping[str, type[BaseModel]], skip: Collection[str] = ()) -> None:
        self._payloads, self._skip = payloads, skip
        # Envelope and payload in one pass; what does not fit is looked at again, to say why.
        models = [specialised(type_, payload) for type_, payload in payloads.items()]
        together: Any = (
            models[0] if len(models) == 1 else Annotated[Union[*models], Field(discriminator="type")]
        )
        self._read = TypeAdapter(together).validator.validate_json

    def read(self, raw: bytes, max_bytes: int) -> Envelope | None:
        """The message in `raw`, its data as the payload's model; None for a type that is to be skipped.

        Raises InvalidMessageError with a reason that a person understands.
        """
        check_size(raw, max_bytes)
        try:
            envelope: Envelope = self._read(raw)
        except ValidationError:
            self._look_again(raw)
            return None
        return envelope

    def _look_again(self, raw: bytes) -> None:
        """Say what is wrong with `raw`; returns when its type is to be skipped."""
        try:
            envelope = Envelope.model_validate_json(raw)
        except ValidationError as error:
            raise InvalidMessageError(f"not a CloudEvents 1.0 message: {explain(raw, error)}") from None
        if envelope.type in self._skip:
            return
        model = self._payloads.get(envelope.type)
        if model is None:
            raise InvalidMessageError(unknown_type(envelope.type, self._payloads))
        try:
            model.model_validate(envelope.data)
        except ValidationError as error:
            raise InvalidMessageError(f"payload of {envelope.type}: {fields(error)}") from None
        raise InvalidMessageError(f"payload of {envelope.type} does not fit")


def check_size(raw: bytes, max_bytes: int) -> None:
    """Raises InvalidMessageError for a message of more bytes."""
    if len(raw) > max_bytes:
        raise InvalidMessageError(f"message of {len(raw)} bytes, at most {max_bytes} are allowed")


def specialised(type_: str, payload: type[BaseModel]) -> type[Envelope]:
    """The envelope of one type, with the model of its data."""
    fields_: dict[str, Any] = {"type": (Literal[type_], ...), "data": (payload, ...)}
    return create_model(f"{payload.__name__}Envelope", __base__=Envelope, **fields_)


def build(
    type_: str,
    data: BaseModel,
    *,
    source: str,
    id_: str,
    subject: str | None = None,
    time: datetime | None = None,
    traceparent: str | None = None,
    replyto: str | None = None,
    expirytime: datetime | None = None,
    correlationid: str | None = None,
) -> bytes:
    """The bytes of a new message. Raises ValueError for a type without a version."""
    topic_of(type_)
    envelope = Envelope(
        specversion="1.0",
        id=id_,
        source=source,
        type=type_,
        subject=subject,
        time=time or datetime.now(UTC),
        datacontenttype="application/json",
        traceparent=traceparent,
        replyto=replyto,
        expirytime=expirytime,
        correlationid=correlationid,
        data=data.model_dump(mode="json"),
    )
    return envelope.model_dump_json(exclude_none=True).encode()


def topic_of(type_: str) -> str:
    """The stream, or routing key, of a type: its name without the version, so that versions share a queue.

    Raises ValueError for a type without a version.
    """
    match = TYPE_PATTERN.fullmatch(type_)
    if match is None:
        raise ValueError(
            f"message type {type_!r} has no version: write <name>.v<number>, such as shop.order.paid.v1"
        )
    return match["name"]


def explain(raw: bytes, error: ValidationError) -> str:
    """Why the bytes are no envelope, most basic reason first."""
    try:
        raw.decode()
    except UnicodeDecodeError as problem:
        return f"not UTF-8: {problem.reason} at byte {problem.start}"
    return fields(error)


def fields(error: ValidationError) -> str:
    """The first problems of a validation error, each with its field, without values: they may be secret."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    texts = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" if p["loc"] else p["msg"] for p in problems[:3]]
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(texts) + more


def unknown_type(type_: str, known: Mapping[str, object]) -> str:
    """The reason for a type that nobody handles; tells an unknown version from an unknown type."""
    match = TYPE_PATTERN.fullmatch(type_)
    versions = [t for t in known if match and t.rpartition(".v")[0] == match["name"]]
    if match and versions:
        return f"unknown version v{match['version']} of {match['name']}, known: {', '.join(sorted(versions))}"
    return f"unknown type {type_!r}, known: {', '.join(sorted(known))}"
