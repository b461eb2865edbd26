"""Signatures of webhooks: those of the standard's own example, and keys that are none."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks import Webhook

from app.core.webhook_sign import TOLERANCE, BadSignatureError, key_bytes, new_secret, signed, verified

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


def test_the_reference_library_finds_ours_right_and_we_find_its() -> None:
    now, secret, body = datetime.now(UTC), new_secret(), '{"name": "Zo\u00eb",  "n": 1}'
    library = Webhook(secret.get_secret_value())
    for keys in ([secret], [new_secret(), secret], [secret, new_secret()]):
        assert library.verify(body, signed("msg_1", body.encode(), keys, now)) == {"name": "Zo\u00eb", "n": 1}
    theirs = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": library.sign("msg_1", now, body),
    }
    assert verified(theirs, body.encode(), [new_secret(), secret], now) == "msg_1"


HEADERS = signed(ID, BODY, [SECRET], AT)


def test_what_is_right() -> None:
    assert verified(HEADERS, BODY, [SECRET], AT) == ID
    more = "v1a,xx v2,yy  " + HEADERS["webhook-signature"] + " v1,"
    assert verified({**HEADERS, "webhook-signature": more}, BODY, [new_secret(), SECRET], AT) == ID
    for seconds in (-TOLERANCE, TOLERANCE):
        assert verified(HEADERS, BODY, [SECRET], AT + timedelta(seconds=seconds)) == ID


@pytest.mark.parametrize("seconds", [-TOLERANCE - 1, TOLERANCE + 1, 86_400])
def test_what_was_sent_at_another_time(seconds: int) -> None:
    with pytest.raises(BadSignatureError, match="timestamp"):
        verified(HEADERS, BODY, [SECRET], AT + timedelta(seconds=seconds))


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_is_missing(name: str) -> None:
    with pytest.raises(BadSignatureError):
        verified({**HEADERS, name: ""}, BODY, [SECRET], AT)
    with pytest.raises(BadSignatureError):
        verified({key: value for key, value in HEADERS.items() if key != name}, BODY, [SECRET], AT)


def test_what_was_changed() -> None:
    for headers, body, keys in (
        (HEADERS, BODY + b" ", [SECRET]),
        ({**HEADERS, "webhook-id": "msg_2"}, BODY, [SECRET]),
        ({**HEADERS, "webhook-timestamp": "1614265331"}, BODY, [SECRET]),
        (HEADERS, BODY, [new_secret()]),
        (HEADERS, BODY, []),
        ({**HEADERS, "webhook-signature": HEADERS["webhook-signature"].removeprefix("v1,")}, BODY, [SECRET]),
        ({**HEADERS, "webhook-signature": HEADERS["webhook-signature"][:-1]}, BODY, [SECRET]),
    ):
        with pytest.raises(BadSignatureError):
            verified(headers, body, keys, AT)


@given(st.sampled_from(sorted(HEADERS)), st.text(max_size=80))
def test_whatever_a_header_says_it_is_no_other_error(name: str, value: str) -> None:
    with pytest.raises(BadSignatureError):
        verified({**HEADERS, name: value}, BODY, [SECRET], AT)
