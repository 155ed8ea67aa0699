"""OCO, OTO, OTOCO, OPO and OPOCO against the engine in process."""

from __future__ import annotations

from decimal import Decimal

import pytest

from simulator.engine.contracts import (
    ExpiryReason,
    ListEvent,
    ListPlacement,
    OrderEvent,
    OrderRequest,
    OrderStatus,
    OrderType,
)
from simulator.engine.errors import ExchangeError
from simulator.engine.exchange import Exchange
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
)

NEW, FILLED, EXPIRED, CANCELED, PENDING = (
    OrderStatus.NEW,
    OrderStatus.FILLED,
    OrderStatus.EXPIRED,
    OrderStatus.CANCELED,
    OrderStatus.PENDING_NEW,
)


@pytest.fixture
def exchange() -> Exchange:
    return flat_exchange()


def take_profit(price: object = 21000, quantity: object = "0.01", side: str = "SELL") -> OrderRequest:
    request = limit(side, price, quantity or "0.01", type=OrderType.LIMIT_MAKER, client_order_id="profit")
    return request if quantity else _without_quantity(request)


def stop_loss(price: object = 19000, quantity: object = "0.01", side: str = "SELL") -> OrderRequest:
    return stop("STOP_LOSS", side, quantity, price, client_order_id="loss")


def entry(price: object = 19500, quantity: object = "0.01", tif: str = "GTC") -> OrderRequest:
    return limit("BUY", price, quantity, tif, client_order_id="entry")


def _without_quantity(request: OrderRequest) -> OrderRequest:
    from dataclasses import replace

    return replace(request, quantity=None)


def statuses(exchange: Exchange, placement: ListPlacement) -> list[OrderStatus]:
    return [leg.status for leg in legs_now(exchange, placement)]


def news(exchange: Exchange) -> list[str]:
    """Events in order: execution reports as TYPE:x:X:eR, list events as their status."""
    told = []
    for event in exchange.take_events():
        if isinstance(event, OrderEvent):
            order = event.order
            told.append(f"{order.client_order_id}:{event.execution}:{order.status}:{order.expiry_reason}")
        elif isinstance(event, ListEvent):
            told.append("ALL_DONE" if event.order_list.is_done else "EXEC_STARTED")
    return told


def test_oco_locks_its_quantity_once(exchange: Exchange) -> None:
    seller = account(exchange, BTC="0.01")

    placement = place_list(exchange, seller, "OCO", take_profit(), stop_loss())

    assert (free(exchange, seller, "BTC"), locked(exchange, seller, "BTC")) == (0, Decimal("0.01"))
    assert [order.status for order in placement.orders] == [NEW, NEW]
    assert news(exchange) == ["EXEC_STARTED", "profit:NEW:NEW:None", "loss:NEW:NEW:None"]


