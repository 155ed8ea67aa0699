"""API keys, signatures and the time window of signed requests (binance.md §2.1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from decimal import Decimal

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC, RSA
from Crypto.Signature import eddsa, pkcs1_15

from simulator.api.params import MICROSECONDS_FROM, Params
from simulator.engine.contracts import Account, KeyType
from simulator.engine.errors import ExchangeError, illegal_characters
from simulator.engine.exchange import Exchange

API_KEY = re.compile(r"^[A-Za-z0-9]{64}$")
SIGNATURE_PAIR = re.compile(r"(^|&)signature=[^&]*")
RECV_WINDOW_DEFAULT_MS = Decimal(5_000)
RECV_WINDOW_MAX_MS = Decimal(60_000)
AHEAD_MAX_MS = 1_000
RSA_BITS_MIN = 2_048


def account_of_key(exchange: Exchange, api_key: str | None) -> Account:
    """The key's account. -2014 for what cannot be a key, -2015 for an unknown one."""
    if not api_key or not API_KEY.match(api_key):
        raise ExchangeError(-2014, "API-key format invalid.", status=401)
    account_id = exchange.account_ids.get(api_key)
    if account_id is None:
        raise ExchangeError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
    return exchange.ledger.accounts[account_id]


def rest_payload(query: str, body: str) -> str:
    """The exact bytes that a REST client signs: query and body as sent, without the signature itself."""
    return SIGNATURE_PAIR.sub("", query) + SIGNATURE_PAIR.sub("", body)


def check_signed(account: Account, params: Params, payload: str, now_ms: int) -> None:
    """Raise -1102, -1021 or -1022 unless the request is fresh and signed with the account's key."""
    timestamp_text = params.required("timestamp")
    signature = params.required("signature")
    check_timestamp(timestamp_text, params, now_ms)
    # JSON can carry half a surrogate pair, which plain UTF-8 cannot.
    signed = payload.encode(errors="surrogatepass")
    if not _is_signed_by(account, signed, signature):
        raise ExchangeError(-1022, "Signature for this request is not valid.")


def public_key_problem(key_type: KeyType, pem: str) -> str | None:
    """What is wrong with a public key for this type, None when it is good."""
    try:
        if key_type is KeyType.RSA:
            too_short = RSA.import_key(pem).size_in_bits() < RSA_BITS_MIN
            return f"an RSA key must have at least {RSA_BITS_MIN} bits" if too_short else None
        if ECC.import_key(pem).curve != "Ed25519":
            return "the key is on another curve than Ed25519"
    except (ValueError, IndexError, TypeError) as error:
        return f"publicKey must be the PEM text of a public key: {error}"
    return None


def _is_signed_by(account: Account, signed: bytes, signature: str) -> bool:
    if account.key_type is KeyType.HMAC:
        expected = hmac.new(account.secret_key.encode(), signed, hashlib.sha256).hexdigest()
        # The hex digits of an HMAC may come in either case.
        return hmac.compare_digest(expected.encode(), signature.lower().encode(errors="surrogatepass"))
    try:
        raw = base64.b64decode(signature, validate=True)
        if account.key_type is KeyType.RSA:
            pkcs1_15.new(RSA.import_key(account.secret_key)).verify(SHA256.new(signed), raw)
        else:
            eddsa.new(ECC.import_key(account.secret_key), "rfc8032").verify(signed, raw)
    except ValueError:
        return False
    return True


def check_timestamp(text: str, params: Params, now_ms: int) -> None:
    """Refuse a timestamp from the future (1 s and more) or older than recvWindow."""
    if not re.fullmatch("[0-9]{1,20}", text):
        raise illegal_characters("timestamp", "^[0-9]{1,20}$")
    timestamp = Decimal(text)
    if timestamp >= MICROSECONDS_FROM:
        timestamp /= 1000
    if timestamp >= now_ms + AHEAD_MAX_MS:
        raise ExchangeError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - timestamp > _recv_window(params):
        raise ExchangeError(-1021, "Timestamp for this request is outside of the recvWindow.")


def _recv_window(params: Params) -> Decimal:
    text = params.text("recvWindow")
    if text is None:
        return RECV_WINDOW_DEFAULT_MS
    if not re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,3})?", text):
        raise illegal_characters("recvWindow", r"^[0-9]{1,20}(\.[0-9]{1,3})?$")
    window = Decimal(text)
    if window > RECV_WINDOW_MAX_MS:
        raise ExchangeError(-1131, "recvWindow must be less than 60000.")
    return window
