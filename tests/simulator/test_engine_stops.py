"""Stops, trailing stops, icebergs, DECREMENT, commission in BNB, and the filters that go with them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from simulator.engine.contracts import (
    Execution,
    ExpiryReason,
    OrderEvent,
    OrderStatus,
    OrderType,
    SelfTradePrevention,
    Side,
)
from simulator.engine.errors import ExchangeError
from simulator.engine.exchange import Exchange
from tests.simulator.market_builder import (
    SYMBOL,
    account,
    flat_exchange,
    free,
    limit,
    locked,
    market,
    move,
    place,
    stop,
    stored,
)


@pytest.fixture
def exchange() -> Exchange:
    return flat_exchange()


def refusal(exchange: Exchange, account_id: int, request: object) -> tuple[int, str]:
    with pytest.raises(ExchangeError) as caught:
        exchange.place(account_id, request, 500)  # type: ignore[arg-type]
    exchange.audit()
    return caught.value.code, caught.value.message


def test_stop_loss_sell_waits_locked_and_becomes_a_market_order_at_its_trigger(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    waiting = place(exchange, seller, stop("STOP_LOSS", "SELL", 1, 19500))
    assert (waiting.order.is_working, waiting.order.working_ms) == (False, -1)
    assert locked(exchange, seller, "BTC") == 1
    move(exchange, "19500.01")
    assert stored(exchange, waiting).status is OrderStatus.NEW

    move(exchange, "19500", now_ms=2_000)

    order = stored(exchange, waiting)
    assert (order.status, order.is_working, order.working_ms) == (OrderStatus.FILLED, True, 2_000)
    fees = sum(trade.commission for trade in exchange.records.trades_of(seller, SYMBOL))
    assert free(exchange, seller, "USDT") == order.executed_quote - fees
    exchange.audit()


def test_triggered_stop_says_new_again_before_it_trades(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    place(exchange, seller, stop("STOP_LOSS", "SELL", "0.01", 19500))
    exchange.take_events()

    move(exchange, "19400")

    events = [event for event in exchange.take_events() if isinstance(event, OrderEvent)]
    assert [event.execution for event in events] == [Execution.NEW, Execution.TRADE]
    assert events[0].order.is_working


@pytest.mark.parametrize(
    ("kind", "side", "stop_price", "beyond"),
    [
        ("STOP_LOSS", "BUY", 20500, "20500"),
        ("STOP_LOSS", "SELL", 19500, "19500"),
        ("TAKE_PROFIT", "SELL", 20500, "20600"),
        ("TAKE_PROFIT", "BUY", 19500, "19400"),
    ],
)
def test_each_kind_triggers_on_its_side_of_the_market(
    exchange: Exchange, kind: str, side: str, stop_price: int, beyond: str
) -> None:
    owner = account(exchange, USDT="100000", BTC="1")
    waiting = place(exchange, owner, stop(kind, side, "0.01", stop_price))
    move(exchange, "20000")
    assert stored(exchange, waiting).status is OrderStatus.NEW

    move(exchange, beyond)

    assert stored(exchange, waiting).status is OrderStatus.FILLED
    exchange.audit()


@pytest.mark.parametrize(
    ("kind", "side", "stop_price"),
    [("STOP_LOSS", "BUY", 20000), ("STOP_LOSS", "SELL", 20000), ("TAKE_PROFIT", "SELL", 19000)],
)
def test_stop_that_would_trigger_at_once_is_refused(
    exchange: Exchange, kind: str, side: str, stop_price: int
) -> None:
    owner = account(exchange, USDT="100000", BTC="1")

    assert refusal(exchange, owner, stop(kind, side, "0.01", stop_price)) == (
        -2010,
        "Order would trigger immediately.",
    )


def test_stop_limit_rests_at_its_limit_once_triggered(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    waiting = place(exchange, seller, stop("STOP_LOSS_LIMIT", "SELL", "0.01", 19500, price=19600))

    move(exchange, "19400")

    order = stored(exchange, waiting)
    assert (order.status, order.is_working) == (OrderStatus.NEW, True)
    move(exchange, "19600", "5", buyer_is_maker=False)
    assert stored(exchange, waiting).executed_quote == 196


def test_stop_market_buy_that_cannot_be_paid_at_its_trigger_expires(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="205")
    waiting = place(exchange, buyer, stop("STOP_LOSS", "BUY", "0.01", 20500))
    assert free(exchange, buyer, "USDT") == 0

    move(exchange, "21500")

    order = stored(exchange, waiting)
    assert (order.status, order.expiry_reason) == (OrderStatus.EXPIRED, ExpiryReason.REJECTED)
    assert order.reject_reason == "INSUFFICIENT_BALANCES"
    assert free(exchange, buyer, "USDT") == 205


def test_trailing_stop_follows_the_high_and_sells_after_the_fall(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    waiting = place(exchange, seller, stop("STOP_LOSS", "SELL", "0.01", trailing_delta=100))
    for price in ("19900", "21000", "20800"):
        move(exchange, price)
        assert stored(exchange, waiting).status is OrderStatus.NEW
    assert stored(exchange, waiting).trail_price == 21000

    move(exchange, "20790")

    assert stored(exchange, waiting).status is OrderStatus.FILLED


def test_trailing_stop_with_a_stop_price_follows_only_from_there(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    waiting = place(exchange, seller, stop("STOP_LOSS", "SELL", "0.01", 19500, trailing_delta=100))
    move(exchange, "19600")
    assert stored(exchange, waiting).trail_price == 0

    move(exchange, "19500")
    assert stored(exchange, waiting).trail_price == 19500
    move(exchange, "19305")

    assert stored(exchange, waiting).status is OrderStatus.FILLED


def test_cancel_of_a_waiting_stop_gives_its_lock_back(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    waiting = place(exchange, seller, stop("STOP_LOSS", "SELL", 1, 19500))

    exchange.cancel(stored(exchange, waiting), "c", 600)
    move(exchange, "19000")

    assert (free(exchange, seller, "BTC"), locked(exchange, seller, "BTC")) == (1, 0)


def test_iceberg_shows_one_slice_and_goes_to_the_end_of_the_queue_with_the_next(exchange: Exchange) -> None:
    exchange.books[SYMBOL].liquidity.withdraw()
    hidden, plain, taker = (account(exchange, n, USDT="2000", BTC="1") for n in ("a", "b", "c"))
    iceberg = place(exchange, hidden, limit("SELL", 20100, "0.03", iceberg_quantity=Decimal("0.01")))
    other = place(exchange, plain, limit("SELL", 20100, "0.01"))
    assert exchange.books[SYMBOL].depth(Side.SELL, 5) == [(Decimal(20100), Decimal("0.02"))]

    trades = place(exchange, taker, limit("BUY", 20100, "0.025", "IOC")).trades

    assert [trade.quantity for trade in trades] == [Decimal("0.01"), Decimal("0.01"), Decimal("0.005")]
    assert stored(exchange, other).status is OrderStatus.FILLED
    assert stored(exchange, iceberg).executed == Decimal("0.015")
    assert exchange.books[SYMBOL].depth(Side.SELL, 5) == [(Decimal(20100), Decimal("0.005"))]


def test_iceberg_of_too_many_parts_is_refused(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    request = limit("SELL", 20100, "0.0101", iceberg_quantity=Decimal("0.0001"))

    assert refusal(exchange, seller, request) == (-1013, "Filter failure: ICEBERG_PARTS")


def test_decrement_cuts_both_orders_by_what_they_would_have_traded(exchange: Exchange) -> None:
    exchange.books[SYMBOL].liquidity.withdraw()
    both = account(exchange, USDT="1000", BTC="1")
    rested = place(exchange, both, limit("BUY", 19900, "0.01"))
    mode = SelfTradePrevention.DECREMENT

    taken = place(exchange, both, limit("SELL", 19900, "0.03", self_trade_prevention=mode))

    maker, taker = stored(exchange, rested), stored(exchange, taken)
    assert (maker.status, maker.prevented) == (OrderStatus.EXPIRED_IN_MATCH, Decimal("0.01"))
    assert (taker.status, taker.remaining) == (OrderStatus.NEW, Decimal("0.02"))
    assert locked(exchange, both, "BTC") == Decimal("0.02")
    assert locked(exchange, both, "USDT") == 0
    assert exchange.records.trades_of(both, SYMBOL) == []


def test_sixth_stop_of_a_symbol_is_refused(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    for number in range(5):
        place(exchange, seller, stop("STOP_LOSS", "SELL", "0.01", 19000, client_order_id=f"s{number}"))

    assert refusal(exchange, seller, stop("STOP_LOSS", "SELL", "0.01", 19000)) == (
        -2010,
        "Filter failure: MAX_NUM_ALGO_ORDERS",
    )
    assert place(exchange, seller, limit("SELL", 21000, "0.01")).order.status is OrderStatus.NEW


def test_position_limit_counts_balance_and_open_buys(exchange: Exchange) -> None:
    exchange.change_filters([SYMBOL], {"max_position": "1.5"})
    buyer = account(exchange, USDT="100000", BTC="1")
    place(exchange, buyer, limit("BUY", 19000, "0.4"))

    assert refusal(exchange, buyer, limit("BUY", 19000, "0.2")) == (-2010, "Filter failure: MAX_POSITION")
    assert place(exchange, buyer, limit("BUY", 19000, "0.1")).order.status is OrderStatus.NEW


def test_exchange_wide_limits_count_all_symbols(exchange: Exchange) -> None:
    exchange.rules.max_orders = 1
    buyer = account(exchange, USDT="100000")
    place(exchange, buyer, limit("BUY", 19000, "0.1"))

    assert refusal(exchange, buyer, limit("BUY", 18000, "0.1")) == (
        -2010,
        "Filter failure: EXCHANGE_MAX_NUM_ORDERS",
    )


def test_percent_price_and_asset_limits_are_off_until_set(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="100000")
    exchange.change_filters([SYMBOL], {"percent_price_up": "1.1", "percent_price_down": "0.9"})
    exchange.rules.max_assets["USDT"] = Decimal(1000)

    assert refusal(exchange, buyer, limit("BUY", 17000, "0.1")) == (-1013, "Filter failure: PERCENT_PRICE")
    assert refusal(exchange, buyer, limit("BUY", 19000, "0.1")) == (-2010, "Filter failure: MAX_ASSET")


def test_trailing_delta_outside_its_bounds_is_refused(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")

    assert refusal(exchange, seller, stop("STOP_LOSS", "SELL", "0.01", trailing_delta=5)) == (
        -1013,
        "Filter failure: TRAILING_DELTA",
    )


def test_commission_is_taken_in_bnb_at_a_discount_while_there_is_some(exchange: Exchange) -> None:
    exchange._floor.last_prices["BNBUSDT"] = Decimal(400)
    buyer = account(exchange, USDT="1000", BNB="0.0004")
    exchange.set_pays_in_bnb(buyer, True)

    first = place(exchange, buyer, market("BUY", "0.01")).trades[0]
    second = place(exchange, buyer, market("BUY", "0.01")).trades[0]

    expected = (first.quote_quantity * Decimal("0.00075") / 400).quantize(Decimal("1e-8"), "ROUND_DOWN")
    assert (first.commission_asset, first.commission) == ("BNB", expected)
    assert second.commission_asset == "BTC"
    assert free(exchange, buyer, "BTC") == Decimal("0.02") - second.commission


@pytest.mark.parametrize("status", ["HALT", "BREAK", "CANCEL_ONLY"])
def test_symbol_that_does_not_trade_takes_no_orders_and_fills_none(exchange: Exchange, status: str) -> None:
    buyer = account(exchange, USDT="1000", BTC="1")
    resting = place(exchange, buyer, limit("BUY", 19000, "0.01"))
    waiting = place(exchange, buyer, stop("STOP_LOSS", "SELL", "0.01", 19500))
    exchange.set_status(SYMBOL, status)

    move(exchange, "18000", "5")

    assert refusal(exchange, buyer, limit("BUY", 19000, "0.01", client_order_id="x")) == (
        -2010,
        "Market is closed.",
    )
    assert stored(exchange, resting).status is stored(exchange, waiting).status is OrderStatus.NEW
    if status == "CANCEL_ONLY":
        assert exchange.cancel(stored(exchange, resting), "c", 600).status is OrderStatus.CANCELED
    else:
        with pytest.raises(ExchangeError):
            exchange.cancel(stored(exchange, resting), "c", 600)


def test_changed_filters_bind_new_orders_only(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    place(exchange, buyer, limit("BUY", "19000.01", "0.01"))

    exchange.change_filters([SYMBOL], {"tick_size": "0.10", "min_notional": "50"})

    assert refusal(exchange, buyer, limit("BUY", "19000.02", "0.01")) == (
        -1013,
        "Filter failure: PRICE_FILTER",
    )
    assert refusal(exchange, buyer, limit("BUY", "19000.10", "0.001")) == (-1013, "Filter failure: NOTIONAL")
    with pytest.raises(ValueError, match="whole multiple"):
        exchange.change_filters([SYMBOL], {"tick_size": "0.015"})


def test_partial_fill_fault_leaves_the_rest_alone_until_its_time(exchange: Exchange) -> None:
    exchange.faults.arm({"kind": "partial_fill", "symbol": SYMBOL, "fraction": 0.4, "seconds": 60})
    buyer = account(exchange, USDT="1000")
    rested = place(exchange, buyer, limit("BUY", 19500, "0.01"))

    move(exchange, "19000", "5", now_ms=1_000)
    assert stored(exchange, rested).executed == Decimal("0.004")
    move(exchange, "19000", "5", now_ms=60_000)
    assert stored(exchange, rested).executed == Decimal("0.004")
    move(exchange, "19000", "5", now_ms=61_000)

    assert stored(exchange, rested).status is OrderStatus.FILLED


def test_partial_fill_fault_cuts_a_market_order_short(exchange: Exchange) -> None:
    exchange.faults.arm({"kind": "partial_fill", "fraction": 0.5})
    buyer = account(exchange, USDT="1000")

    order = place(exchange, buyer, market("BUY", "0.01")).order

    assert (order.status, order.executed) == (OrderStatus.EXPIRED, Decimal("0.005"))


def test_market_lot_size_binds_stops_without_a_limit(exchange: Exchange) -> None:
    seller = account(exchange, BTC="200")
    exchange.instruments[SYMBOL] = replace(exchange.instruments[SYMBOL], market_max_quantity=Decimal(1))

    assert refusal(exchange, seller, stop("STOP_LOSS", "SELL", 2, 19500)) == (
        -1013,
        "Filter failure: MARKET_LOT_SIZE",
    )
    assert OrderType.STOP_LOSS.is_stop
