"""Web Push without a service of our own: message encryption (RFC 8291, RFC 8188) and VAPID (RFC 8292).

Its usual library depends on a package without wheels, which the installation refuses; the primitives come from
pycryptodome. Keys and secrets are base64url without padding, as browsers hand them out.
"""

import base64
import binascii
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.DH import key_agreement
from Crypto.Protocol.KDF import HKDF
from Crypto.PublicKey import ECC
from Crypto.Random import get_random_bytes
from Crypto.Signature import DSS

CURVE = "P-256"
RECORD_SIZE_BYTES = 4096
MESSAGE_BYTES_MAX = 3000  # a push service takes at least 4096 bytes with all that surrounds it
TOKEN_LIFETIME = timedelta(hours=12)
_LAST_RECORD = b"\x02"


class MalformedSubscription(ValueError):
    """What claims to be a push subscription is none; the text says what is wrong."""


def parse_subscription(text: str) -> dict[str, str]:
    """`endpoint`, `p256dh` and `auth` of a browser's PushSubscription as JSON, each checked."""
    try:
        stated = json.loads(text)
        keys = stated["keys"]
        found = {"endpoint": stated["endpoint"], "p256dh": keys["p256dh"], "auth": keys["auth"]}
    except (ValueError, KeyError, TypeError):
        raise MalformedSubscription("The browser's subscription could not be read.") from None
    if not all(isinstance(value, str) and len(value) <= 1000 for value in found.values()):
        raise MalformedSubscription("The browser's subscription could not be read.")
    try:
        _public_key(from_base64url(found["p256dh"]))
        secret = from_base64url(found["auth"])
    except ValueError:
        raise MalformedSubscription("The browser's subscription holds no usable key.") from None
    if len(secret) != 16:
        raise MalformedSubscription("The browser's subscription holds no usable secret.")
    return found


def encrypt(
    message: bytes,
    *,
    p256dh: str,
    auth: str,
    key: ECC.EccKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """`message` as one aes128gcm record for a subscription; `key` and `salt` are fresh unless a test gives them."""
    if len(message) > MESSAGE_BYTES_MAX:
        raise ValueError(f"a push message has at most {MESSAGE_BYTES_MAX} bytes")
    receiver_public = from_base64url(p256dh)
    key = key or ECC.generate(curve=CURVE)
    salt = salt or get_random_bytes(16)
    sender_public = public_bytes(key)

    def derive(shared: bytes) -> bytes:
        info = b"WebPush: info\x00" + receiver_public + sender_public
        return _hkdf(shared, salt=from_base64url(auth), info=info, size=32)

    keying = key_agreement(static_priv=key, static_pub=_public_key(receiver_public), kdf=derive)
    content_key = _hkdf(keying, salt=salt, info=b"Content-Encoding: aes128gcm\x00", size=16)
    nonce = _hkdf(keying, salt=salt, info=b"Content-Encoding: nonce\x00", size=12)
    sealed, tag = AES.new(content_key, AES.MODE_GCM, nonce=nonce).encrypt_and_digest(message + _LAST_RECORD)
    header = salt + RECORD_SIZE_BYTES.to_bytes(4, "big") + bytes([len(sender_public)]) + sender_public
    return header + sealed + tag


def vapid_authorization(*, endpoint: str, key: ECC.EccKey, contact: str, now: datetime) -> str:
    """The Authorization header that names us to the push service of `endpoint`."""
    parts = urlsplit(endpoint)
    claims = {
        "aud": f"{parts.scheme}://{parts.netloc}",
        "exp": int((now + TOKEN_LIFETIME).timestamp()),
        "sub": contact,
    }
    head, body = (to_base64url(_json(value)) for value in ({"typ": "JWT", "alg": "ES256"}, claims))
    signed = f"{head}.{body}".encode()
    signature = DSS.new(key, "fips-186-3").sign(SHA256.new(signed))
    return f"vapid t={head}.{body}.{to_base64url(signature)}, k={to_base64url(public_bytes(key))}"


def new_private_key() -> str:
    """A fresh VAPID key as PEM."""
    return str(ECC.generate(curve=CURVE).export_key(format="PEM"))


def load_private_key(pem: str) -> ECC.EccKey:
    """The VAPID key of `pem`; raises ValueError."""
    return ECC.import_key(pem)


def public_bytes(key: ECC.EccKey) -> bytes:
    """The uncompressed point of `key`, 65 bytes."""
    return bytes(key.public_key().export_key(format="raw", compress=False))


def to_base64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes of base64url with or without padding; raises ValueError."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _public_key(point: bytes) -> ECC.EccKey:
    if len(point) != 65 or point[0] != 4:
        raise ValueError("not an uncompressed point")
    key = ECC.import_key(point, curve_name=CURVE)
    if key.pointQ.is_point_at_infinity():
        raise ValueError("not a point of use")
    return key


def _hkdf(secret: bytes, *, salt: bytes, info: bytes, size: int) -> bytes:
    derive: Callable[..., Any] = HKDF
    return bytes(derive(secret, size, salt, SHA256, context=info))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
