"""Signatures of webhooks as Standard Webhooks 1.0 has them (standardwebhooks.com): HMAC-SHA256, `v1`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

from pydantic import SecretStr

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes, as the standard says


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
    content = f"{id_}.{timestamp}.".encode() + body
    digests = [hmac.new(key_bytes(key), content, hashlib.sha256).digest() for key in keys]
    return {
        "webhook-id": id_,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def key_bytes(secret: SecretStr) -> bytes:
    """The bytes that a secret stands for. Raises ValueError for what is none."""
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError("a webhook's secret is whsec_ and 24 to 64 bytes in base64")
    return key
