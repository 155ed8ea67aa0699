"""The symbol's static rules: code -1013 and Binance's texts."""

from __future__ import annotations

from decimal import Decimal

import pytest

from simulator.engine.contracts import OrderRequest
from simulator.engine.errors import ExchangeError
from simulator.engine.filters import check_static
from simulator.engine.instruments import KNOWN_INSTRUMENTS, Instrument, filters_json, instrument_for
from tests.simulator.market_builder import limit, market

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


def test_filters_are_printed_like_binance() -> None:
    filters = {entry["filterType"]: entry for entry in filters_json(BTCUSDT)}

    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert filters["PERCENT_PRICE_BY_SIDE"]["bidMultiplierDown"] == "0.5"


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
