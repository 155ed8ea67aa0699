"""Amend keep priority: smaller in its place, ten times, told and remembered."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from simulator.api.account_events import account_event
from simulator.engine.contracts import OrderType, Side
from simulator.engine.errors import ExchangeError
from simulator.engine.exchange import Exchange
from simulator.store import MarketPosition, Store
from tests.simulator.conftest import Trader, code
from tests.simulator.market_builder import (
    SYMBOL,
    account,
    flat_exchange,
    legs_now,
    limit,
    locked,
    place,
    place_list,
    stop,
    stored,
)


@pytest.fixture
def exchange() -> Exchange:
    return flat_exchange()


def resting(trader: Trader) -> dict[str, str]:
    price = f"{trader.last_price() * 0.9:.2f}"
    return trader.order(
        type="LIMIT", timeInForce="GTC", quantity="0.05", price=price, newClientOrderId="first"
    ).json()


def amend(trader: Trader, **params: str) -> dict[str, str]:
    return trader.signed("PUT", "order/amend/keepPriority", symbol="BTCUSDT", **params).json()


def test_amended_order_keeps_its_place_and_gives_the_rest_back(exchange: Exchange) -> None:
    first, second = account(exchange, "a", USDT="10000"), account(exchange, "b", USDT="10000")
    rested = place(exchange, first, limit("BUY", 19000, "0.05"))
    place(exchange, second, limit("BUY", 19000, "0.05", client_order_id="behind"))

    exchange.amend(stored(exchange, rested), Decimal("0.02"), "again", 600)

    exchange.audit()
    queue = [(order.account_id, order.remaining) for order in exchange.books[SYMBOL].resting(Side.BUY)]
    assert queue == [(first, Decimal("0.02")), (second, Decimal("0.05"))]
    assert locked(exchange, first, "USDT") == 380
    assert exchange.records.by_client_id(first, SYMBOL, "again") is stored(exchange, rested)
    assert exchange.records.open_with_client_id(first, rested.order.client_order_id) is None


def test_legs_of_a_pair_are_amended_together(exchange: Exchange) -> None:
    seller = account(exchange, BTC="1")
    pair = place_list(
        exchange,
        seller,
        "OCO",
        limit("SELL", 21000, "0.5", type=OrderType.LIMIT_MAKER, client_order_id="profit"),
        stop("STOP_LOSS", "SELL", "0.5", 19000, client_order_id="loss"),
    )
    exchange.take_events()

    exchange.amend(legs_now(exchange, pair)[1], Decimal("0.2"), "renamed", 600)

    exchange.audit()
    assert [leg.quantity for leg in legs_now(exchange, pair)] == [Decimal("0.2")] * 2
    assert locked(exchange, seller, "BTC") == Decimal("0.2")
    told = [account_event(event) for event in exchange.take_events()]
    assert [event.get("x") or event.get("l") or event["e"] for event in told] == [
        "REPLACED", "REPLACED", "UPDATED", "outboundAccountPosition",
    ]  # fmt: skip
    assert (told[0]["c"], told[0]["q"]) == ("renamed", "0.20000000")


def test_eleventh_amendment_of_an_order_is_refused(exchange: Exchange) -> None:
    buyer = account(exchange, USDT="100000")
    order = stored(exchange, place(exchange, buyer, limit("BUY", 19000, "1")))
    for number in range(1, 11):
        exchange.amend(order, 1 - Decimal(number) / 100, f"n{number}", 600)

    with pytest.raises(ExchangeError) as caught:
        exchange.amend(order, Decimal("0.5"), "n11", 600)

    assert (caught.value.code, caught.value.message) == (-2038, "Filter failure: MAX_NUM_ORDER_AMENDS")


def test_amendments_survive_a_restart(tmp_path: Path, exchange: Exchange) -> None:
    buyer = account(exchange, USDT="100000")
    order = stored(exchange, place(exchange, buyer, limit("BUY", 19000, "1")))
    exchange.amend(order, Decimal("0.5"), "n1", 600)
    store = Store(tmp_path)
    store.save(exchange, exchange.take_changes(), MarketPosition("flat", 0, False))
    store.close()

    again = flat_exchange()
    store = Store(tmp_path)
    store.restore(again)
    store.close()

    found = again.records.by_client_id(buyer, SYMBOL, "n1")
    assert found is not None and found.quantity == Decimal("0.5")
    assert again.records.amendments_of(found) == exchange.records.amendments_of(order) != []


def test_amend_answers_and_lists_as_documented(trader: Trader) -> None:
    order = resting(trader)

    answer = amend(trader, origClientOrderId="first", newQty="0.02", newClientOrderId="second")
    rows = trader.signed("GET", "order/amendments", symbol="BTCUSDT", orderId=order["orderId"]).json()

    amended = answer["amendedOrder"]
    names = ("orderId", "origClientOrderId", "clientOrderId", "qty", "executedQty", "preventedQty", "status")
    assert [amended[name] for name in names] == [
        order["orderId"], "first", "second", "0.02000000", "0.00000000", "0.00000000", "NEW",
    ]  # fmt: skip
    assert rows == [
        {
            "symbol": "BTCUSDT", "orderId": order["orderId"], "executionId": answer["executionId"],
            "origClientOrderId": "first", "newClientOrderId": "second", "origQty": "0.05000000",
            "newQty": "0.02000000", "time": answer["transactTime"],
        }
    ]  # fmt: skip
    found = trader.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="second").json()
    assert found["origQty"] == "0.02000000"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"newQty": "0.06"}, (-2038, "Order amend (quantity increase) is not supported.")),
        ({"newQty": "0.05"}, (-2038, "The requested action would change no state; rejecting.")),
        ({"newQty": "0"}, (-1013, "Invalid quantity.")),
        ({"newQty": "0.000001"}, (-1013, "Filter failure: LOT_SIZE")),
        ({"newQty": "0.00001"}, (-1013, "Filter failure: NOTIONAL")),
        ({"newQty": "0.02", "origClientOrderId": "nobody"}, (-2038, "Unknown order sent.")),
        ({"newQty": "0.02", "newClientOrderId": "taken"}, (-2038, "Duplicate order sent.")),
        ({"newQty": "0.02", "newPrice": "1"}, (-1104, None)),
        ({}, (-1102, None)),
    ],
)
def test_bad_amend_changes_nothing(
    trader: Trader, params: dict[str, str], expected: tuple[int, str | None]
) -> None:
    order = resting(trader)
    trader.order(
        type="LIMIT", timeInForce="GTC", quantity="0.001", price=order["price"], newClientOrderId="taken"
    )

    response = trader.signed(
        "PUT", "order/amend/keepPriority", **({"symbol": "BTCUSDT", "origClientOrderId": "first"} | params)
    )

    assert code(response) == (400, expected[0])
    assert expected[1] in (None, response.json()["msg"])
    found = trader.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="first").json()
    assert (found["origQty"], found["status"]) == ("0.05000000", "NEW")
