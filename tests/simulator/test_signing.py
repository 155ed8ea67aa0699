"""Keys, signatures and the time window of signed requests, over a real socket."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.simulator.conftest import Trader, code


def now_ms() -> int:
    return int(time.time() * 1000)


def test_request_without_key_is_refused(trader: Trader) -> None:
    assert code(trader.get("account", timestamp=now_ms(), signature="00")) == (401, -2014)


def test_request_with_an_unknown_key_is_refused(trader: Trader) -> None:
    trader.api_key = "A" * 64

    assert code(trader.signed("GET", "account")) == (401, -2015)


def test_wrong_signature_is_refused(trader: Trader) -> None:
    trader.secret = "something else"

    response = trader.signed("GET", "account")

    assert code(response) == (400, -1022)
    assert response.json()["msg"] == "Signature for this request is not valid."


def test_signature_may_be_in_upper_case(trader: Trader) -> None:
    query = urlencode({"timestamp": now_ms()})
    url = f"{trader.url}/api/v3/account?{query}&signature={trader.sign(query).upper()}"

    response = trader.http.get(url, headers={"X-MBX-APIKEY": trader.api_key}, timeout=30)

    assert response.status_code == 200


@pytest.mark.parametrize("missing", ["timestamp", "signature"])
def test_missing_timestamp_or_signature_is_named(trader: Trader, missing: str) -> None:
    params = {"timestamp": now_ms(), "signature": "00"}
    del params[missing]
    url = f"{trader.url}/api/v3/account?{urlencode(params)}"

    response = trader.http.get(url, headers={"X-MBX-APIKEY": trader.api_key}, timeout=30)

    assert code(response) == (400, -1102)
    assert response.json()["msg"] == (
        f"Mandatory parameter '{missing}' was not sent, was empty/null, or malformed."
    )


@pytest.mark.parametrize(
    ("offset_ms", "extra", "message"),
    [
        (-6_000, {}, "Timestamp for this request is outside of the recvWindow."),
        (-400, {"recvWindow": "100.5"}, "Timestamp for this request is outside of the recvWindow."),
        (5_000, {}, "Timestamp for this request was 1000ms ahead of the server's time."),
    ],
)
def test_timestamp_outside_its_window_is_refused(
    trader: Trader, offset_ms: int, extra: dict[str, Any], message: str
) -> None:
    response = trader.signed("GET", "account", timestamp=now_ms() + offset_ms, **extra)

    assert code(response) == (400, -1021)
    assert response.json()["msg"] == message


def test_old_timestamp_within_a_long_window_is_taken(trader: Trader) -> None:
    assert trader.signed("GET", "account", timestamp=now_ms() - 30_000, recvWindow=60_000).status_code == 200


def test_timestamp_in_microseconds_is_taken(trader: Trader) -> None:
    assert trader.signed("GET", "account", timestamp=now_ms() * 1000).status_code == 200


def test_window_above_a_minute_is_refused(trader: Trader) -> None:
    assert code(trader.signed("GET", "account", recvWindow=60_001)) == (400, -1131)


def test_parameters_may_be_split_over_query_and_body(trader: Trader) -> None:
    query = urlencode({"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"})
    body = urlencode({"quoteOrderQty": "50", "timestamp": now_ms()})
    signature = trader.sign(query + body)

    response = trader.http.post(
        f"{trader.url}/api/v3/order?{query}",
        data=f"{body}&signature={signature}",
        headers={"X-MBX-APIKEY": trader.api_key, "Content-Type": "application/x-www-form-urlencoded"},
        timeout=5,
    )

    assert response.json()["status"] == "FILLED"


def test_signature_covers_the_bytes_as_they_were_encoded(trader: Trader) -> None:
    query = f"symbol=BTCUSDT&origClientOrderId=%5B%22a%22%5D&timestamp={now_ms()}"
    url = f"{trader.url}/api/v3/order?{query}&signature={trader.sign(query)}"

    response = trader.http.get(url, headers={"X-MBX-APIKEY": trader.api_key}, timeout=30)

    # The signature was good: the order was looked for.
    assert code(response) == (400, -2013)
