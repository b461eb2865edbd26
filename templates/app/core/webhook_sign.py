"""Signatures of webhooks as Standard Webhooks 1.0 has them (standardwebhooks.com): HMAC-SHA256, `v1`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import SecretStr

from app.core.outcomes import WorkerError

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes, as the standard says
TOLERANCE = 300  # seconds that a message may be on its way, and clocks may differ
ID = re.compile(r"[!-~]{1,256}")
TIMESTAMP = re.compile(r"[0-9]{1,12}")


class BadSignatureError(WorkerError):
    """Whoever has sent this does not know the key, or has sent it long ago."""


def new_secret() -> SecretStr:
    """A secret to share with a receiver."""
    return SecretStr(PREFIX + base64.b64encode(secrets.token_bytes(32)).decode())


def signed(id_: str, body: bytes, keys: Sequence[SecretStr], now: datetime) -> dict[str, str]:
    """The headers of one try to deliver `body`. `id_` is the same on each try. With several keys, while one
    takes the place of another, the receiver needs to know one of them.

    Raises ValueError for an id with a dot, a key that is none, and a `now` without its zone.
    """
    if "." in id_ or not keys or now.tzinfo is None:
        raise ValueError("an id without a dot, a key, and a time with its zone are needed")
    timestamp = str(int(now.timestamp()))
    return {
        "webhook-id": id_,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures(id_, timestamp, body, keys)),
    }


def verified(headers: Mapping[str, str], body: bytes, keys: Sequence[SecretStr], now: datetime) -> str:
    """The id of a message that was signed with one of `keys` and not long ago. It says nothing about whether
    it came before. `headers` are looked up in lower case, `body` is as it came, byte for byte.

    Raises BadSignatureError, and ValueError for a key that is none.
    """
    id_, timestamp, given = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not ID.fullmatch(id_) or not TIMESTAMP.fullmatch(timestamp):
        raise BadSignatureError("webhook-id, webhook-timestamp: missing, or not as they have to be")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE:
        raise BadSignatureError("webhook-timestamp: too old, or ahead of our clock")
    ours = [signature.encode() for signature in signatures(id_, timestamp, body, keys)]
    theirs = [signature.encode() for signature in given.split(" ")]
    # Compared in constant time: how long it takes must not tell how much of a guess is right.
    if not any(hmac.compare_digest(one, other) for one in ours for other in theirs):
        raise BadSignatureError("webhook-signature: none that is right")
    return id_


def signatures(id_: str, timestamp: str, body: bytes, keys: Sequence[SecretStr]) -> list[str]:
    """One for each key."""
    content = f"{id_}.{timestamp}.".encode() + body
    digests = [hmac.new(key_bytes(key), content, hashlib.sha256).digest() for key in keys]
    return [f"v1,{base64.b64encode(digest).decode()}" for digest in digests]


def key_bytes(secret: SecretStr) -> bytes:
    """The bytes that a secret stands for. Raises ValueError for what is none."""
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError("a webhook's secret is whsec_ and 24 to 64 bytes in base64")
    return key
