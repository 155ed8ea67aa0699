"""python-binance 1.0.37, unmodified but for its URLs, takes the simulator for Binance (binance.md §1.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager, Client
from binance.exceptions import BinanceAPIException

from tests.simulator.conftest import Served, Trader, run_apart


@pytest.fixture
def client(served: Served, trader: Trader) -> Client:
    class LocalClient(Client):
        API_URL = f"{served.url}/api"

    return LocalClient(trader.api_key, trader.secret)


def run_async(
    served: Served, trader: Trader, session: Callable[[AsyncClient, BinanceSocketManager], Awaitable[Any]]
) -> Any:
    """Run `session` with an AsyncClient and a socket manager that know only other URLs."""
    host = served.url.removeprefix("http://")

    class LocalAsyncClient(AsyncClient):
        API_URL = f"{served.url}/api"
        WS_API_URL = f"ws://{host}/ws-api/v3"

    class LocalSocketManager(BinanceSocketManager):
        STREAM_URL = f"ws://{host}/"

    async def run() -> Any:
        client = await LocalAsyncClient.create(trader.api_key, trader.secret)
        try:
            # Its WS API socket only notices a close after this time-out (10 s by default).
            client.ws_api.TIMEOUT = 1
            return await asyncio.wait_for(session(client, LocalSocketManager(client)), 60)
        finally:
            await client.close_connection()

    return run_apart(run())


def test_client_reads_symbols_candles_and_prices(client: Client) -> None:
    info = client.get_symbol_info("BTCUSDT")
    rows = client.get_klines(symbol="BTCUSDT", interval="1m", limit=1000)
    book = client.get_order_book(symbol="BTCUSDT", limit=10)

    assert info["filters"][0]["filterType"] == "PRICE_FILTER"
    assert len(rows) == 1000
    assert Decimal(book["bids"][0][0]) < Decimal(book["asks"][0][0])
    assert len(client.get_recent_trades(symbol="BTCUSDT")) > 100
    assert len(client.get_aggregate_trades(symbol="BTCUSDT")) > 100
    assert client.get_ticker(symbol="BTCUSDT")["symbol"] == "BTCUSDT"


def test_client_buys_at_market_and_sees_the_trade(client: Client) -> None:
    order = client.order_market_buy(symbol="BTCUSDT", quoteOrderQty="500", newClientOrderId="py-1")

    assert order["status"] == "FILLED"
    assert client.get_order(symbol="BTCUSDT", origClientOrderId="py-1")["orderId"] == order["orderId"]
    trades = client.get_my_trades(symbol="BTCUSDT", orderId=order["orderId"])
    assert sum(Decimal(trade["qty"]) for trade in trades) == Decimal(order["executedQty"])
    commission = sum(Decimal(trade["commission"]) for trade in trades)
    balance = client.get_asset_balance("BTC")
    assert Decimal(balance["free"]) == 1 + Decimal(order["executedQty"]) - commission


def test_client_rests_and_cancels_an_order_by_body_parameters(client: Client, trader: Trader) -> None:
    price = f"{trader.last_price() * 0.9:.2f}"

    order = client.order_limit_buy(symbol="BTCUSDT", quantity="0.001", price=price)
    assert [row["orderId"] for row in client.get_open_orders(symbol="BTCUSDT")] == [order["orderId"]]
    canceled = client.cancel_order(symbol="BTCUSDT", orderId=order["orderId"])

    assert canceled["status"] == "CANCELED"
    assert client.get_open_orders(symbol="BTCUSDT") == []


def test_client_raises_the_exchange_code_for_a_bad_order(client: Client) -> None:
    with pytest.raises(BinanceAPIException) as caught:
        client.order_market_buy(symbol="BTCUSDT", quantity="0.000001")

    assert (caught.value.code, caught.value.message) == (-1013, "Filter failure: LOT_SIZE")


def test_async_client_streams_market_data(served: Served, trader: Trader) -> None:
    async def session(client: AsyncClient, manager: BinanceSocketManager) -> Any:
        async with manager.multiplex_socket(["btcusdt@kline_1m", "btcusdt@bookTicker"]) as socket:
            seen: dict[str, Any] = {}
            while len(seen) < 2:
                message = await socket.recv()
                seen[message["stream"]] = message["data"]
            return seen

    seen = run_async(served, trader, session)

    assert seen["btcusdt@kline_1m"]["k"]["i"] == "1m"
    assert set(seen["btcusdt@bookTicker"]) == {"u", "s", "b", "B", "a", "A"}


def test_async_client_hears_its_fills_on_the_user_socket(served: Served, trader: Trader) -> None:
    async def session(client: AsyncClient, manager: BinanceSocketManager) -> Any:
        async with manager.user_socket() as socket:
            placed = await client.order_market_buy(symbol="ETHUSDT", quantity="0.5")
            events = []
            while not events or events[-1]["e"] != "outboundAccountPosition":
                events.append(await socket.recv())
            return placed, events

    placed, events = run_async(served, trader, session)

    assert [event.get("x") for event in events[:2]] == ["NEW", "TRADE"]
    assert events[-2]["X"] == "FILLED"
    assert all(event["i"] == placed["orderId"] for event in events[:-1])


def test_async_client_places_and_cancels_over_the_ws_api(served: Served, trader: Trader) -> None:
    price = f"{trader.last_price() * 0.9:.2f}"

    async def session(client: AsyncClient, manager: BinanceSocketManager) -> Any:
        order = await client.ws_create_order(
            symbol="BTCUSDT", side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.001", price=price
        )
        return await client.ws_cancel_order(symbol="BTCUSDT", orderId=order["orderId"])

    assert run_async(served, trader, session)["status"] == "CANCELED"
