"""Self-trade prevention in all its modes: what each order loses, what its owner hears and can ask for afterwards."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from simulator.api.account_events import account_event
from simulator.api.desk import Call, Desk
from simulator.api.limits import Limiter
from simulator.api.params import Params
from simulator.api.trading import my_prevented_matches, place_order
from simulator.engine.contracts import (
    Execution,
    OrderEvent,
    OrderStatus,
    OrderType,
    PreventedMatch,
    SelfTradePrevention,
)
from simulator.engine.exchange import Exchange
from simulator.store import MarketPosition, Store
from tests.simulator.conftest import Trader, code
from tests.simulator.market_builder import (
    SYMBOL,
    account,
    flat_exchange,
    free,
    legs_now,
    limit,
    locked,
    market,
    move,
    place,
    place_list,
    stop,
    stored,
)


@pytest.fixture
def exchange() -> Exchange:
    made = flat_exchange()
    made.books[SYMBOL].liquidity.withdraw()
    return made


def quantities(match: PreventedMatch) -> tuple[Decimal | None, Decimal | None]:
    return match.taker_quantity, match.maker_quantity


@pytest.mark.parametrize(
    ("mode", "taker_loses", "maker_loses"),
    [
        (SelfTradePrevention.EXPIRE_MAKER, None, Decimal("0.03")),
        (SelfTradePrevention.EXPIRE_TAKER, Decimal("0.02"), None),
        (SelfTradePrevention.EXPIRE_BOTH, Decimal("0.02"), Decimal("0.03")),
        (SelfTradePrevention.DECREMENT, Decimal("0.02"), Decimal("0.02")),
        (SelfTradePrevention.TRANSFER, Decimal("0.02"), Decimal("0.02")),
    ],
)
def test_prevented_match_takes_what_the_takers_mode_says(
    exchange: Exchange,
    mode: SelfTradePrevention,
    taker_loses: Decimal | None,
    maker_loses: Decimal | None,
) -> None:
    both = account(exchange, USDT="1000", BTC="1")
    rested = place(exchange, both, limit("BUY", 19900, "0.03"))

    taken = place(exchange, both, limit("SELL", 19900, "0.02", self_trade_prevention=mode)).order

    (match,) = exchange.records.prevented_of(both, SYMBOL)
    assert quantities(match) == (taker_loses, maker_loses)
    assert (match.taker_order_id, match.maker_order_id) == (taken.order_id, rested.order.order_id)
    assert (taken.prevented, stored(exchange, rested).prevented) == (taker_loses or 0, maker_loses or 0)
    assert exchange.records.trades_of(both, SYMBOL) == []


def test_larger_order_of_a_decrement_lives_on_with_its_rest(exchange: Exchange) -> None:
    both = account(exchange, USDT="1000", BTC="1")
    rested = place(exchange, both, limit("BUY", 20000, "0.03"))

    place(exchange, both, limit("SELL", 20000, "0.02", self_trade_prevention=SelfTradePrevention.TRANSFER))

    maker = stored(exchange, rested)
    assert (maker.status, maker.remaining) == (OrderStatus.NEW, Decimal("0.01"))
    assert locked(exchange, both, "USDT") == 200
    assert locked(exchange, both, "BTC") == 0


def test_prevented_matches_and_fills_come_in_the_order_of_the_book(exchange: Exchange) -> None:
    both, other = account(exchange, "a", USDT="5000", BTC="1"), account(exchange, "b", USDT="5000")
    for who, price in ((other, 19990), (both, 19980), (other, 19970)):
        place(exchange, who, limit("BUY", price, "0.01"))
    exchange.take_events()

    place(exchange, both, market("SELL", "0.02"))

    told = [
        (event.execution, event.order.side, event.order.status)
        for event in exchange.take_events()
        if isinstance(event, OrderEvent)
    ]
    assert told == [
        (Execution.NEW, "SELL", OrderStatus.NEW),
        (Execution.TRADE, "BUY", OrderStatus.FILLED),
        (Execution.TRADE, "SELL", OrderStatus.PARTIALLY_FILLED),
        (Execution.TRADE_PREVENTION, "BUY", OrderStatus.EXPIRED_IN_MATCH),
        (Execution.TRADE, "BUY", OrderStatus.FILLED),
        (Execution.TRADE, "SELL", OrderStatus.FILLED),
    ]


def test_market_order_by_amount_that_meets_its_own_account_first_expires_in_match(exchange: Exchange) -> None:
    both = account(exchange, USDT="1000", BTC="1")
    place(exchange, both, limit("SELL", 20010, "0.01"))
    request = market("BUY", quote="100")
    object.__setattr__(request, "self_trade_prevention", SelfTradePrevention.EXPIRE_TAKER)

    order = place(exchange, both, request).order

    assert (order.status, order.executed, order.quantity) == (
        OrderStatus.EXPIRED_IN_MATCH, 0, Decimal("0.00499"),
    )  # fmt: skip
    assert free(exchange, both, "USDT") == 1000


def test_pair_whose_limit_leg_is_prevented_ends_before_its_stop_can_fire(exchange: Exchange) -> None:
    """The leg that is prevented may hold the lock of both: the other one must not execute without it."""
    both = account(exchange, USDT="1000", BTC="0.01")
    # The world's quotes stay away.
    exchange.books[SYMBOL].liquidity.requote = lambda tick: None  # type: ignore[method-assign]
    place(exchange, both, stop("TAKE_PROFIT_LIMIT", "BUY", "0.01", 19995, 20010))
    pair = place_list(
        exchange,
        both,
        "OCO",
        limit("SELL", 20010, "0.01", type=OrderType.LIMIT_MAKER, client_order_id="profit"),
        stop("STOP_LOSS_LIMIT", "SELL", "0.01", 19990, 19900, client_order_id="loss"),
    )

    # One tick triggers both stops: the older one takes from the pair's own limit leg.
    move(exchange, "19980")

    exchange.audit()
    assert [leg.status for leg in legs_now(exchange, pair)] == [
        OrderStatus.EXPIRED_IN_MATCH, OrderStatus.EXPIRED,
    ]  # fmt: skip


def test_report_of_a_prevented_match_names_quantity_price_and_the_other_order(exchange: Exchange) -> None:
    both = account(exchange, USDT="1000", BTC="1")
    rested = place(exchange, both, limit("BUY", 19900, "0.03"))
    exchange.take_events()

    mode = SelfTradePrevention.DECREMENT
    taken = place(exchange, both, limit("SELL", 19900, "0.02", self_trade_prevention=mode))

    reports = [account_event(event) for event in exchange.take_events() if isinstance(event, OrderEvent)]
    maker, taker = (report for report in reports if report["x"] == "TRADE_PREVENTION")
    names = ("v", "A", "B", "u", "U", "Cs", "pl", "pL", "pY")
    amounts = ("0.02000000", "19900.00000000", "398.00000000")
    assert [maker[name] for name in names] == [
        1, "0.02000000", "0.02000000", -1, taken.order.order_id, SYMBOL, *amounts,
    ]  # fmt: skip
    assert [taker[name] for name in names] == [
        1, "0.02000000", "0.02000000", -1, rested.order.order_id, SYMBOL, *amounts,
    ]  # fmt: skip
    assert (maker["X"], taker["X"]) == ("NEW", "EXPIRED_IN_MATCH")


def test_prevented_match_is_shown_in_the_answer_and_can_be_asked_for(exchange: Exchange) -> None:
    desk = Desk(exchange, Limiter(), exchange.faults)
    both = exchange.ledger.accounts[account(exchange, USDT="1000", BTC="1")]
    rested = place(exchange, both.account_id, limit("BUY", 19900, "0.03")).order
    params = Params(
        {"symbol": SYMBOL, "side": "SELL", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.02",
         "price": "19900", "selfTradePreventionMode": "DECREMENT"}
    )  # fmt: skip

    answer = place_order(desk, Call(params, "POST", "/api/v3/order", 500, both))

    shown = {"preventedMatchId": 1, "price": "19900.00000000"} | {
        f"{who}PreventedQuantity": "0.02000000" for who in ("taker", "maker")
    }
    more = {"makerSymbol": SYMBOL, "makerOrderId": rested.order_id}
    assert answer["preventedMatches"] == [shown | more]
    for asked in ({"orderId": str(rested.order_id)}, {"preventedMatchId": "1"}):
        query = Call(Params({"symbol": SYMBOL} | asked), "GET", "", 500, both)
        assert my_prevented_matches(desk, query) == [
            shown | more | {
                "symbol": SYMBOL, "takerOrderId": answer["orderId"], "tradeGroupId": -1,
                "selfTradePreventionMode": "DECREMENT", "transactTime": 500,
            }
        ]  # fmt: skip


def test_prevented_matches_survive_a_restart(tmp_path: Path, exchange: Exchange) -> None:
    both = account(exchange, USDT="1000", BTC="1")
    place(exchange, both, limit("BUY", 19900, "0.03"))
    place(exchange, both, limit("SELL", 19900, "0.02"))
    matches = exchange.records.prevented_of(both, SYMBOL)
    store = Store(tmp_path)
    store.save(exchange, exchange.take_changes(), MarketPosition("flat", 0, False))
    store.close()

    again = flat_exchange()
    store = Store(tmp_path)
    store.restore(again)
    store.close()

    assert matches and again.records.prevented_of(both, SYMBOL) == matches


def test_prevented_matches_need_an_order_or_a_match(trader: Trader) -> None:
    assert code(trader.signed("GET", "myPreventedMatches", symbol="BTCUSDT")) == (400, -1128)
