"""Any bytes on any inlet: never a 5xx, never a connection that ends without a reason, and the books stay even."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.api.endpoints import REST, WS_API
from tests.simulator.conftest import Served, Trader
from tests.simulator.test_fuzz import JSON, VALUES
from tests.simulator.test_streams import signed_params

QUICK = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
REFUSALS = (400, 401, 403, 404, 405, 409, 410, 413, 414, 418, 429)
GOOD = {
    "symbol": "BTCUSDT", "symbols": '["BTCUSDT"]', "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
    "quantity": "0.01", "price": "60000", "stopPrice": "60000", "interval": "1m", "limit": "5",
    "workingType": "LIMIT", "workingSide": "BUY", "workingPrice": "60000", "workingQuantity": "0.01",
    "workingTimeInForce": "GTC", "pendingType": "STOP_LOSS", "pendingSide": "SELL", "pendingQuantity": "0.01",
    "pendingStopPrice": "50000", "pendingAboveType": "LIMIT_MAKER", "pendingAbovePrice": "90000",
    "pendingBelowType": "STOP_LOSS", "pendingBelowStopPrice": "50000", "aboveType": "LIMIT_MAKER",
    "abovePrice": "90000", "belowType": "STOP_LOSS", "belowStopPrice": "50000", "cancelReplaceMode": "ALLOW_FAILURE",
    "cancelOrderId": "1", "orderId": "1", "preventedMatchId": "1", "orderListId": "1",
}  # fmt: skip
RAW = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


@st.composite
def sensible_calls(draw: Any, table: dict[Any, Any]) -> tuple[Any, dict[str, str]]:
    """An endpoint with most of what it reads, most of it good: what gets past the first check."""
    key = draw(st.sampled_from(sorted(table)))
    names = draw(st.lists(st.sampled_from(sorted(table[key].reads | {"symbol"})), max_size=12, unique=True))
    values = {name: draw(st.just(GOOD[name]) | VALUES if name in GOOD else VALUES) for name in names}
    wanted = {name: GOOD[name] for name in sorted(table[key].reads & GOOD.keys()) if draw(st.integers(0, 9))}
    return key, wanted | values


@pytest.fixture(scope="module")
def fuzzer(served: Served) -> Trader:
    return Trader(served.url, {"USDT": "100000", "BTC": "2"})


@pytest.fixture(autouse=True)
def books_stay_even(served: Served, fuzzer: Trader) -> Iterator[None]:
    yield
    served.call(served.venue.desk.limiter.forget)
    ledger = fuzzer.http.get(f"{served.url}/sim/ledger", timeout=30).json()
    assert ledger["totals"] and set(ledger["totals"].values()) <= {"0.00000000", "-0.00000000"}
    assert fuzzer.get("ping").status_code == 200


def send(served: Served, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request with exactly these bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check_answer(status: int, body: bytes) -> None:
    assert status == 200 or status in REFUSALS, (status, body)
    if status != 200 and body.startswith(b"{"):
        assert json.loads(body)["code"] < 0


@QUICK
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    path=st.sampled_from(sorted({path for _, path in REST})) | RAW.map(lambda text: quote(text, safe="%/")),
    query=RAW | st.binary(max_size=20).map(lambda data: "symbol=" + quote(data)),
    body=st.binary(max_size=60),
    kind=st.sampled_from(
        ["application/x-www-form-urlencoded", "application/json", "text/plain; charset=x", "?"]
    ),
)
def test_rest_refuses_any_bytes_with_a_code(
    served: Served, method: str, path: str, query: str, body: bytes, kind: str
) -> None:
    served.call(served.venue.desk.limiter.forget)

    check_answer(
        *send(served, method, f"/api/v3/{path}?{quote(query, safe='%=&?+')}", body, {"Content-Type": kind})
    )


@QUICK
@given(
    call=sensible_calls(REST), in_body=st.booleans(), odd=st.sampled_from(["", "", "&", "&a", "&=", "&%zz=%"])
)
def test_rest_answers_signed_requests_of_all_sorts(
    served: Served, fuzzer: Trader, call: Any, in_body: bool, odd: str
) -> None:
    served.call(served.venue.desk.limiter.forget)
    (method, path), values = call
    text = urlencode(values | {"timestamp": str(int(time.time() * 1000))}) + odd
    text += f"&signature={fuzzer.sign(text)}"
    headers = {"X-MBX-APIKEY": fuzzer.api_key, "Content-Type": "application/x-www-form-urlencoded"}
    in_body = in_body and method != "GET"

    target = f"/api/v3/{path}" if in_body else f"/api/v3/{path}?{text}"
    check_answer(*send(served, method, target, text.encode() if in_body else b"", headers))


class RawSocket:
    """A WebSocket client that sends any bytes and reads frames until the server closes."""

    def __init__(self, served: Served, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", served.port), timeout=30)
        lines = (
            f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{served.port}", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Version: 13", "", "",
        )  # fmt: skip
        self.socket.sendall("\r\n".join(lines).encode())
        self.stream = self.socket.makefile("rb")
        assert b"101" in self.stream.readline()
        while self.stream.readline().strip():
            pass

    def frame(self, opcode: int, payload: bytes, final: bool = True) -> bytes:
        mask = os.urandom(4)
        head = bytes([(0x80 if final else 0) | opcode])
        size = len(payload)
        head += bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
        return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of everything that comes, until the end of the stream."""
        while len(head := self.stream.read(2)) == 2:
            size = head[1] & 0x7F
            if size == 126:
                size = struct.unpack("!H", self.stream.read(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self.stream.read(8))[0]
            yield head[0] & 0x0F, self.stream.read(size)

    def ends_with_a_reason_or_lives(self) -> bool:
        """A ping is answered, or a close frame with a code comes."""
        with suppress(ConnectionError):
            self.socket.sendall(self.frame(9, b"alive"))
        with suppress(ConnectionResetError):
            for opcode, payload in self.frames():
                if opcode == 8:
                    return 1000 <= struct.unpack("!H", payload[:2])[0] < 5000
                if (opcode, payload) == (10, b"alive"):
                    return True
        return False

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


FRAMES = st.tuples(
    st.sampled_from([0, 1, 1, 2, 3, 8, 9, 10, 11, 15]),
    st.binary(max_size=30) | RAW.map(str.encode) | JSON.map(json.dumps).map(str.encode),
    st.booleans(),
)


@pytest.mark.parametrize("path", ["/ws", "/stream", "/ws-api/v3"])
def test_socket_lives_or_ends_with_a_reason_after_any_frames(served: Served, path: str) -> None:
    @settings(QUICK, max_examples=60)
    @given(frames=st.lists(FRAMES, min_size=1, max_size=3))
    def check(frames: list[tuple[int, bytes, bool]]) -> None:
        served.call(served.venue.desk.limiter.forget)
        raw = RawSocket(served, path)
        try:
            with suppress(ConnectionError):
                for opcode, payload, final in frames:
                    raw.socket.sendall(raw.frame(opcode, payload, final or opcode >= 8))
            assert raw.ends_with_a_reason_or_lives()
        finally:
            raw.close()

    check()


@QUICK
@given(calls=st.lists(sensible_calls(WS_API), min_size=1, max_size=4), typed=st.booleans())
def test_ws_api_answers_signed_requests_of_all_sorts(
    served: Served, fuzzer: Trader, calls: list[Any], typed: bool
) -> None:
    served.call(served.venue.desk.limiter.forget)
    raw = RawSocket(served, "/ws-api/v3")
    try:
        for number, (method, values) in enumerate(calls):
            params: dict[str, Any] = dict(values)
            if typed:
                params |= {
                    name: int(value) for name, value in values.items() if value.isascii() and value.isdigit()
                }
            request = {"id": number, "method": method, "params": signed_params(fuzzer, **params)}
            raw.socket.sendall(raw.frame(1, json.dumps(request).encode()))
        statuses: dict[int, int] = {}
        for opcode, payload in raw.frames():
            if opcode == 1:
                reply = json.loads(payload)
                statuses[reply["id"]] = reply["status"]
            if len(statuses) == len(calls):
                break
        assert sorted(statuses) == list(range(len(calls)))
        assert all(status == 200 or status in REFUSALS for status in statuses.values())
    finally:
        raw.close()
