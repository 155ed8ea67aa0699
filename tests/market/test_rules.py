"""Filters, derived candles and holes."""

from decimal import Decimal
from typing import Any

import pytest

from market import rules
from market.contracts import Interval, MalformedFrame
from tests.market.builders import FILTERS, MINUTE, listing, walk


def without(kind: str) -> list[dict[str, Any]]:
    return [f for f in FILTERS if f["filterType"] != kind]


def test_filters_are_read_as_the_exchange_states_them() -> None:
    filters = rules.parse_filters(listing())

    assert (filters.price_tick, filters.quantity_step) == (Decimal("0.01"), Decimal("0.00001"))
    assert (filters.market_quantity_step, filters.market_quantity_max) == (Decimal("0.00"), Decimal("141.68"))
    assert (filters.notional_min, filters.notional_min_applies_to_market) == (Decimal("5.00"), True)
    assert (filters.bid_multiplier_up, filters.ask_multiplier_up) == (Decimal(2), Decimal(3))
    assert (filters.open_orders_max, filters.algo_orders_max) == (200, 5)
    assert filters.is_trading and filters.oco_allowed and not filters.opo_allowed
    assert filters.unknown_filters == ()


def test_the_older_min_notional_counts_like_the_newer_one() -> None:
    older = {
        "filterType": "MIN_NOTIONAL",
        "minNotional": "10.00",
        "applyToMarket": False,
        "avgPriceMins": 5,
    }

    filters = rules.parse_filters(listing(filters=[*without("NOTIONAL"), older]))

    assert (filters.notional_min, filters.notional_max) == (Decimal("10.00"), Decimal(0))
    assert not filters.notional_min_applies_to_market


def test_the_larger_minimum_binds_when_a_symbol_has_both_notional_filters() -> None:
    older = {"filterType": "MIN_NOTIONAL", "minNotional": "10.00", "applyToMarket": True, "avgPriceMins": 5}

    assert rules.parse_filters(listing(filters=[*FILTERS, older])).notional_min == Decimal("10.00")


def test_an_unknown_filter_is_kept_by_name() -> None:
    filters = rules.parse_filters(listing(filters=[*FILTERS, {"filterType": "MOON_PHASE", "x": 1}]))

    assert filters.unknown_filters == ("MOON_PHASE",)


@pytest.mark.parametrize("status", ["HALT", "BREAK", "CANCEL_ONLY", "END_OF_DAY", "SOMETHING_NEW"])
def test_only_the_status_trading_trades(status: str) -> None:
    assert not rules.parse_filters(listing() | {"status": status}).is_trading


@pytest.mark.parametrize(
    "raw",
    [
        {},
        listing(filters=without("LOT_SIZE")),
        listing(filters=without("PRICE_FILTER")),
        listing(filters=[{"filterType": "PRICE_FILTER", "minPrice": "0", "maxPrice": "x", "tickSize": "0"}]),
        listing() | {"filters": None},
        listing() | {"orderTypes": "LIMIT"},
        listing() | {"baseAsset": None},
        [],
    ],
    ids=lambda raw: repr(raw)[:50],
)
def test_a_malformed_listing_is_refused(raw: Any) -> None:
    with pytest.raises(MalformedFrame):
        rules.parse_filters(raw)


def test_a_derived_candle_is_first_open_extremes_last_close_and_sums() -> None:
    parts = walk(5)

    [candle] = rules.derive(parts, Interval.M5)

    assert (candle.open_time, candle.close_time) == (parts[0].open_time, parts[4].close_time)
    assert (candle.open, candle.close) == (parts[0].open, parts[4].close)
    assert candle.high == max(c.high for c in parts) and candle.low == min(c.low for c in parts)
    assert candle.volume == sum(c.volume for c in parts)
    assert candle.quote_volume == sum(c.quote_volume for c in parts)
    assert candle.trade_count == sum(c.trade_count for c in parts)
    assert candle.interval is Interval.M5


def test_a_derived_candle_needs_every_minute() -> None:
    parts = walk(15)

    derived = rules.derive([c for n, c in enumerate(parts) if n != 7], Interval.M5)

    assert [c.open_time for c in derived] == [parts[0].open_time, parts[10].open_time]


def test_candles_derived_in_two_steps_equal_those_derived_in_one() -> None:
    minutes = walk(60)

    assert len(rules.derive(minutes, Interval.M15)) == 4
    assert rules.derive(minutes, Interval.H1)[0].volume == sum(c.volume for c in minutes)


def test_a_repeated_minute_counts_once() -> None:
    parts = walk(5)

    assert rules.derive([*parts, parts[2]], Interval.M5) == rules.derive(parts, Interval.M5)


def test_the_first_hole_is_found_and_none_in_a_full_row() -> None:
    candles = walk(10)

    assert rules.first_hole(candles) is None
    assert rules.first_hole([*candles[:4], *candles[6:]]) == candles[3].open_time + MINUTE
