"""The symbol's static rules: code -1013 and Binance's texts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from simulator.engine.contracts import OrderRequest
from simulator.engine.errors import ExchangeError
from simulator.engine.filters import check_static
from simulator.engine.instruments import KNOWN_INSTRUMENTS, Instrument, changed, filters_json, instrument_for
from tests.simulator.market_builder import SYMBOL, account, flat_exchange, limit, market, stop

BTCUSDT = KNOWN_INSTRUMENTS["BTCUSDT"]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (limit("BUY", "20000.001", "0.01"), -1013, "Filter failure: PRICE_FILTER"),
        (limit("BUY", "1000000.01", "0.01"), -1013, "Filter failure: PRICE_FILTER"),
        (limit("BUY", "9999.99", "0.01"), -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        (limit("SELL", "40000.01", "0.01"), -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        (limit("BUY", "20000", "0.000001"), -1013, "Filter failure: LOT_SIZE"),
        (limit("BUY", "20000", "9000.00001"), -1013, "Filter failure: LOT_SIZE"),
        (limit("BUY", "20000", "0.00024"), -1013, "Filter failure: NOTIONAL"),
        (limit("BUY", "20000", "450.1"), -1013, "Filter failure: NOTIONAL"),
        (limit("BUY", "0", "0.01"), -1013, "Invalid price."),
        (limit("BUY", "20000", "0"), -1013, "Invalid quantity."),
        (limit("BUY", "20000", "0.000000001"), -1111, "Parameter 'quantity' has too much precision."),
        (limit("BUY", "20000.000000001", "1"), -1111, "Parameter 'price' has too much precision."),
        (market("BUY", "150.00001"), -1013, "Filter failure: MARKET_LOT_SIZE"),
        (market("BUY", "0.00024"), -1013, "Filter failure: NOTIONAL"),
        (market("BUY", quote="4.99"), -1013, "Filter failure: NOTIONAL"),
        (market("BUY", "0.000015"), -1013, "Filter failure: LOT_SIZE"),
    ],
)
def test_order_that_breaks_a_rule_is_refused_with_its_text(
    request_: OrderRequest, code: int, message: str
) -> None:
    with pytest.raises(ExchangeError) as caught:
        check_static(request_, BTCUSDT, Decimal(20_000))

    assert (caught.value.code, caught.value.message) == (code, message)


@pytest.mark.parametrize(
    "request_",
    [
        limit("BUY", "20000", "0.00025"),
        limit("BUY", "10000", "0.001"),
        limit("SELL", "40000", "0.001"),
        market("BUY", quote="5"),
        market("SELL", "0.00025"),
    ],
)
def test_order_at_the_edge_of_the_rules_passes(request_: OrderRequest) -> None:
    check_static(request_, BTCUSDT, Decimal(20_000))


@pytest.mark.parametrize(
    ("values", "request_", "message"),
    [
        ({"is_older": True}, limit("BUY", "20000", "0.00024"), "MIN_NOTIONAL"),
        ({"is_older": True}, market("BUY", "0.00024"), "MIN_NOTIONAL"),
        ({"apply_max_to_market": True, "max_notional": "100"}, market("BUY", "0.01"), "NOTIONAL"),
        ({"min_quantity": "0.001"}, limit("BUY", "20000", "0.0009"), "LOT_SIZE"),
        ({"market_min_quantity": "0.01"}, market("BUY", "0.009"), "MARKET_LOT_SIZE"),
        ({"market_step_size": "0.001"}, market("BUY", "0.0015"), "MARKET_LOT_SIZE"),
        ({"market_step_size": "0.001"}, stop("STOP_LOSS", "SELL", "0.0015", 19000), "MARKET_LOT_SIZE"),
    ],
)
def test_rule_that_is_off_on_this_symbol_binds_once_it_is_on(
    values: dict[str, Any], request_: OrderRequest, message: str
) -> None:
    with pytest.raises(ExchangeError) as caught:
        check_static(request_, changed(BTCUSDT, values), Decimal(20_000))

    assert (caught.value.code, caught.value.message) == (-1013, f"Filter failure: {message}")


@pytest.mark.parametrize(
    ("values", "request_"),
    [
        ({"apply_min_to_market": False}, market("BUY", "0.0001")),
        ({"is_older": True, "max_notional": "100"}, limit("BUY", "20000", "1")),
        ({"market_step_size": "0.001"}, limit("BUY", "20000", "0.0015")),
    ],
)
def test_rule_that_does_not_bind_an_order_lets_it_pass(
    values: dict[str, Any], request_: OrderRequest
) -> None:
    check_static(request_, changed(BTCUSDT, values), Decimal(20_000))


def test_iceberg_must_be_less_than_the_order() -> None:
    with pytest.raises(ExchangeError) as caught:
        check_static(
            limit("BUY", "20000", "0.01", iceberg_quantity=Decimal("0.01")), BTCUSDT, Decimal(20_000)
        )

    assert (caught.value.code, caught.value.message) == (-2010, "IcebergQty exceeds QTY.")


def test_iceberg_order_too_many_of_a_symbol_is_refused() -> None:
    exchange = flat_exchange()
    buyer = account(exchange, USDT="10000")
    exchange.change_filters([SYMBOL], {"max_iceberg_orders": 1})
    small = {"iceberg_quantity": Decimal("0.005")}
    exchange.place(buyer, limit("BUY", 19000, "0.01", **small), 500)

    with pytest.raises(ExchangeError) as caught:
        exchange.place(buyer, limit("BUY", 18000, "0.01", **small), 500)

    assert (caught.value.code, caught.value.message) == (-2010, "Filter failure: MAX_NUM_ICEBERG_ORDERS")
    exchange.place(buyer, limit("BUY", 18000, "0.01"), 500)
    filters = {entry["filterType"]: entry for entry in filters_json(exchange.instruments[SYMBOL])}
    assert filters["MAX_NUM_ICEBERG_ORDERS"]["maxNumIcebergOrders"] == 1


def test_market_order_by_amount_needs_somebody_to_trade_with() -> None:
    exchange = flat_exchange()
    exchange.books[SYMBOL].liquidity.withdraw()
    buyer = account(exchange, USDT="10000")

    with pytest.raises(ExchangeError) as caught:
        exchange.place(buyer, market("BUY", quote="100"), 500)

    assert caught.value.message == "Order book liquidity is less than symbol minimum quantity."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exchange_max_orders": 1}, "EXCHANGE_MAX_NUM_ORDERS"),
        ({"exchange_max_iceberg_orders": 0}, "EXCHANGE_MAX_NUM_ICEBERG_ORDERS"),
        ({"max_assets": {"BTC": "0.005"}}, "MAX_ASSET"),
        ({"max_assets": {"USDT": "150"}}, "MAX_ASSET"),
    ],
)
def test_rules_of_the_exchange_can_be_set(values: dict[str, Any], message: str) -> None:
    exchange = flat_exchange()
    buyer = account(exchange, USDT="10000")
    exchange.place(buyer, limit("BUY", 19000, "0.01"), 500)
    exchange.change_filters([], values)

    with pytest.raises(ExchangeError) as caught:
        exchange.place(buyer, limit("BUY", 18000, "0.01", iceberg_quantity=Decimal("0.005")), 500)

    assert (caught.value.code, caught.value.message) == (-2010, f"Filter failure: {message}")


@pytest.mark.parametrize(
    "values", [{"exchange_max_orders": -1}, {"max_assets": {"BTC": "x"}}, {"max_assets": 1}]
)
def test_bad_rule_changes_nothing(values: dict[str, Any]) -> None:
    exchange = flat_exchange()
    before = exchange.instruments[SYMBOL]

    with pytest.raises(ValueError, match="cannot be"):
        exchange.change_filters([SYMBOL], {"tick_size": "0.1"} | values)

    assert exchange.instruments[SYMBOL] is before and exchange.rules.filters_json() == []


def test_filters_are_printed_like_binance() -> None:
    filters = {entry["filterType"]: entry for entry in filters_json(BTCUSDT)}

    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert filters["PERCENT_PRICE_BY_SIDE"]["bidMultiplierDown"] == "0.5"
    assert filters["MARKET_LOT_SIZE"]["stepSize"] == filters["MARKET_LOT_SIZE"]["minQty"] == "0.00000000"
    older = {entry["filterType"]: entry for entry in filters_json(changed(BTCUSDT, {"is_older": True}))}
    assert "NOTIONAL" not in older
    assert older["MIN_NOTIONAL"] == {
        "filterType": "MIN_NOTIONAL", "minNotional": "5.00000000", "applyToMarket": True, "avgPriceMins": 5,
    }  # fmt: skip


def test_unknown_symbol_of_a_file_gets_tick_and_step_from_its_decimals() -> None:
    instrument = instrument_for("DOGEUSDT", price_decimals=5, quantity_decimals=4)

    assert (instrument.base_asset, instrument.quote_asset) == ("DOGE", "USDT")
    # Three, not four: amounts must fit into eight decimals.
    assert (instrument.tick_size, instrument.step_size) == (Decimal("0.00001"), Decimal("0.001"))


def test_symbol_without_a_known_quote_asset_is_refused() -> None:
    with pytest.raises(ValueError, match="base and quote"):
        instrument_for("XYZ", 2, 2)


def test_instrument_whose_amounts_need_rounding_cannot_exist() -> None:
    with pytest.raises(ValueError, match="8 decimals"):
        Instrument("AB", "A", "B", tick_size=Decimal("0.0001"), step_size=Decimal("0.00001"))
