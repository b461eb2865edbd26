"""Signatures of webhooks: those of the standard's own example, and keys that are none."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import SecretStr

from app.core.webhook_sign import key_bytes, new_secret, signed

# From the test vectors of the reference libraries.
SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
ID, AT = "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC)
BODY = b'{"test": 2432232314}'


def test_the_example_of_the_standard() -> None:
    assert signed(ID, BODY, [SECRET], AT) == {
        "webhook-id": ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_time_is_that_of_its_zone() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5)))
    assert signed(ID, BODY, [SECRET], elsewhere) == signed(ID, BODY, [SECRET], AT)


def test_two_keys_while_one_replaces_the_other() -> None:
    new = new_secret()
    both = signed(ID, BODY, [new, SECRET], AT)["webhook-signature"].split(" ")
    assert both[1] == signed(ID, BODY, [SECRET], AT)["webhook-signature"]
    digest = hmac.new(key_bytes(new), f"{ID}.1614265330.".encode() + BODY, hashlib.sha256).digest()
    assert both[0] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_short", "whsec_" + "!" * 40, "whsec_" + "A" * 200])
def test_secrets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        signed(ID, BODY, [SecretStr(text)], AT)


def test_what_cannot_be_signed() -> None:
    for id_, keys, at in (("a.b", [SECRET], AT), (ID, [], AT), (ID, [SECRET], AT.replace(tzinfo=None))):
        with pytest.raises(ValueError, match="needed"):
            signed(id_, BODY, keys, at)
