"""Market streams and the WS API, with a plain WebSocket client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from simulator.market.recording import read_recording
from simulator.server import VenueSettings, make_app
from tests.simulator.conftest import RECORDING, Served, Trader, poll, run_apart


@pytest.fixture(scope="module")
def quick() -> Any:
    """The recorded market at 600 market seconds a second: ten candles a second."""
    server = Served(make_app(VenueSettings(seed=7, replay=(RECORDING,), speed=600)))
    yield server
    server.close()


def talk(url: str, session: Callable[[ClientConnection], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with connect(url.replace("http://", "ws://"), proxy=None, close_timeout=0.5) as socket:
            return await asyncio.wait_for(session(socket), 60)

    return run_apart(run())


async def ask(socket: ClientConnection, method: str, request_id: Any = 1, **params: Any) -> Any:
    """Send a request and wait for its reply, passing over events."""
    await socket.send(json.dumps({"id": request_id, "method": method, "params": params}))
    while True:
        reply = json.loads(await socket.recv())
        if reply.get("id") == request_id and "event" not in reply:
            return reply


def signed_params(trader: Trader, **params: Any) -> dict[str, Any]:
    """As the docs say: sorted by name, apiKey included, not percent-encoded."""
    values = {"apiKey": trader.api_key, "timestamp": int(time.time() * 1000)} | params
    payload = "&".join(f"{name}={value}" for name, value in sorted(values.items()))
    return values | {"signature": trader.sign(payload)}


def test_streamed_closed_candles_equal_the_file_and_rest(quick: Served) -> None:
    async def session(socket: ClientConnection) -> list[dict[str, Any]]:
        closed: list[dict[str, Any]] = []
        while len(closed) < 15:
            candle = json.loads(await socket.recv())["k"]
            if candle["x"]:
                closed.append(candle)
        return closed

    closed = talk(f"{quick.url}/ws/btcusdt@kline_1m", session)

    recorded = {c.open_ms: c for c in read_recording(RECORDING).candles}
    trader = Trader(quick.url, {})
    rows = trader.get("klines", symbol="BTCUSDT", interval="1m", startTime=closed[0]["t"], limit=15).json()
    for candle, row in zip(closed, rows, strict=True):
        streamed = [candle[name] for name in "ohlcv"]
        assert [round(Decimal(text) * 10**8) for text in streamed] == list(recorded[candle["t"]][1:6])
        assert [
            candle["t"],
            *streamed,
            candle["T"],
            candle["q"],
            candle["n"],
            candle["V"],
            candle["Q"],
        ] == row[:11]
    assert [b["t"] - a["t"] for a, b in pairwise(closed)] == [60_000] * 14


def test_open_candle_is_updated_before_it_closes(quick: Served) -> None:
    async def session(socket: ClientConnection) -> list[bool]:
        return [json.loads(await socket.recv())["k"]["x"] for _ in range(40)]

    assert set(talk(f"{quick.url}/ws/btcusdt@kline_1m", session)) == {True, False}


def test_longer_interval_closes_on_its_boundary(quick: Served) -> None:
    async def session(socket: ClientConnection) -> dict[str, Any]:
        while True:
            candle = json.loads(await socket.recv())["k"]
            if candle["x"]:
                return candle

    candle = talk(f"{quick.url}/ws/btcusdt@kline_5m", session)

    assert candle["t"] % 300_000 == 0 and candle["T"] == candle["t"] + 299_999
    row = Trader(quick.url, {}).get("klines", symbol="BTCUSDT", interval="5m", startTime=candle["t"], limit=1)
    assert row.json()[0][:6] == [candle["t"], *(candle[name] for name in "ohlcv")]


def test_candles_of_a_time_zone_open_on_its_boundaries(quick: Served) -> None:
    async def session(socket: ClientConnection) -> dict[str, Any]:
        return json.loads(await socket.recv())["k"]

    candle = talk(f"{quick.url}/ws/btcusdt@kline_1d@+08:00", session)

    assert (candle["t"] + 8 * 3_600_000) % 86_400_000 == 0
    assert candle["T"] == candle["t"] + 86_399_999


def test_combined_streams_wrap_each_message_with_its_name(quick: Served) -> None:
    names = ["btcusdt@bookTicker", "btcusdt@aggTrade", "btcusdt@trade", "btcusdt@miniTicker"]

    async def session(socket: ClientConnection) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        while len(seen) < len(names):
            message = json.loads(await socket.recv())
            seen[message["stream"]] = message["data"]
        return seen

    seen = talk(f"{quick.url}/stream?streams={'/'.join(names)}", session)

    assert set(seen) == set(names)
    assert set(seen["btcusdt@aggTrade"]) == set("eEsapqflTmM")
    assert Decimal(seen["btcusdt@bookTicker"]["b"]) < Decimal(seen["btcusdt@bookTicker"]["a"])


def test_control_messages_subscribe_list_and_unsubscribe(quick: Served) -> None:
    async def session(socket: ClientConnection) -> list[Any]:
        async def control(method: str, params: Any, request_id: Any) -> Any:
            await socket.send(json.dumps({"method": method, "params": params, "id": request_id}))
            while True:
                reply = json.loads(await socket.recv())
                if "id" in reply:
                    return reply

        return [
            await control("SUBSCRIBE", ["btcusdt@bookTicker"], 1),
            json.loads(await socket.recv())["s"],
            await control("LIST_SUBSCRIPTIONS", None, "two"),
            await control("UNSUBSCRIBE", ["btcusdt@bookTicker"], 3),
            await control("LIST_SUBSCRIPTIONS", None, 4),
        ]

    assert talk(f"{quick.url}/ws", session) == [
        {"result": None, "id": 1},
        "BTCUSDT",
        {"result": ["btcusdt@bookTicker"], "id": "two"},
        {"result": None, "id": 3},
        {"result": [], "id": 4},
    ]


@pytest.mark.parametrize(
    ("message", "code"),
    [("{", 3), ("[]", 2), ('{"id":1,"method":"DANCE"}', 2), ('{"id":{},"method":"X"}', 2)],
)
def test_bad_control_message_is_answered_with_an_error(quick: Served, message: str, code: int) -> None:
    async def session(socket: ClientConnection) -> Any:
        await socket.send(message)
        return json.loads(await socket.recv())

    assert talk(f"{quick.url}/ws", session)["error"]["code"] == code


def test_sixth_message_of_a_second_ends_the_connection(quick: Served) -> None:
    async def session(socket: ClientConnection) -> Any:
        for _ in range(12):
            await socket.send('{"id":1,"method":"LIST_SUBSCRIPTIONS"}')
        await socket.wait_closed()
        return socket.close_code

    assert talk(f"{quick.url}/ws", session) == 1008


def test_pings_count_as_messages_too(quick: Served) -> None:
    async def session(socket: ClientConnection) -> int | None:
        for _ in range(12):
            with suppress(ConnectionClosed):
                await socket.ping()
        await socket.wait_closed()
        return socket.close_code

    assert talk(f"{quick.url}/ws", session) == 1008


def test_reader_that_stops_reading_is_cut_off_and_holds_nobody_up(quick: Served) -> None:
    async def session(socket: ClientConnection) -> Any:
        socket.transport.pause_reading()

        def flood() -> None:
            stream = next(iter(quick.venue.connections.under("/ws")))
            for _ in range(20_000):
                stream.send(b"x" * 4_000)

        quick.call(flood)
        poll(lambda: len(quick.venue.connections) == 0)

    talk(f"{quick.url}/ws", session)

    played = quick.venue.exchange.tapes["BTCUSDT"].candles_played
    poll(lambda: quick.venue.exchange.tapes["BTCUSDT"].candles_played > played)


def test_ws_api_echoes_the_id_with_its_type(served: Served) -> None:
    async def session(socket: ClientConnection) -> list[Any]:
        return [await ask(socket, "ping", request_id) for request_id in (7, "seven")]

    replies = talk(f"{served.url}/ws-api/v3", session)

    assert [reply["id"] for reply in replies] == [7, "seven"]
    assert all(reply["status"] == 200 and reply["rateLimits"] for reply in replies)


def test_ws_api_leaves_rate_limits_out_when_asked(served: Served) -> None:
    async def session(socket: ClientConnection) -> Any:
        return await ask(socket, "time")

    assert "rateLimits" not in talk(f"{served.url}/ws-api/v3?returnRateLimits=false", session)


def test_ws_api_refuses_an_unknown_key_with_401(served: Served, trader: Trader) -> None:
    async def session(socket: ClientConnection) -> Any:
        trader.api_key = "B" * 64
        return await ask(socket, "userDataStream.subscribe.signature", **signed_params(trader))

    reply = talk(f"{served.url}/ws-api/v3", session)

    assert (reply["status"], reply["error"]["code"]) == (401, -2015)


def test_ws_api_refuses_a_bad_frame_and_goes_on(served: Served) -> None:
    async def session(socket: ClientConnection) -> list[Any]:
        await socket.send("not json")
        return [json.loads(await socket.recv()), await ask(socket, "ping"), await ask(socket, "no.such")]

    bad, good, unknown = talk(f"{served.url}/ws-api/v3", session)

    assert (bad["id"], bad["error"]["code"]) == (None, -1135)
    assert good["status"] == 200
    assert unknown["status"] == 400


def test_hmac_key_cannot_log_on(served: Served, trader: Trader) -> None:
    async def session(socket: ClientConnection) -> Any:
        return await ask(socket, "session.logon", **signed_params(trader))

    assert talk(f"{served.url}/ws-api/v3", session)["error"]["code"] == -4056


def test_user_events_of_an_order_that_rests_and_is_canceled(served: Served, trader: Trader) -> None:
    price = f"{trader.last_price() * 0.9:.2f}"

    async def session(socket: ClientConnection) -> tuple[Any, list[Any]]:
        reply = await ask(socket, "userDataStream.subscribe.signature", **signed_params(trader))
        order = signed_params(
            trader, symbol="BTCUSDT", side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.001", price=price,
            newClientOrderId="mine",
        )  # fmt: skip
        await socket.send(json.dumps({"id": "place", "method": "order.place", "params": order}))
        cancel = signed_params(trader, symbol="BTCUSDT", origClientOrderId="mine", newClientOrderId="bye")
        await socket.send(json.dumps({"id": "cancel", "method": "order.cancel", "params": cancel}))
        events = []
        while len(events) < 4:
            frame = json.loads(await socket.recv())
            if "event" in frame:
                assert frame["subscriptionId"] == reply["result"]["subscriptionId"] == 0
                events.append(frame["event"])
        return reply, events

    _, (new, locked, canceled, released) = talk(f"{served.url}/ws-api/v3", session)

    assert (new["x"], new["X"], new["c"], new["C"], new["t"], new["w"]) == (
        "NEW",
        "NEW",
        "mine",
        "",
        -1,
        True,
    )
    assert (canceled["x"], canceled["c"], canceled["C"]) == ("CANCELED", "bye", "mine")
    assert [event["e"] for event in (locked, released)] == ["outboundAccountPosition"] * 2
    assert Decimal(locked["B"][0]["l"]) == Decimal(price) * Decimal("0.001")
    assert Decimal(released["B"][0]["l"]) == 0


def test_execution_report_has_every_base_field_with_its_type(served: Served, trader: Trader) -> None:
    async def session(socket: ClientConnection) -> Any:
        await ask(socket, "userDataStream.subscribe.signature", **signed_params(trader))
        order = signed_params(trader, symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.001")
        await socket.send(json.dumps({"id": 2, "method": "order.place", "params": order}))
        while True:
            event = json.loads(await socket.recv()).get("event", {})
            if event.get("x") == "TRADE":
                return event

    event = talk(f"{served.url}/ws-api/v3", session)

    texts = {
        "e",
        "s",
        "c",
        "S",
        "o",
        "f",
        "q",
        "p",
        "P",
        "F",
        "C",
        "x",
        "X",
        "r",
        "l",
        "z",
        "L",
        "n",
        "N",
        "Z",
        "Y",
        "Q",
        "V",
    }
    numbers = {"E", "g", "i", "T", "t", "I", "O", "W"}
    assert {name for name, value in event.items() if isinstance(value, str)} == texts
    assert {name for name, value in event.items() if isinstance(value, bool)} == {"w", "m", "M"}
    assert {name for name, value in event.items() if type(value) is int} == numbers
    assert Decimal(event["n"]) == Decimal("0.000001") and event["N"] == "BTC"


def test_second_subscription_of_an_account_is_refused_until_unsubscribed(
    served: Served, trader: Trader
) -> None:
    async def session(socket: ClientConnection) -> list[Any]:
        method = "userDataStream.subscribe.signature"
        first = await ask(socket, method, 1, **signed_params(trader))
        second = await ask(socket, method, 2, **signed_params(trader))
        gone = await ask(socket, "userDataStream.unsubscribe", 3)
        third = await ask(socket, method, 4, **signed_params(trader))
        return [first, second, gone, third]

    first, second, gone, third = talk(f"{served.url}/ws-api/v3", session)

    assert second["error"]["code"] == -2035
    assert gone["result"] == {}
    assert (first["result"]["subscriptionId"], third["result"]["subscriptionId"]) == (0, 1)


def test_deposit_is_a_balance_update_with_the_position(served: Served, trader: Trader) -> None:
    async def session(socket: ClientConnection) -> list[Any]:
        await ask(socket, "userDataStream.subscribe.signature", **signed_params(trader))
        body = {"apiKey": trader.api_key, "asset": "USDT", "amount": "-250.5"}
        await asyncio.to_thread(trader.http.post, f"{trader.url}/sim/deposit", json=body, timeout=30)
        return [json.loads(await socket.recv())["event"] for _ in range(2)]

    update, position = talk(f"{served.url}/ws-api/v3", session)

    assert (update["e"], update["a"], update["d"]) == ("balanceUpdate", "USDT", "-250.50000000")
    assert position["B"] == [{"a": "USDT", "f": "99749.50000000", "l": "0.00000000"}]


def test_half_a_surrogate_pair_is_refused_and_the_connection_lives(served: Served, trader: Trader) -> None:
    async def api(socket: ClientConnection) -> list[Any]:
        params = signed_params(trader, symbol="BTCUSDT") | {"symbol": "\ud800", "signature": "\ud800"}
        return [await ask(socket, "account.status", 1, **params), await ask(socket, "ping", 2)]

    async def streams(socket: ClientConnection) -> list[Any]:
        await socket.send('{"id":1,"method":"SUBSCRIBE","params":["\\ud800"]}')
        await socket.send('{"id":2,"method":"LIST_SUBSCRIPTIONS"}')
        return [json.loads(await socket.recv()) for _ in range(2)]

    assert [reply["status"] for reply in talk(f"{served.url}/ws-api/v3", api)] == [400, 200]
    refused, listed = talk(f"{served.url}/ws", streams)
    assert refused["error"]["code"] == 2
    assert listed["result"] == []
