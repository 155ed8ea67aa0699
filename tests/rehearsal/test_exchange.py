"""The rehearsed exchange answers as the product's gateway would: whole, however many pages it takes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from execution.contracts import OrderRequest
from simulator.decimals import from_units
from tests.conftest import NOW
from tradingbot.core.clock import to_milliseconds
from tradingbot.operations.rehearsal import exchange as rehearsed
from tradingbot.operations.rehearsal.exchange import RehearsedExchange
from tradingbot.operations.rehearsal.faults import Faults

SYMBOL = "BTCUSDT"


class _Clock:
    def __init__(self) -> None:
        self.now = NOW

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def exchange(clock: _Clock) -> RehearsedExchange:
    return RehearsedExchange(
        seed=1, replay=None, faults=Faults(1, 0.0), now=lambda: clock.now, pass_time=clock.pass_time
    )


@pytest.fixture
def place(exchange: RehearsedExchange, clock: _Clock) -> Callable[[str], datetime]:
    """Place an order that rests far below the market; when that was."""

    def placed(name: str) -> datetime:
        last = from_units(exchange.venue.exchange.tapes[SYMBOL].last_price)
        price = (last * Decimal("0.9")).quantize(Decimal("0.01"))
        parameters = {
            "symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.0005",
            "price": str(price), "newClientOrderId": name,
        }  # fmt: skip
        exchange.place_order(
            OrderRequest(
                symbol=SYMBOL, client_order_id=name, parameters=parameters,
                timestamp_ms=to_milliseconds(clock.now), recv_window_ms=5000, endpoint="order",
            )
        )  # fmt: skip
        return clock.now

    return placed


@pytest.mark.parametrize("orders", [2, 3, 4, 6, 8])
def test_all_orders_are_told_however_many_share_a_page_and_a_millisecond(
    exchange: RehearsedExchange,
    place: Callable[[str], datetime],
    monkeypatch: pytest.MonkeyPatch,
    orders: int,
) -> None:
    monkeypatch.setattr(rehearsed, "PAGE_LENGTH_MAX", 3)
    names = [f"order-{number}" for number in range(orders)]
    at = [place(name) for name in names]

    found = exchange.orders_since(symbol=SYMBOL, since=at[0])

    assert [report.client_order_id for report in found] == names


def test_orders_of_later_windows_follow_a_full_page(
    exchange: RehearsedExchange,
    place: Callable[[str], datetime],
    clock: _Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rehearsed, "PAGE_LENGTH_MAX", 3)
    since = place("first")
    names = ["first", "second", "third", "a-day-later", "two-days-later"]
    for name in names[1:3]:
        place(name)
    for name in names[3:]:
        clock.pass_time(24 * 3600)
        place(name)

    found = exchange.orders_since(symbol=SYMBOL, since=since)

    assert [report.client_order_id for report in found] == names
