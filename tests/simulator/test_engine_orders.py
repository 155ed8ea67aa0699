"""Matching, locking and the rules of order types, against the engine in process."""

from __future__ import annotations

from decimal import Decimal

import pytest

from simulator.engine.contracts import (
    ExpiryReason,
    OrderEvent,
    OrderStatus,
    OrderType,
    PositionEvent,
    SelfTradePrevention,
    Side,
)
from simulator.engine.errors import ExchangeError
from simulator.engine.exchange import Exchange
from simulator.engine.ledger import House
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


def test_market_buy_by_quantity_fills_and_pays_commission_in_base(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")

    placement = place(exchange, buyer, market("BUY", "0.01"))

    assert placement.order.status is OrderStatus.FILLED
    assert placement.order.executed == Decimal("0.01")
    assert free(exchange, buyer, "BTC") == Decimal("0.01") - Decimal("0.00001")
    assert free(exchange, buyer, "USDT") == 1000 - placement.order.executed_quote
    assert exchange.ledger.house[House.FEES]["BTC"] == Decimal("0.00001")
    assert locked(exchange, buyer, "USDT") == 0


def test_market_sell_pays_commission_in_quote(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")

    placement = place(exchange, seller, market("SELL", "0.5"))

    assert free(exchange, seller, "USDT") == placement.order.executed_quote * Decimal("0.999")
    assert free(exchange, seller, "BTC") == Decimal("0.5")


def test_market_buy_by_amount_spends_at_most_the_amount_in_whole_steps(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")

    order = place(exchange, buyer, market("BUY", quote="100.5")).order

    assert order.status is OrderStatus.FILLED
    assert Decimal("100.2") < order.executed_quote <= Decimal("100.5")
    assert order.executed % Decimal("0.00001") == 0
    assert order.quantity == order.executed


def test_market_buy_without_enough_money_is_refused_and_changes_nothing(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="100")

    assert refusal(exchange, buyer, market("BUY", "0.01")) == (
        -2010,
        "Account has insufficient balance for requested action.",
    )
    assert free(exchange, buyer, "USDT") == 100
    assert exchange.take_events() == []


def test_market_order_larger_than_the_book_expires_after_a_partial_fill(exchange: Exchange) -> None:
    seller = account(exchange, BTC="140")

    order = place(exchange, seller, market("SELL", "140")).order

    assert order.status is OrderStatus.EXPIRED
    assert order.expiry_reason is ExpiryReason.INSUFFICIENT_LIQUIDITY
    assert 0 < order.executed < 140
    assert free(exchange, seller, "BTC") == 140 - order.executed


def test_market_order_on_an_empty_book_expires_unfilled(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    exchange.books[SYMBOL].liquidity.withdraw()

    order = place(exchange, seller, market("SELL", "1")).order

    assert (order.status, order.executed) == (OrderStatus.EXPIRED, 0)


def test_limit_buy_below_the_market_rests_and_locks_its_price(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")

    placement = place(exchange, buyer, limit("BUY", 19000, "0.01"))

    assert placement.order.status is OrderStatus.NEW
    assert (free(exchange, buyer, "USDT"), locked(exchange, buyer, "USDT")) == (810, 190)


def test_limit_buy_above_the_market_gets_the_better_price_and_the_difference_back(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")

    order = place(exchange, buyer, limit("BUY", 21000, "0.01")).order

    assert order.status is OrderStatus.FILLED
    assert order.executed_quote < Decimal("200.5")
    assert free(exchange, buyer, "USDT") == 1000 - order.executed_quote
    assert locked(exchange, buyer, "USDT") == 0


def test_ioc_expires_what_is_not_there_at_its_price(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="3000000")
    best = exchange.books[SYMBOL].depth(Side.SELL, 1)[0]

    order = place(exchange, buyer, limit("BUY", best[0], "100", "IOC")).order

    assert order.status is OrderStatus.EXPIRED
    assert order.expiry_reason is ExpiryReason.UNFILLED_IOC
    assert order.executed == best[1]
    assert locked(exchange, buyer, "USDT") == 0


def test_fok_fills_whole_or_not_at_all(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="3000000")
    best = exchange.books[SYMBOL].depth(Side.SELL, 1)[0]

    too_large = place(exchange, buyer, limit("BUY", best[0], best[1] + 1, "FOK")).order
    fitting = place(exchange, buyer, limit("BUY", best[0], best[1], "FOK")).order

    assert (too_large.status, too_large.executed) == (OrderStatus.EXPIRED, 0)
    assert too_large.expiry_reason is ExpiryReason.UNFILLED_FOK
    assert fitting.status is OrderStatus.FILLED


def test_limit_maker_that_would_take_is_refused(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")

    assert refusal(exchange, buyer, limit("BUY", 21000, "0.01", type=OrderType.LIMIT_MAKER)) == (
        -2010,
        "Order would immediately match and take.",
    )


def test_limit_maker_below_the_market_rests(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")

    placement = place(exchange, buyer, limit("BUY", 19000, "0.01", type=OrderType.LIMIT_MAKER))

    assert placement.order.status is OrderStatus.NEW


def test_resting_buy_fills_at_its_own_price_when_the_market_falls_through_it(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    placement = place(exchange, buyer, limit("BUY", 19500, "0.01"))

    move(exchange, "19400", "5")

    order = stored(exchange, placement)
    assert order.status is OrderStatus.FILLED
    assert order.executed_quote == 195
    trade = exchange.records.trades_of(buyer, SYMBOL)[0]
    assert trade.is_maker and trade.price == 19500
    exchange.audit()


def test_resting_order_touched_by_a_small_trade_fills_only_that_much(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    placement = place(exchange, seller, limit("SELL", 20500, "1"))

    move(exchange, "20500", "0.004", buyer_is_maker=False)

    order = stored(exchange, placement)
    assert order.status is OrderStatus.PARTIALLY_FILLED
    assert order.executed == Decimal("0.004")
    assert locked(exchange, seller, "BTC") == Decimal("0.996")
    exchange.audit()


def test_resting_order_is_not_touched_by_quotes_that_do_not_reach_it(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    placement = place(exchange, buyer, limit("BUY", 19500, "0.01"))

    move(exchange, "19500.01", "5")

    assert stored(exchange, placement).status is OrderStatus.NEW


def test_two_accounts_trade_with_each_other_at_the_resting_price(exchange: Exchange) -> None:
    maker = account(exchange, "maker", USDT="1000")
    taker = account(exchange, "taker", BTC="1")
    exchange.books[SYMBOL].liquidity.withdraw()
    rested = place(exchange, maker, limit("BUY", 19900, "0.02"))

    taken = place(exchange, taker, limit("SELL", 19800, "0.01"))

    assert taken.order.status is OrderStatus.FILLED
    assert taken.trades[0].price == 19900
    assert stored(exchange, rested).status is OrderStatus.PARTIALLY_FILLED
    assert free(exchange, taker, "USDT") == 199 * Decimal("0.999")
    assert free(exchange, maker, "BTC") == Decimal("0.00999")
    assert exchange.records.trades_of(maker, SYMBOL)[0].trade_id == taken.trades[0].trade_id


def test_better_price_then_older_order_comes_first(exchange: Exchange) -> None:
    exchange.books[SYMBOL].liquidity.withdraw()
    makers = [account(exchange, name, USDT="1000") for name in "abc"]
    prices = (19800, 19900, 19900)
    rested = [place(exchange, m, limit("BUY", p, "0.01")) for m, p in zip(makers, prices, strict=True)]
    taker = account(exchange, "taker", BTC="1")

    trades = place(exchange, taker, market("SELL", "0.015")).trades

    assert [trade.price for trade in trades] == [19900, 19900]
    assert [stored(exchange, r).executed for r in rested] == [0, Decimal("0.01"), Decimal("0.005")]


@pytest.mark.parametrize(
    ("mode", "resting_status", "taking_status"),
    [
        (SelfTradePrevention.EXPIRE_MAKER, OrderStatus.EXPIRED_IN_MATCH, OrderStatus.NEW),
        (SelfTradePrevention.EXPIRE_TAKER, OrderStatus.NEW, OrderStatus.EXPIRED_IN_MATCH),
        (SelfTradePrevention.EXPIRE_BOTH, OrderStatus.EXPIRED_IN_MATCH, OrderStatus.EXPIRED_IN_MATCH),
    ],
)
def test_an_account_never_trades_with_itself(
    exchange: Exchange, mode: SelfTradePrevention, resting_status: OrderStatus, taking_status: OrderStatus
) -> None:
    exchange.books[SYMBOL].liquidity.withdraw()
    both = account(exchange, USDT="1000", BTC="1")
    rested = place(exchange, both, limit("BUY", 19900, "0.01"))

    taken = place(exchange, both, limit("SELL", 19900, "0.01", self_trade_prevention=mode))

    assert stored(exchange, rested).status is resting_status
    assert taken.order.status is taking_status
    assert exchange.records.trades_of(both, SYMBOL) == []


def test_cancel_gives_back_what_was_locked(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    placement = place(exchange, buyer, limit("BUY", 19000, "0.01"))

    canceled = exchange.cancel(stored(exchange, placement), "cancel-1", 600)

    assert canceled.status is OrderStatus.CANCELED
    assert (free(exchange, buyer, "USDT"), locked(exchange, buyer, "USDT")) == (1000, 0)
    exchange.audit()


def test_cancel_of_a_closed_order_is_refused(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    placement = place(exchange, buyer, market("BUY", "0.01"))

    with pytest.raises(ExchangeError) as caught:
        exchange.cancel(stored(exchange, placement), "cancel-1", 600)

    assert (caught.value.code, caught.value.message) == (-2011, "Unknown order sent.")


def test_client_id_is_refused_only_while_its_order_is_open(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    first = place(exchange, buyer, limit("BUY", 19000, "0.01", client_order_id="same"))

    again = refusal(exchange, buyer, limit("BUY", 18000, "0.01", client_order_id="same"))
    exchange.cancel(stored(exchange, first), "c", 600)
    second = place(exchange, buyer, market("BUY", "0.01", client_order_id="same"))
    third = place(exchange, buyer, market("BUY", "0.01", client_order_id="same"))

    assert again == (-2010, "Duplicate order sent.")
    # A filled order's id is free again: the same id buys twice.
    assert second.order.order_id != third.order.order_id


def test_events_come_as_new_then_trades_then_one_position(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="100000")

    placement = place(exchange, buyer, market("BUY", "2"))

    events = exchange.take_events()
    kinds = [
        event.execution.value if isinstance(event, OrderEvent) else type(event).__name__ for event in events
    ]
    assert kinds == ["NEW", *["TRADE"] * len(placement.trades), "PositionEvent"]
    statuses = [event.order.status for event in events if isinstance(event, OrderEvent)]
    assert statuses[0] is OrderStatus.NEW and statuses[-1] is OrderStatus.FILLED
    assert isinstance(events[-1], PositionEvent) and set(events[-1].balances) == {"BTC", "USDT"}


def test_order_number_201_of_a_symbol_is_refused(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000000")
    for number in range(200):
        exchange.place(buyer, limit("BUY", 15000, "0.001", client_order_id=f"n{number}"), 500)

    assert refusal(exchange, buyer, limit("BUY", 15000, "0.001")) == (-2010, "Filter failure: MAX_NUM_ORDERS")


def test_withdrawal_of_locked_money_is_refused(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="200")
    place(exchange, buyer, limit("BUY", 19000, "0.01"))

    with pytest.raises(ExchangeError):
        exchange.deposit(buyer, "USDT", Decimal(-100), 600)

    exchange.audit()
