"""ccxt and ccxt.pro, unmodified, given only URLs and keys (binance.md §10.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.simulator.conftest import Served, Trader, run_apart

pytestmark = pytest.mark.strangers
SYMBOL = "BTC/USDT"


def configure(exchange: Any, served: Served, trader: Trader) -> Any:
    host = served.url.removeprefix("http://")
    exchange.apiKey, exchange.secret = trader.api_key, trader.secret
    exchange.options |= {
        "fetchCurrencies": False,
        "fetchMargins": False,
        "fetchMarkets": {"types": ["spot"]},
        "defaultType": "spot",
    }
    # Whatever else it may call must not leave this machine.
    for name, url in list(exchange.urls["api"].items()):
        if isinstance(url, str):
            exchange.urls["api"][name] = f"{served.url}/elsewhere/{name}"
    for name in ("public", "private", "v1"):
        exchange.urls["api"][name] = f"{served.url}/api/v3"
    if "ws" in exchange.urls["api"]:
        exchange.urls["api"]["ws"]["spot"] = f"ws://{host}/stream/ws"
        exchange.urls["api"]["ws"]["ws-api"]["spot"] = f"ws://{host}/ws-api/v3"
    return exchange


@pytest.fixture
def client(served: Served, trader: Trader) -> Any:
    return configure(ccxt.binance(), served, trader)


def run_pro(served: Served, trader: Trader, session: Callable[[Any], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        exchange = configure(ccxt.pro.binance(), served, trader)
        try:
            await exchange.load_markets()
            return await asyncio.wait_for(session(exchange), 60)
        finally:
            await exchange.close()

    return run_apart(run())


def test_ccxt_loads_markets_candles_and_books(client: Any) -> None:
    markets = client.load_markets()
    candles = client.fetch_ohlcv(SYMBOL, "1m", limit=100)
    book = client.fetch_order_book(SYMBOL, limit=20)

    assert markets[SYMBOL]["active"] and markets[SYMBOL]["precision"]["price"] == 0.01
    assert len(candles) == 100 and candles[0][0] % 60_000 == 0
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(client.fetch_trades(SYMBOL, limit=50)) == 50
    assert client.fetch_ticker(SYMBOL)["last"] > 0


def test_ccxt_places_queries_and_cancels(client: Any) -> None:
    client.load_markets()
    price = client.price_to_precision(SYMBOL, client.fetch_ticker(SYMBOL)["last"] * 0.9)

    bought = client.create_order(SYMBOL, "market", "buy", 0.01)
    rested = client.create_order(SYMBOL, "limit", "buy", 0.01, price)
    stop = client.create_order(SYMBOL, "market", "sell", 0.005, None, {"stopLossPrice": price})

    assert (bought["status"], bought["filled"]) == ("closed", 0.01)
    assert client.fetch_order(rested["id"], SYMBOL)["status"] == "open"
    assert {order["id"] for order in client.fetch_open_orders(SYMBOL)} == {rested["id"], stop["id"]}
    assert client.cancel_order(rested["id"], SYMBOL)["status"] == "canceled"
    assert len(client.fetch_my_trades(SYMBOL)) == len(bought["trades"])
    assert client.fetch_balance()["BTC"]["used"] == 0.005
    with pytest.raises(ccxt.InsufficientFunds):
        client.create_order(SYMBOL, "market", "buy", 50)


def test_ccxt_takes_an_oco(client: Any) -> None:
    client.load_markets()
    last = client.fetch_ticker(SYMBOL)["last"]

    placed = client.private_post_orderlist_oco(
        {
            "symbol": "BTCUSDT",
            "side": "SELL",
            "quantity": "0.01",
            "aboveType": "LIMIT_MAKER",
            "abovePrice": f"{last * 1.1:.2f}",
            "belowType": "STOP_LOSS",
            "belowStopPrice": f"{last * 0.9:.2f}",
        }
    )
    listed = client.private_get_openorderlist()
    client.private_delete_orderlist({"symbol": "BTCUSDT", "orderListId": placed["orderListId"]})

    assert [report["status"] for report in placed["orderReports"]] == ["NEW", "NEW"]
    assert [order_list["orderListId"] for order_list in listed] == [placed["orderListId"]]
    assert client.fetch_open_orders(SYMBOL) == []


def test_ccxt_pro_streams_trades_candles_and_books(served: Served, trader: Trader) -> None:
    async def session(exchange: Any) -> Any:
        trades = await exchange.watch_trades(SYMBOL)
        candles = await exchange.watch_ohlcv(SYMBOL, "1m")
        ticker = await exchange.watch_ticker(SYMBOL)
        for _ in range(5):
            book = await exchange.watch_order_book(SYMBOL)
        return trades, candles, ticker, book

    trades, candles, ticker, book = run_pro(served, trader, session)

    assert trades[-1]["price"] > 0 and candles[-1][4] > 0 and ticker["last"] > 0
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(book["bids"]) >= 40


def test_ccxt_pro_receives_its_user_events(served: Served, trader: Trader) -> None:
    async def session(exchange: Any) -> Any:
        orders = asyncio.ensure_future(exchange.watch_orders(SYMBOL))
        balance = asyncio.ensure_future(exchange.watch_balance())
        # Its subscription is a request of its own: wait until the exchange knows it.
        while not any(
            subscribers for subscribers in list(served.venue.user_streams._by_account.values())
        ):  # fmt: skip
            await asyncio.sleep(0.05)
        placed = await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        return placed, await orders, await balance

    placed, orders, balance = run_pro(served, trader, session)

    assert orders[-1]["id"] == placed["id"]
    assert Decimal(str(balance["BTC"]["free"])) > 1
