"""Web Push: our encryption against the RFC's own example and against another library's primitives."""

import json
from datetime import UTC, datetime

import pytest
from Crypto.PublicKey import ECC
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.operations.push_service import Browser
from tradingbot.operations import webpush

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
# RFC 8291, appendix A.
SENDER_PRIVATE = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
RECEIVER_PUBLIC = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
MESSAGE = b"When I grow up, I want to be a watermelon"
ENCRYPTED = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_y"
    "l95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def test_the_example_of_the_rfc_comes_out_byte_by_byte() -> None:
    secret = int.from_bytes(webpush.from_base64url(SENDER_PRIVATE), "big")

    sealed = webpush.encrypt(
        MESSAGE, p256dh=RECEIVER_PUBLIC, auth=AUTH, key=ECC.construct(curve="P-256", d=secret),
        salt=webpush.from_base64url(SALT),
    )  # fmt: skip

    assert webpush.to_base64url(sealed) == ENCRYPTED


def test_a_browser_reads_what_was_encrypted_for_it_and_no_other_does() -> None:
    browser, other = Browser("https://push.example/1"), Browser("https://push.example/2")
    sealed = webpush.encrypt("Größe ▲".encode(), p256dh=browser.p256dh, auth=browser.auth)

    assert browser.decrypt(sealed).decode() == "Größe ▲"
    with pytest.raises(Exception):  # noqa: B017 - whatever the other library says of a wrong key
        other.decrypt(sealed)


def test_the_same_message_is_never_sealed_twice_alike() -> None:
    browser = Browser("https://push.example/1")

    first, second = (webpush.encrypt(b"again", p256dh=browser.p256dh, auth=browser.auth) for _ in range(2))

    assert first[:16] != second[:16]
    assert first[21:86] != second[21:86]


def test_the_vapid_token_is_for_the_push_service_and_verifies_with_our_public_key() -> None:
    key = webpush.load_private_key(webpush.new_private_key())

    header = webpush.vapid_authorization(
        endpoint="https://push.example:8443/abc", key=key, contact="mailto:ops@example.com", now=NOW
    )

    token, _, public = header.removeprefix("vapid t=").partition(", k=")
    head, body, signature = token.split(".")
    raw = webpush.from_base64url(signature)
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), webpush.from_base64url(public))
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    point.verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(webpush.from_base64url(head)) == {"typ": "JWT", "alg": "ES256"}
    claims = json.loads(webpush.from_base64url(body))
    assert claims["aud"] == "https://push.example:8443"
    assert 0 < claims["exp"] - NOW.timestamp() <= 24 * 3600


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", '{"endpoint": "https://x"}', '{"endpoint": 1, "keys": {"p256dh": "a", "auth": "b"}}',
        '{"endpoint": "https://x", "keys": {"p256dh": "!!", "auth": "BTBZMqHH6r4Tts7J_aSIgg"}}',
        json.dumps({"endpoint": "https://x", "keys": {"p256dh": RECEIVER_PUBLIC, "auth": "c2hvcnQ"}}),
        json.dumps({"endpoint": "https://x", "keys": {"p256dh": "B" + "A" * 86, "auth": AUTH}}),
    ],
)  # fmt: skip
def test_what_is_no_subscription_is_refused(text: str) -> None:
    with pytest.raises(webpush.MalformedSubscription):
        webpush.parse_subscription(text)


def test_a_message_that_no_push_service_would_take_is_refused() -> None:
    browser = Browser("https://push.example/1")

    with pytest.raises(ValueError, match="at most"):
        webpush.encrypt(b"x" * 3001, p256dh=browser.p256dh, auth=browser.auth)
