"""Depth streams, candles of a second, tickers: over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from simulator.server import VenueSettings, make_app
from tests.simulator.conftest import Served, Trader
from tests.simulator.test_streams import talk


@pytest.fixture(scope="module")
def brisk() -> Iterator[Served]:
    """Twenty market seconds a second."""
    server = Served(make_app(VenueSettings(seed=7, speed=20)))
    yield server
    server.close()


def apply(event: dict[str, Any], sides: dict[str, dict[str, str]]) -> None:
    for key, levels in sides.items():
        levels.update(event[key])
        for price in [price for price, amount in levels.items() if not Decimal(amount)]:
            del levels[price]


async def messages(socket: ClientConnection, count: int, patience: float) -> list[dict[str, Any]]:
    """The next messages, fewer when the stream falls silent."""
    heard: list[dict[str, Any]] = []
    with suppress(TimeoutError):
        while len(heard) < count:
            heard.append(json.loads(await asyncio.wait_for(socket.recv(), patience)))
    return heard


def test_local_book_kept_by_the_documented_procedure_equals_the_exchange(brisk: Served) -> None:
    trader = Trader(brisk.url, {})

    async def snapshot() -> dict[str, Any]:
        return await asyncio.to_thread(lambda: trader.get("depth", symbol="BTCUSDT", limit=5000).json())

    async def session(socket: ClientConnection) -> Any:
        begun = await snapshot()
        events = await messages(socket, 15, 5)
        brisk.call(lambda: brisk.venue.clock.set_paused(True))
        events += await messages(socket, 100, 1.5)
        final = await snapshot()
        brisk.call(lambda: brisk.venue.clock.set_paused(False))
        return begun, events, final

    begun, events, final = talk(f"{brisk.url}/ws/btcusdt@depth@100ms", session)

    sides = {"b": dict(begun["bids"]), "a": dict(begun["asks"])}
    news = [event for event in events if event["u"] > begun["lastUpdateId"]]
    assert news[0]["U"] <= begun["lastUpdateId"] + 1
    for event in news:
        apply(event, sides)
    assert all(later["U"] == earlier["u"] + 1 for earlier, later in pairwise(events))
    assert sides == {"b": dict(final["bids"]), "a": dict(final["asks"])}


def first_messages(server: Served, *streams: str) -> dict[str, Any]:
    async def session(socket: ClientConnection) -> dict[str, Any]:
        heard: dict[str, Any] = {}
        while len(heard) < len(streams):
            message = json.loads(await socket.recv())
            heard.setdefault(message["stream"], message["data"])
        return heard

    return talk(f"{server.url}/stream?streams={'/'.join(streams)}", session)


def test_partial_books_average_and_ticker_come(brisk: Served) -> None:
    heard = first_messages(
        brisk, "btcusdt@depth5@100ms", "btcusdt@depth20", "btcusdt@avgPrice", "btcusdt@ticker"
    )

    partial = heard["btcusdt@depth5@100ms"]
    assert len(partial["bids"]) == len(partial["asks"]) == 5 and "s" not in partial
    assert len(heard["btcusdt@depth20"]["bids"]) == 20
    assert set(heard["btcusdt@avgPrice"]) == {"e", "E", "s", "i", "w", "T"}
    assert set(heard["btcusdt@ticker"]) == set("eEspPwxcQbBaAohlvqOCFLn")


def test_candles_of_a_second_follow_on_each_other_and_equal_rest(brisk: Served) -> None:
    async def session(socket: ClientConnection) -> list[dict[str, Any]]:
        closed: list[dict[str, Any]] = []
        while len(closed) < 25:
            kline = json.loads(await socket.recv())["k"]
            if kline["x"]:
                closed.append(kline)
        return closed

    closed = talk(f"{brisk.url}/ws/btcusdt@kline_1s", session)
    # The first second may have begun before we listened.
    start = closed[1]["t"]
    rows = (
        Trader(brisk.url, {}).get("klines", symbol="BTCUSDT", interval="1s", startTime=start, limit=24).json()
    )

    assert [row[0] for row in rows] == [start + 1_000 * n for n in range(24)]
    for kline, row in zip(closed[1:], rows, strict=True):
        assert [kline[name] for name in "tohlcvT"] == row[:7]
        assert (kline["n"], kline["q"]) == (row[8], row[7])


def test_seconds_make_their_minute(brisk: Served) -> None:
    trader = Trader(brisk.url, {})
    minute = trader.get("klines", symbol="BTCUSDT", interval="1m", limit=3).json()[0]

    rows = trader.get("klines", symbol="BTCUSDT", interval="1s", startTime=minute[0], limit=60).json()

    assert len(rows) == 60
    assert max(Decimal(row[2]) for row in rows) == Decimal(minute[2])
    assert min(Decimal(row[3]) for row in rows) == Decimal(minute[3])
    assert sum(Decimal(row[5]) for row in rows) == Decimal(minute[5])
    assert sum(row[8] for row in rows) == minute[8]


def test_thousand_and_twenty_fifth_stream_is_refused(brisk: Served) -> None:
    async def session(socket: ClientConnection) -> Any:
        names = [f"x{n}@trade" for n in range(1025)]
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
        return json.loads(await socket.recv())

    assert "1024" in talk(f"{brisk.url}/ws", session)["error"]["msg"]