def test_oco_buy_locks_the_dearer_leg(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    below = limit("BUY", 19000, "0.01", type=OrderType.LIMIT_MAKER)

    place_list(exchange, buyer, "OCO", stop("STOP_LOSS_LIMIT", "BUY", "0.01", 20500, price=21000), below)

    assert locked(exchange, buyer, "USDT") == 210


@pytest.mark.parametrize(("price", "filled"), [("21000", 0), ("18900", 1)])
def test_when_one_leg_of_an_oco_executes_the_other_expires(
    exchange: Exchange, price: str, filled: int
) -> None:
    seller = account(exchange, BTC="0.01")
    placement = place_list(exchange, seller, "OCO", take_profit(), stop_loss())
    news(exchange)

    move(exchange, price, "5", buyer_is_maker=False)

    legs = legs_now(exchange, placement)
    assert legs[filled].status is FILLED
    assert (legs[1 - filled].status, legs[1 - filled].expiry_reason) == (EXPIRED, ExpiryReason.OCO_TRIGGER)
    told = news(exchange)
    assert told[0].endswith("EXPIRED:EXPIRED:OCO_TRIGGER") and told[-1] == "ALL_DONE"
    assert locked(exchange, seller, "BTC") == 0
    exchange.audit()


def test_partly_filled_leg_of_an_oco_goes_on_alone_with_the_lock(exchange: Exchange) -> None:
    seller = account(exchange, BTC="0.01")
    placement = place_list(exchange, seller, "OCO", take_profit(), stop_loss())

    move(exchange, "21000", "0.004", buyer_is_maker=False)

    assert statuses(exchange, placement) == [OrderStatus.PARTIALLY_FILLED, EXPIRED]
    assert locked(exchange, seller, "BTC") == Decimal("0.006")
    exchange.audit()


def test_stop_limit_leg_that_has_triggered_rests_and_the_other_is_gone(exchange: Exchange) -> None:
    seller = account(exchange, BTC="0.01")
    loss = stop("STOP_LOSS_LIMIT", "SELL", "0.01", 19000, price=19100)
    placement = place_list(exchange, seller, "OCO", take_profit(), loss)

    move(exchange, "18900")

    assert statuses(exchange, placement) == [EXPIRED, NEW]
    assert legs_now(exchange, placement)[1].is_working
    exchange.audit()


def test_cancel_of_one_leg_cancels_the_list(exchange: Exchange) -> None:
    seller = account(exchange, BTC="0.01")
    placement = place_list(exchange, seller, "OCO", take_profit(), stop_loss())

    exchange.cancel(legs_now(exchange, placement)[1], "c", 600)

    assert statuses(exchange, placement) == [CANCELED, CANCELED]
    assert free(exchange, seller, "BTC") == Decimal("0.01")
    with pytest.raises(ExchangeError) as caught:
        exchange.cancel(legs_now(exchange, placement)[0], "c", 600)
    assert (caught.value.code, caught.value.message) == (-2011, "Unknown order sent.")


@pytest.mark.parametrize(
    ("legs", "message"),
    [
        ((take_profit(19900), stop_loss()), "The relationship of the prices for the orders is not correct."),
        ((take_profit(), stop_loss(20100)), "The relationship of the prices for the orders is not correct."),
        ((take_profit(quantity=2), stop_loss(quantity=2)), "Account has insufficient balance for requested action."),
    ],
)  # fmt: skip
def test_impossible_oco_is_refused_whole(
    exchange: Exchange, legs: tuple[OrderRequest, ...], message: str
) -> None:
    seller = account(exchange, BTC="1")

    with pytest.raises(ExchangeError) as caught:
        place_list(exchange, seller, "OCO", *legs)

    assert (caught.value.code, caught.value.message) == (-2010, message)
    assert exchange.take_events() == [] and not exchange.records.open_orders(seller)


def test_pending_leg_is_placed_when_the_working_leg_is_filled(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000", BTC="0.01")
    placement = place_list(exchange, buyer, "OTO", entry(), limit("SELL", 21000, "0.01"))
    assert statuses(exchange, placement) == [NEW, PENDING]
    assert locked(exchange, buyer, "BTC") == 0

    move(exchange, "19500", "0.004")
    assert statuses(exchange, placement) == [OrderStatus.PARTIALLY_FILLED, PENDING]
    move(exchange, "19400", "5")

    assert statuses(exchange, placement) == [FILLED, NEW]
    assert locked(exchange, buyer, "BTC") == Decimal("0.01")
    exchange.audit()


def test_answer_to_an_entry_filled_at_once_still_shows_the_pending_leg(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000", BTC="0.01")

    placement = place_list(exchange, buyer, "OTO", entry(20100), limit("SELL", 21000, "0.01"))

    assert [order.status for order in placement.orders] == [FILLED, PENDING]
    assert not placement.order_list.is_done
    assert statuses(exchange, placement) == [FILLED, NEW]


def test_entry_that_expires_takes_the_pending_legs_with_it(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000", BTC="0.01")

    placement = place_list(
        exchange, buyer, "OTOCO", entry(19000, tif="IOC"), take_profit(), stop_loss()
    )  # fmt: skip

    legs = legs_now(exchange, placement)
    assert [leg.status for leg in legs] == [EXPIRED] * 3
    assert [leg.expiry_reason for leg in legs[1:]] == [ExpiryReason.OTO_PHASE_ONE_EXPIRED] * 2
    assert news(exchange)[-1] == "ALL_DONE"


def test_otoco_is_an_oto_whose_pending_legs_exclude_each_other(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000", BTC="0.01")
    placement = place_list(exchange, buyer, "OTOCO", entry(), take_profit(), stop_loss())
    assert placement.order_list.kind.contingency == "OTO"
    move(exchange, "19400", "5")
    assert statuses(exchange, placement) == [FILLED, NEW, NEW]
    assert locked(exchange, buyer, "BTC") == Decimal("0.01")

    move(exchange, "18900")

    assert statuses(exchange, placement) == [FILLED, EXPIRED, FILLED]
    assert exchange.records.open_lists(buyer) == []
    exchange.audit()


def test_pending_legs_that_cannot_be_placed_are_rejected_and_leave_the_position_naked(
    exchange: Exchange,
) -> None:
    buyer = account(exchange, USDT="1000")
    # The fee is taken from what was bought: 0.01 bought, 0.00999 there.
    placement = place_list(exchange, buyer, "OTOCO", entry(), take_profit(), stop_loss())

    move(exchange, "19400", "5")

    legs = legs_now(exchange, placement)
    assert [leg.status for leg in legs] == [FILLED, EXPIRED, EXPIRED]
    assert {leg.expiry_reason for leg in legs[1:]} == {ExpiryReason.REJECTED}
    assert {leg.reject_reason for leg in legs[1:]} == {"INSUFFICIENT_BALANCES"}
    assert free(exchange, buyer, "BTC") == Decimal("0.00999")


def test_pending_stop_whose_price_has_passed_is_rejected(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000", BTC="1")
    placement = place_list(exchange, buyer, "OTO", entry(), stop_loss(19450))

    move(exchange, "19400", "5")

    leg = legs_now(exchange, placement)[1]
    assert (leg.status, leg.reject_reason) == (EXPIRED, "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY")


def test_fault_rejects_pending_legs(exchange: Exchange) -> None:
    exchange.faults.arm({"kind": "reject_pending", "symbol": SYMBOL})
    buyer = account(exchange, USDT="1000", BTC="1")
    placement = place_list(exchange, buyer, "OTOCO", entry(), take_profit(), stop_loss())

    move(exchange, "19400", "5")

    assert statuses(exchange, placement) == [FILLED, EXPIRED, EXPIRED]


def test_opoco_sells_what_was_bought_less_the_fee_in_whole_steps(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    placement = place_list(
        exchange, buyer, "OPOCO", entry(quantity="0.01234"), take_profit(quantity=None), stop_loss(quantity=None)
    )  # fmt: skip
    assert [leg.quantity for leg in legs_now(exchange, placement)[1:]] == [0, 0]

    move(exchange, "19400", "5")

    legs = legs_now(exchange, placement)
    assert [leg.status for leg in legs] == [FILLED, NEW, NEW]
    assert legs[1].quantity == legs[2].quantity == Decimal("0.01232")
    assert locked(exchange, buyer, "BTC") == Decimal("0.01232")
    exchange.audit()


def test_cancel_of_a_partly_filled_entry_cancels_its_pending_legs(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000")
    placement = place_list(exchange, buyer, "OTO", entry(), limit("SELL", 21000, "0.01"))
    move(exchange, "19500", "0.004")

    exchange.cancel(legs_now(exchange, placement)[0], "c", 600)

    assert statuses(exchange, placement) == [CANCELED, CANCELED]
    assert free(exchange, buyer, "USDT") == 1000 - 78
    exchange.audit()


def test_pending_market_order_sells_at_once(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="1000", BTC="1")

    placement = place_list(exchange, buyer, "OTO", entry(), market("SELL", "0.01"))
    move(exchange, "19400", "5")

    assert statuses(exchange, placement) == [FILLED, FILLED]
    assert exchange.records.open_lists(buyer) == []


def test_prevented_leg_of_an_oco_ends_the_list(exchange: Exchange) -> None:
    exchange.books[SYMBOL].liquidity.withdraw()
    both = account(exchange, BTC="0.01", USDT="1000")
    placement = place_list(exchange, both, "OCO", take_profit(), stop_loss())

    place(exchange, both, limit("BUY", 21000, "0.01"))

    assert statuses(exchange, placement) == [OrderStatus.EXPIRED_IN_MATCH, EXPIRED]
    assert free(exchange, both, "BTC") == Decimal("0.01")


def test_list_number_21_is_refused(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="100000", BTC="1")
    for number in range(20):
        legs = [limit("BUY", 19000, "0.001", client_order_id=f"w{number}")]
        legs.append(limit("SELL", 21000, "0.001", client_order_id=f"p{number}"))
        place_list(exchange, buyer, "OTO", *legs)

    with pytest.raises(ExchangeError) as caught:
        place_list(exchange, buyer, "OTO", entry(), limit("SELL", 21000, "0.001"))

    assert caught.value.message == "Filter failure: MAX_NUM_ORDER_LISTS"
