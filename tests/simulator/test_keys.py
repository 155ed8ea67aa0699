"""RSA and Ed25519 keys, sessions of the WS API."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC, RSA
from Crypto.Signature import eddsa, pkcs1_15
from websockets.asyncio.client import ClientConnection

from tests.simulator.conftest import Served, Trader, code
from tests.simulator.test_streams import ask, signed_params, talk

RSA_KEY = RSA.generate(2048)
ED_KEY = ECC.generate(curve="Ed25519")


def public_pem(kind: str) -> str:
    key: Any = RSA_KEY.public_key() if kind == "RSA" else ED_KEY.public_key()
    text = key.export_key(format="PEM")
    return text.decode() if isinstance(text, bytes) else text


def sign(kind: str, payload: str) -> str:
    if kind == "RSA":
        raw = pkcs1_15.new(RSA_KEY).sign(SHA256.new(payload.encode()))
    else:
        raw = eddsa.new(ED_KEY, "rfc8032").sign(payload.encode())
    return base64.b64encode(raw).decode()


def open_account(trader: Trader, kind: str, public_key: str | None = None) -> requests.Response:
    body = {"balances": {"USDT": "1000"}, "keyType": kind, "publicKey": public_key or public_pem(kind)}
    return trader.http.post(f"{trader.url}/sim/accounts", json=body, timeout=30)


def signed_get(trader: Trader, kind: str, api_key: str, payload: str, signed: str) -> requests.Response:
    signature = quote(sign(kind, signed), safe="")
    url = f"{trader.url}/api/v3/account?{payload}&signature={signature}"
    return trader.http.get(url, headers={"X-MBX-APIKEY": api_key}, timeout=30)


@pytest.mark.parametrize("kind", ["RSA", "ED25519"])
def test_key_signs_requests_and_a_wrong_signature_is_refused(trader: Trader, kind: str) -> None:
    opened = open_account(trader, kind).json()
    payload = urlencode({"timestamp": int(time.time() * 1000)})

    good = signed_get(trader, kind, opened["apiKey"], payload, payload)
    bad = signed_get(trader, kind, opened["apiKey"], payload, payload + "0")

    assert "secretKey" not in opened
    assert good.json()["uid"] == opened["uid"]
    assert code(bad) == (400, -1022)


@pytest.mark.parametrize(
    ("kind", "public_key"),
    [
        ("RSA", "nonsense"),
        ("ED25519", public_pem("RSA")),
        ("DSA", public_pem("RSA")),
        ("HMAC", public_pem("RSA")),
    ],
)
def test_bad_public_key_is_refused_with_a_sentence(trader: Trader, kind: str, public_key: str) -> None:
    refused = open_account(trader, kind, public_key)

    assert refused.status_code == 400 and refused.json()["error"]


def ed_params(api_key: str) -> dict[str, Any]:
    values: dict[str, Any] = {"apiKey": api_key, "timestamp": int(time.time() * 1000)}
    payload = "&".join(f"{name}={value}" for name, value in sorted(values.items()))
    return values | {"signature": sign("ED25519", payload)}


def test_session_trades_and_listens_without_signing_again(served: Served, trader: Trader) -> None:
    api_key = open_account(trader, "ED25519").json()["apiKey"]

    async def session(socket: ClientConnection) -> dict[str, Any]:
        said = {"before": await ask(socket, "userDataStream.subscribe")}
        said["logon"] = await ask(socket, "session.logon", 2, **ed_params(api_key))
        said["subscribe"] = await ask(socket, "userDataStream.subscribe", 3)
        now_ms = int(time.time() * 1000)
        said["account"] = await ask(socket, "account.status", 4, timestamp=now_ms)
        said["status"] = await ask(socket, "session.status", 5)
        said["logout"] = await ask(socket, "session.logout", 6)
        said["after"] = await ask(socket, "account.status", 7, timestamp=now_ms)
        return said

    said = talk(f"{served.url}/ws-api/v3", session)

    assert said["before"]["status"] == 400
    assert said["logon"]["result"]["apiKey"] == api_key
    assert said["subscribe"]["result"] == {"subscriptionId": 0}
    assert said["account"]["result"]["balances"][0]["asset"] == "USDT"
    assert said["status"]["result"]["userDataStream"] is True
    assert said["logout"]["result"]["apiKey"] is None
    assert said["after"]["status"] == 401


def test_unsubscribing_is_told_as_the_end_of_the_stream(served: Served, trader: Trader) -> None:
    async def session(socket: ClientConnection) -> Any:
        await ask(socket, "userDataStream.subscribe.signature", **signed_params(trader))

        await socket.send(json.dumps({"id": 2, "method": "userDataStream.unsubscribe", "params": {}}))
        return [json.loads(await socket.recv()) for _ in range(2)]

    frames = talk(f"{served.url}/ws-api/v3", session)

    terminated = next(frame for frame in frames if "event" in frame)
    assert terminated["subscriptionId"] == 0
    assert terminated["event"]["e"] == "eventStreamTerminated"
