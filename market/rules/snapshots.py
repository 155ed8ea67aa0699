"""Compose what a decision is made on, and the JSON that the advisor is sent."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from market.contracts import INDICATOR_VERSION, Candle, MarketSnapshot, Quote, StaleData, SymbolFilters
from market.rules.candles import first_hole
from tradingbot.core.decimals import plain

SHOWN_CANDLES = 30


def compose_snapshot(
    *,
    candles: Sequence[Candle],
    indicator_facts: dict[str, Decimal],
    quote: Quote,
    ages_seconds: dict[str, float],
) -> MarketSnapshot:
    """The snapshot of one symbol, as of its last candle; raises StaleData when one of `candles` is missing."""
    hole = first_hole(candles)
    if hole is not None:
        raise StaleData(f"the candle of {iso_z(hole)} is missing")
    last = candles[-1]
    return MarketSnapshot(
        symbol=last.symbol,
        interval=last.interval,
        as_of=last.close_time,
        quote=quote,
        facts={**indicator_facts, **quote_facts(quote)},
        candles=tuple(candles[-SHOWN_CANDLES:]),
        indicator_version=INDICATOR_VERSION,
        ages_seconds=ages_seconds,
    )


def quote_facts(quote: Quote) -> dict[str, Decimal]:
    """The book's top: prices, spread, and the imbalance from -1 (only asks) to 1 (only bids)."""
    total = quote.bid_quantity + quote.ask_quantity
    imbalance = (quote.bid_quantity - quote.ask_quantity) / total if total else Decimal(0)
    return {
        "bid": quote.bid,
        "ask": quote.ask,
        "spread_bps": round(quote.spread_bps, 4),
        "book_imbalance": round(imbalance, 6),
    }


def snapshot_payload(
    snapshot: MarketSnapshot, *, filters: SymbolFilters, snapshot_id: UUID
) -> dict[str, Any]:
    """The snapshot as the advisor gets it: every number as text, so that JSON cannot change it."""
    quote = snapshot.quote
    return {
        "snapshot_id": str(snapshot_id),
        "as_of": iso_z(snapshot.as_of),
        "symbol": snapshot.symbol,
        "interval": snapshot.interval.value,
        "quote": {
            "bid": plain(quote.bid),
            "ask": plain(quote.ask),
            "bid_quantity": plain(quote.bid_quantity),
            "ask_quantity": plain(quote.ask_quantity),
            "spread_bps": plain(round(quote.spread_bps, 4)),
        },
        "filters": {
            "tick_size": plain(filters.price_tick),
            "step_size": plain(filters.quantity_step),
            "min_notional": plain(filters.notional_min),
        },
        "facts": [{"id": name, "value": plain(value)} for name, value in snapshot.facts.items()],
        "candles": [_row(candle) for candle in snapshot.candles],
        "ages_seconds": {name: f"{age:.3f}" for name, age in snapshot.ages_seconds.items()},
        "indicator_version": snapshot.indicator_version,
    }


def _row(candle: Candle) -> list[str]:
    numbers: tuple[Decimal, ...] = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return [iso_z(candle.open_time), *(plain(n) for n in numbers)]


def iso_z(instant: datetime) -> str:
    """UTC in ISO 8601 with a Z, milliseconds only when there are any."""
    text = instant.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{instant.microsecond // 1000:03d}Z" if instant.microsecond else f"{text}Z"
