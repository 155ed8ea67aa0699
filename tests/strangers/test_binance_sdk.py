"""Binance's own SDK (binance-sdk-spot), unmodified, given only URLs and keys (binance.md §10.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import BadRequestError
from binance_sdk_spot.spot import Spot
from Crypto.PublicKey import ECC

from tests.simulator.conftest import Served, Trader, run_apart

pytestmark = pytest.mark.strangers


def make_spot(served: Served, api_key: str, secret: str | None, private_key: str | None = None) -> Spot:
    host = served.url.removeprefix("http://")
    keys: dict[str, Any] = {"api_key": api_key, "api_secret": secret, "private_key": private_key}
    return Spot(
        ConfigurationRestAPI(base_path=served.url, timeout=5_000, **keys),
        ConfigurationWebSocketAPI(stream_url=f"ws://{host}/ws-api/v3", **keys),
        ConfigurationWebSocketStreams(stream_url=f"ws://{host}"),
    )


@pytest.fixture
def spot(served: Served, trader: Trader) -> Spot:
    return make_spot(served, trader.api_key, trader.secret)


def run(session: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(session(), 60)

    return run_apart(limited())


def test_sdk_reads_symbols_candles_and_books(spot: Spot) -> None:
    info = spot.rest_api.exchange_info(symbol="BTCUSDT").data()
    candles = spot.rest_api.klines(symbol="BTCUSDT", interval="1m", limit=50).data()
    book = spot.rest_api.depth(symbol="BTCUSDT", limit=10).data()

    assert info.symbols[0].symbol == "BTCUSDT" and info.symbols[0].oco_allowed
    assert len(candles) == 50
    assert float(book.bids[0][0]) < float(book.asks[0][0])


def test_sdk_places_queries_and_cancels(spot: Spot) -> None:
    api = spot.rest_api
    last = float(api.ticker_price(symbol="BTCUSDT").data().actual_instance.price)

    bought = api.new_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.01).data()
    rested = api.new_order(
        symbol="BTCUSDT", side="BUY", type="LIMIT", time_in_force="GTC", quantity=0.01, price=round(last * 0.9, 2)
    ).data()  # fmt: skip

    assert bought.status == "FILLED" and bought.fills
    assert api.get_order(symbol="BTCUSDT", order_id=rested.order_id).data().status == "NEW"
    assert len(api.get_open_orders(symbol="BTCUSDT").data()) == 1
    assert api.delete_order(symbol="BTCUSDT", order_id=rested.order_id).data().status == "CANCELED"
    assert len(api.my_trades(symbol="BTCUSDT").data()) == len(bought.fills)
    with pytest.raises(BadRequestError, match="insufficient balance"):
        api.new_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity=50)


def test_sdk_takes_an_oco_and_an_opoco(spot: Spot) -> None:
    api = spot.rest_api
    last = float(api.ticker_price(symbol="BTCUSDT").data().actual_instance.price)

    oco = api.order_list_oco(
        symbol="BTCUSDT", side="SELL", quantity=0.01, above_type="LIMIT_MAKER", above_price=round(last * 1.1, 2),
        below_type="STOP_LOSS", below_stop_price=round(last * 0.9, 2),
    ).data()  # fmt: skip
    opoco = api.order_list_opoco(
        symbol="BTCUSDT", working_type="LIMIT", working_side="BUY", working_price=round(last * 0.95, 2),
        working_quantity=0.01, working_time_in_force="GTC", pending_side="SELL",
        pending_above_type="LIMIT_MAKER", pending_above_price=round(last * 1.1, 2),
        pending_below_type="STOP_LOSS", pending_below_stop_price=round(last * 0.9, 2),
    ).data()  # fmt: skip
    open_lists = api.open_order_list().data()
    canceled = api.delete_order_list(symbol="BTCUSDT", order_list_id=oco.order_list_id).data()

    assert oco.contingency_type == "OCO" and opoco.contingency_type == "OTO"
    assert {entry.order_list_id for entry in open_lists} == {oco.order_list_id, opoco.order_list_id}
    assert canceled.list_order_status == "ALL_DONE"


def test_sdk_amends_in_place_and_reads_what_self_trade_prevention_took(spot: Spot) -> None:
    api = spot.rest_api
    last = float(api.ticker_price(symbol="BTCUSDT").data().actual_instance.price)
    resting = api.new_order(
        symbol="BTCUSDT", side="BUY", type="LIMIT", time_in_force="GTC", quantity=0.02, price=round(last * 0.9, 2)
    ).data()  # fmt: skip

    amended = api.order_amend_keep_priority(symbol="BTCUSDT", new_qty=0.01, order_id=resting.order_id).data()
    rows = api.order_amendments(symbol="BTCUSDT", order_id=resting.order_id).data()
    matches = api.my_prevented_matches(symbol="BTCUSDT", order_id=resting.order_id).data()
    old = api.historical_trades(symbol="BTCUSDT", from_id=1, limit=5).data()

    assert amended.amended_order.qty == "0.01000000"
    assert [row.new_qty for row in rows] == ["0.01000000"]
    assert matches == [] and len(old) == 5


def test_sdk_streams_trades_and_books(spot: Spot) -> None:
    async def session() -> Any:
        connection = await spot.websocket_streams.create_connection()
        heard: dict[str, asyncio.Future[Any]] = {}
        streams = [
            await connection.agg_trade(symbol="btcusdt"),
            await connection.kline(symbol="btcusdt", interval="1m"),
            await connection.diff_book_depth(symbol="btcusdt", update_speed="100ms"),
        ]
        for number, stream in enumerate(streams):
            future = heard[str(number)] = asyncio.get_running_loop().create_future()
            stream.on("message", lambda data, f=future: f.done() or f.set_result(data))
        try:
            return [await future for future in heard.values()]
        finally:
            await connection.close_connection(close_session=True)

    trade, kline, depth = run(session)

    assert float(trade.p) > 0
    assert kline.k.i == "1m"
    assert depth.u >= depth.U if hasattr(depth, "U") else depth is not None


def user_session(spot: Spot, logon: bool) -> Any:
    async def session() -> Any:
        connection = await spot.websocket_api.create_connection()
        try:
            if logon:
                await connection.session_logon()
                subscription = await connection.user_data_stream_subscribe()
            else:
                subscription = await connection.user_data_stream_subscribe_signature()
            events: asyncio.Queue[Any] = asyncio.Queue()
            subscription.stream.on("message", events.put_nowait)
            placed = await connection.order_place(symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.01)
            return placed.data().result, await events.get()
        finally:
            await connection.close_connection(close_session=True)

    return run(session)


def test_sdk_receives_user_events_with_an_hmac_key(spot: Spot) -> None:
    placed, event = user_session(spot, logon=False)

    assert placed.status == "FILLED"
    assert type(event.actual_instance).__name__ == "ExecutionReport"


def test_sdk_logs_on_with_an_ed25519_key(served: Served, trader: Trader) -> None:
    key = ECC.generate(curve="Ed25519")
    opened = trader.http.post(
        f"{served.url}/sim/accounts",
        json={
            "balances": {"USDT": "10000"},
            "keyType": "ED25519",
            "publicKey": key.public_key().export_key(format="PEM"),
        },
        timeout=5,
    ).json()
    spot = make_spot(served, opened["apiKey"], None, key.export_key(format="PEM"))

    assert spot.rest_api.get_account().data().uid == opened["uid"]
    placed, event = user_session(spot, logon=True)

    assert placed.status == "FILLED"
    assert type(event.actual_instance).__name__ == "ExecutionReport"
