"""python-binance, unmodified but for its URLs, takes an OCO and hears of it (tests/simulator has the rest)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager

from tests.simulator.conftest import Served, Trader
from tests.simulator.test_python_binance import run_async

pytestmark = pytest.mark.strangers


def test_python_binance_takes_an_oco_and_hears_of_it(served: Served, trader: Trader) -> None:
    async def session(client: AsyncClient, manager: BinanceSocketManager) -> Any:
        events: list[Any] = []
        async with manager.user_socket() as socket:
            last = float((await client.get_symbol_ticker(symbol="BTCUSDT"))["price"])
            placed = await client.create_oco_order(
                symbol="BTCUSDT",
                side="SELL",
                quantity="0.01",
                aboveType="LIMIT_MAKER",
                abovePrice=f"{last * 1.1:.2f}",
                belowType="STOP_LOSS_LIMIT",
                belowStopPrice=f"{last * 0.9:.2f}",
                belowPrice=f"{last * 0.89:.2f}",
                belowTimeInForce="GTC",
            )
            while len(events) < 4:
                events.append(await asyncio.wait_for(socket.recv(), 30))
        return placed, events

    placed, events = run_async(served, trader, session)

    assert placed["contingencyType"] == "OCO" and len(placed["orders"]) == 2
    kinds = [event["e"] for event in events]
    assert kinds == ["listStatus", "executionReport", "executionReport", "outboundAccountPosition"]
    assert {event["g"] for event in events[:3]} == {placed["orderListId"]}


def test_python_binance_reads_and_streams_in_microseconds(served: Served, trader: Trader) -> None:
    async def session(client: AsyncClient, manager: BinanceSocketManager) -> Any:
        client.TIME_UNIT = "MICROSECOND"
        client.session.headers["X-MBX-TIME-UNIT"] = client.TIME_UNIT
        async with manager.trade_socket("BTCUSDT") as socket:
            trade = await asyncio.wait_for(socket.recv(), 30)
        return await client.get_server_time(), await client.get_klines(symbol="BTCUSDT", interval="1m"), trade

    server, candles, trade = run_async(served, trader, session)

    assert len(str(server["serverTime"])) == len(str(trade["T"])) == len(str(trade["E"])) == 16
    assert all(row[0] % 60_000_000 == 0 and row[6] == row[0] + 59_999_999 for row in candles)
