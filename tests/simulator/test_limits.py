"""Counts by address and account: raw requests, connections, unfilled orders."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from simulator.api.limits import RAW_REQUESTS_PER_5_MINUTES, Limiter
from simulator.engine.errors import ExchangeError
from simulator.server import VenueSettings
from simulator.server.venue import Venue
from tests.simulator.conftest import Served, Trader
from tests.simulator.market_builder import limit, market, stop
from tests.simulator.test_streams import ask, signed_params, talk

START_MS = 1_700_000_100_000


def test_raw_requests_are_limited_even_if_they_weigh_nothing() -> None:
    limiter = Limiter()
    limiter.charge("a", 0, START_MS)
    limiter._raw["a"].add(RAW_REQUESTS_PER_5_MINUTES - 1, START_MS)

    with pytest.raises(ExchangeError) as caught:
        limiter.charge("a", 0, START_MS)

    assert (caught.value.code, caught.value.status) == (-1003, 429)
    limiter.charge("b", 0, START_MS)
    limiter.charge("a", 0, START_MS + (caught.value.retry_after_s or 0) * 1000)


def test_connection_301_of_five_minutes_is_refused() -> None:
    limiter = Limiter()
    for _ in range(300):
        limiter.count_connection("a", 1.0, START_MS)

    with pytest.raises(ExchangeError) as caught:
        limiter.count_connection("a", 1.0, START_MS)

    assert (caught.value.code, caught.value.status) == (-1034, 429)
    limiter.count_connection("b", 1.0, START_MS)
    limiter.count_connection("a", 1.0, START_MS + 300_000)


def test_market_at_speed_allows_as_many_more_connections() -> None:
    limiter = Limiter()

    for _ in range(3_000):
        limiter.count_connection("a", 10.0, START_MS)

    with pytest.raises(ExchangeError):
        limiter.count_connection("a", 10.0, START_MS)


@pytest.mark.parametrize("path", ["ws", "stream", "ws-api/v3"])
def test_socket_too_many_is_answered_with_429(served: Served, path: str) -> None:
    limiter = served.venue.desk.limiter

    def use_up() -> None:
        limiter.count_connection("127.0.0.1", 1e9, served.venue.now_ms())
        limiter._connections["127.0.0.1"].add(300, served.venue.now_ms())

    def open_one() -> InvalidStatus | None:
        served.call(use_up)
        try:
            talk(f"{served.url}/{path}", _close)
        except InvalidStatus as error:
            return error
        return None  # the five minutes turned over between

    try:
        refused = open_one() or open_one()
    finally:
        served.call(limiter.forget)

    assert refused is not None
    response = refused.response
    assert (response.status_code, json.loads(response.body)["code"]) == (429, -1034)
    assert 1 <= int(response.headers["Retry-After"]) <= 300


async def _close(socket: Any) -> None:
    await socket.close()


@pytest.fixture
def venue() -> Venue:
    return Venue(VenueSettings(seed=7, history_minutes=60), now_ms=lambda: START_MS)


def counted(venue: Venue, account_id: int) -> int:
    return venue.desk.limiter.order_counts(account_id, START_MS)[1]


def open_account(venue: Venue) -> int:
    opened = venue.exchange.open_account("k" * 64, "s", START_MS)
    for asset, amount in (("USDT", 100_000), ("BTC", 1)):
        venue.exchange.deposit(opened.account_id, asset, Decimal(amount), START_MS)
    venue.desk.limiter.add_orders(opened.account_id, 20, START_MS)
    return opened.account_id


def test_first_fill_as_taker_gives_one_back(venue: Venue) -> None:
    who = open_account(venue)

    venue.execute(lambda: venue.exchange.place(who, market("BUY", "0.01"), START_MS))

    assert counted(venue, who) == 19


def test_first_fill_as_maker_gives_five_back_and_later_ones_nothing(venue: Venue) -> None:
    who = open_account(venue)
    tape = venue.exchange.tapes["BTCUSDT"]
    price = Decimal(tape.last_price) / 10**8 - 100
    tick = tape.standing()
    venue.execute(lambda: venue.exchange.place(who, limit("BUY", price, "0.02"), START_MS))

    for expected in (15, 15):
        low = tick._replace(price=int(price * 10**8), quantity=10**6, buyer_is_maker=True)
        venue.execute(lambda low=low: venue.exchange.apply_tick(low, START_MS))
        assert counted(venue, who) == expected


def test_cancel_and_expiry_give_nothing_back(venue: Venue) -> None:
    who = open_account(venue)
    last = Decimal(venue.exchange.tapes["BTCUSDT"].last_price) / 10**8
    rested = venue.execute(lambda: venue.exchange.place(who, limit("BUY", last - 5000, "0.01"), START_MS))
    waiting = stop("STOP_LOSS", "SELL", "0.01", last - 5000)
    venue.execute(lambda: venue.exchange.place(who, waiting, START_MS))

    order = venue.exchange.records.by_id(who, "BTCUSDT", rested.order.order_id)
    assert order is not None
    venue.execute(lambda: venue.exchange.cancel(order, "c", START_MS))
    expired = limit("BUY", last - 5000, "0.01", "IOC")
    venue.execute(lambda: venue.exchange.place(who, expired, START_MS))

    assert counted(venue, who) == 20


def test_ws_api_shows_the_order_count_of_what_it_places(served: Served, trader: Trader) -> None:
    async def session(socket: Any) -> list[Any]:
        values = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01",
        }
        values["price"] = f"{trader.last_price() * 0.9:.2f}"
        placed = await ask(socket, "order.place", 1, **signed_params(trader, **values))
        return [placed["rateLimits"], (await ask(socket, "ping", 2))["rateLimits"]]

    placed, other = talk(f"{served.url}/ws-api/v3", session)

    kinds = [(limit["rateLimitType"], limit["interval"]) for limit in placed]
    assert kinds == [("ORDERS", "SECOND"), ("ORDERS", "DAY"), ("REQUEST_WEIGHT", "MINUTE")]
    assert placed[1]["count"] == 1
    assert [limit["rateLimitType"] for limit in other] == ["REQUEST_WEIGHT"]
