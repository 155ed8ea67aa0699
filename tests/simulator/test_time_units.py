"""Milliseconds unless a client asks for microseconds: by header over REST, in the address of a socket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from simulator.api.time_units import event_in_microseconds
from simulator.server import VenueSettings, make_app
from tests.simulator.conftest import RECORDING, Served, Trader, code
from tests.simulator.test_streams import ask, signed_params, talk

MICRO = {"X-MBX-TIME-UNIT": "MICROSECOND"}


@pytest.fixture(scope="module")
def quick() -> Iterator[Served]:
    server = Served(make_app(VenueSettings(seed=7, replay=(RECORDING,), speed=600)))
    yield server
    server.close()


def is_now(microseconds: int) -> bool:
    return abs(microseconds / 1e6 - time.time()) < 60


def test_rest_answers_in_microseconds_when_asked(trader: Trader) -> None:
    trader.http.headers.update(MICRO)
    order = trader.order(type="MARKET", quoteOrderQty="50").json()
    query = trader.signed("GET", "order", symbol="BTCUSDT", orderId=order["orderId"]).json()
    trade = trader.signed("GET", "myTrades", symbol="BTCUSDT").json()[0]

    times = [
        trader.get("time").json()["serverTime"], order["transactTime"], order["workingTime"], query["time"],
        query["updateTime"], trade["time"], trader.signed("GET", "account").json()["updateTime"],
    ]  # fmt: skip
    assert all(is_now(moment) for moment in times)


def test_candles_in_microseconds_end_with_their_last_microsecond(trader: Trader) -> None:
    plain = trader.get(
        "klines",
        symbol="BTCUSDT",
        interval="1m",
        limit=2,
        endTime=trader.get("time").json()["serverTime"] - 120_000,
    ).json()
    trader.http.headers.update({"X-MBX-TIME-UNIT": "microsecond"})

    rows = trader.get("klines", symbol="BTCUSDT", interval="1m", limit=2, endTime=plain[-1][0]).json()

    assert [row[:7] for row in rows] == [[row[0] * 1000, *row[1:6], row[6] * 1000 + 999] for row in plain]


def test_times_that_are_none_stay_so(trader: Trader) -> None:
    trader.http.headers.update(MICRO)
    price = f"{trader.last_price() * 0.9:.2f}"

    order = trader.order(
        type="STOP_LOSS_LIMIT", side="SELL", timeInForce="GTC", quantity="0.01", price=price, stopPrice=price,
        trailingDelta="100", newOrderRespType="RESULT",
    ).json()  # fmt: skip

    assert (order["workingTime"], order["trailingTime"], order["trailingDelta"]) == (-1, -1, 100)


def test_unknown_unit_is_refused(served: Served, trader: Trader) -> None:
    trader.http.headers.update({"X-MBX-TIME-UNIT": "FORTNIGHT"})
    assert code(trader.get("time")) == (400, -1194)

    async def session(socket: ClientConnection) -> None:
        raise AssertionError("the socket was opened")

    for path in ("ws/btcusdt@trade?", "stream?streams=btcusdt@trade&", "ws-api/v3?"):
        with pytest.raises(InvalidStatus) as caught:
            talk(f"{served.url}/{path}timeUnit=Microsecond", session)
        assert json.loads(caught.value.response.body)["code"] == -1194


def test_streams_send_microseconds_to_those_who_asked(quick: Served) -> None:
    async def session(socket: ClientConnection) -> dict[str, Any]:
        while True:
            kline = json.loads(await socket.recv())["data"]
            if kline["k"]["x"]:
                return kline

    names = "streams=btcusdt@kline_1m"
    fine = talk(f"{quick.url}/stream?{names}&timeUnit=MICROSECOND", session)
    plain = talk(f"{quick.url}/stream?{names}", session)

    assert fine["k"]["t"] % 60_000_000 == 0 and fine["k"]["T"] == fine["k"]["t"] + 59_999_999
    assert plain["k"]["T"] == plain["k"]["t"] + 59_999
    assert fine["E"] // 1000 < plain["E"] < fine["E"] // 1000 + 86_400_000


def test_ws_api_and_user_events_are_in_microseconds_when_asked(served: Served, trader: Trader) -> None:
    async def session(socket: ClientConnection) -> tuple[Any, ...]:
        await ask(socket, "userDataStream.subscribe.signature", 1, **signed_params(trader))
        told = await ask(socket, "time", 2)
        values = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quoteOrderQty": "50"}
        await socket.send(
            json.dumps({"id": 3, "method": "order.place", "params": signed_params(trader, **values)})
        )
        frames = [json.loads(await socket.recv()) for _ in range(4)]
        return told["result"]["serverTime"], frames

    server_time, frames = talk(f"{served.url}/ws-api/v3?timeUnit=MICROSECOND", session)

    assert is_now(server_time)
    events = [frame["event"] for frame in frames if "event" in frame]
    assert events and all(is_now(event["E"]) for event in events)
    assert all(
        is_now(event["W"]) and event["t"] < 10**9 for event in events if event["e"] == "executionReport"
    )


@pytest.mark.parametrize(
    "event",
    [
        {"u": 400_900_217, "s": "BNBUSDT", "b": "25.3", "B": "31.2", "a": "25.4", "A": "40.7"},
        {"lastUpdateId": 160, "bids": [], "asks": []},
    ],
)
def test_update_ids_are_not_taken_for_times(event: dict[str, Any]) -> None:
    assert event_in_microseconds(event) == event
    depth = {"e": "depthUpdate", "E": 1_672_515_782_136, "s": "X", "U": 157, "u": 160, "b": [], "a": []}
    assert event_in_microseconds([depth]) == [depth | {"E": 1_672_515_782_136_000}]
