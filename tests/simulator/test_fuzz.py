"""Nonsense on every inlet is answered with an error and never breaks a connection or the server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.api.endpoints import REST, WS_API
from tests.simulator.conftest import Served, Trader
from tests.simulator.test_streams import ask, talk

VALUES = st.one_of(
    st.sampled_from(
        ["BTCUSDT", "BUY", "SELL", "LIMIT", "MARKET", "STOP_LOSS", "LIMIT_MAKER",
         "GTC", "IOC", "FOK", "0.001", "100", "1", "0", "-1", "1m",
         "1M", "true", "", "NaN", "1e9", "9" * 20, "9" * 25, "[\"BTCUSDT\"]", "[]", "[1]", "{}"]
    ),
    st.text(max_size=12),
)  # fmt: skip
NAMES = st.sampled_from(
    ["symbol", "symbols", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "limit", "interval",
     "startTime", "endTime", "fromId", "orderId", "origClientOrderId", "newClientOrderId", "recvWindow",
     "newOrderRespType", "cancelRestrictions", "selfTradePreventionMode", "omitZeroBalances", "stopPrice",
     "trailingDelta", "icebergQty", "strategyType", "listClientOrderId", "orderListId", "aboveType", "belowType",
     "abovePrice", "belowStopPrice", "workingType", "workingSide", "workingPrice", "workingQuantity",
     "workingTimeInForce", "pendingType", "pendingSide", "pendingQuantity", "pendingAboveType",
     "pendingBelowType", "cancelReplaceMode", "cancelOrderId"]
)  # fmt: skip
PARAMS = st.dictionaries(NAMES, VALUES, max_size=7)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def fuzzer(served: Served) -> Trader:
    return Trader(served.url, {"USDT": "100000", "BTC": "1"})


@QUICK
@given(endpoint=st.sampled_from(sorted(REST)), params=PARAMS)
def test_rest_answers_json_to_any_parameters(
    served: Served, fuzzer: Trader, endpoint: Any, params: Any
) -> None:
    served.call(served.venue.desk.limiter.forget)
    method, path = endpoint

    response = fuzzer.signed(method, path, **params)

    assert response.status_code in (200, 400, 409, 429), response.text
    if response.status_code != 200:
        assert response.json()["code"] < 0


@QUICK
@given(
    method=st.sampled_from(sorted(WS_API)) | st.text(max_size=10),
    params=st.dictionaries(NAMES, JSON, max_size=5),
)
def test_ws_api_answers_any_request_of_a_method(served: Served, method: str, params: Any) -> None:
    served.call(served.venue.desk.limiter.forget)

    reply = talk(f"{served.url}/ws-api/v3", lambda socket: ask(socket, method, 1, **params))

    assert reply["status"] in (200, 400, 401)


@pytest.mark.parametrize("path", ["/ws", "/stream", "/ws-api/v3"])
def test_socket_survives_any_frame(served: Served, path: str) -> None:
    alive = {"id": "alive", "method": "ping" if "api" in path else "LIST_SUBSCRIPTIONS"}

    async def session(socket: Any, frame: str) -> None:
        await socket.send(frame)
        await socket.send(json.dumps(alive))
        while json.loads(await asyncio.wait_for(socket.recv(), 30)).get("id") != "alive":
            pass

    @settings(QUICK, max_examples=60)
    @given(
        frame=st.text(max_size=20)
        | JSON.map(json.dumps)
        | st.dictionaries(st.sampled_from(["id", "method", "params"]), JSON, max_size=3).map(json.dumps)
    )
    def check(frame: str) -> None:
        served.call(served.venue.desk.limiter.forget)
        talk(f"{served.url}{path}", lambda socket: session(socket, frame))

    check()


@QUICK
@given(path=st.sampled_from(["accounts", "deposit", "market", "faults"]), body=JSON)
def test_control_refuses_nonsense(fuzzer: Trader, path: str, body: Any) -> None:
    response = fuzzer.http.post(f"{fuzzer.url}/sim/{path}", data=json.dumps(body), timeout=30)

    assert response.status_code in (200, 400), response.text
    assert isinstance(response.json(), dict)
