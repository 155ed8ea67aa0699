"""Closed candles into Postgres, and the longer ones derived from them."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from django.conf import settings
from django.db import connection, transaction

from market import models, rules
from market.contracts import DERIVED_INTERVALS, Candle, Fence, Interval
from market.selectors import candles as stored
from market.services import fencing
from tradingbot.core.announce import announce

# `unnest` is 4 to 8 times as quick as the ORM here (reference/perf.md). An unchanged candle is not rewritten,
# so that `received_at` stays the instant at which we first had it.
_UPSERT = """
INSERT INTO market_candle AS c (environment, symbol, "interval", open_time, close_time, open, high, low, close,
                                volume, quote_volume, trade_count, received_at)
SELECT %(environment)s, t.*, %(now)s
FROM unnest(%(symbol)s::text[], %(interval)s::text[], %(open_time)s::timestamptz[],
            %(close_time)s::timestamptz[], %(open)s::numeric[], %(high)s::numeric[], %(low)s::numeric[],
            %(close)s::numeric[], %(volume)s::numeric[], %(quote_volume)s::numeric[],
            %(trade_count)s::bigint[]) AS t
ON CONFLICT (environment, symbol, "interval", open_time) DO UPDATE
SET close_time = EXCLUDED.close_time, open = EXCLUDED.open, high = EXCLUDED.high, low = EXCLUDED.low,
    close = EXCLUDED.close, volume = EXCLUDED.volume, quote_volume = EXCLUDED.quote_volume,
    trade_count = EXCLUDED.trade_count, received_at = EXCLUDED.received_at
WHERE (c.open, c.high, c.low, c.close, c.volume, c.quote_volume, c.trade_count)
      IS DISTINCT FROM (EXCLUDED.open, EXCLUDED.high, EXCLUDED.low, EXCLUDED.close, EXCLUDED.volume,
                        EXCLUDED.quote_volume, EXCLUDED.trade_count)
"""
_COLUMNS = (
    "symbol",
    "interval",
    "open_time",
    "close_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_count",
)


def upsert_candles(
    *, candles: Sequence[Candle], now: datetime, fence: Fence | None = None, live: bool = False
) -> None:
    """Store closed candles by open time, and each 5m and 15m one that 1m candles complete.

    `live` announces them (a backfill is history and rings no bell). Open candles are refused: only closed
    ones feed indicators. Raises LeaseLost.
    """
    if not all(c.closed for c in candles):
        raise ValueError("an open candle is not stored")
    unique = {(c.symbol, c.interval, c.open_time): c for c in candles}
    if not unique:
        return
    with transaction.atomic():
        fencing.check(fence)
        _write(list(unique.values()), now)
        minutes = [c for c in unique.values() if c.interval is Interval.M1]
        derived = _derive_touched(minutes)
        _write(derived, now)
        if live:
            for symbol, interval in sorted({(c.symbol, c.interval) for c in [*unique.values(), *derived]}):
                announce("candle", f"{symbol}:{interval}")


def _write(candles: list[Candle], now: datetime) -> None:
    if not candles:
        return
    ordered = sorted(candles, key=attrgetter("symbol", "interval", "open_time"))  # one lock order for all
    columns = {name: [getattr(c, name) for c in ordered] for name in _COLUMNS}
    columns["interval"] = [c.interval.value for c in ordered]
    with connection.cursor() as cursor:
        cursor.execute(_UPSERT, {**columns, "environment": settings.TRADING_ENVIRONMENT.value, "now": now})


def _derive_touched(minutes: list[Candle]) -> list[Candle]:
    """The complete longer candles that hold any of `minutes`, read back from what is stored."""
    derived: list[Candle] = []
    widest = DERIVED_INTERVALS[-1]
    for symbol, group in groupby(
        sorted(minutes, key=attrgetter("symbol", "open_time")), attrgetter("symbol")
    ):
        touched = list(group)
        start = rules.bucket_start(touched[0].open_time, widest)
        end = rules.bucket_start(touched[-1].open_time, widest) + rules.length(widest)
        parts = stored.minutes_between(symbol, start, end)
        for interval in DERIVED_INTERVALS:
            starts = {rules.bucket_start(c.open_time, interval) for c in touched}
            derived += [c for c in rules.derive(parts, interval) if c.open_time in starts]
    return derived


def drop_candles_after(*, symbol: str, instant: datetime, fence: Fence | None = None) -> int:
    """Delete candles of `symbol` that close after `instant`; how many 1m ones.

    For a simulator only, whose market time was put back: what is later belongs to a market that is gone.
    """
    with transaction.atomic():
        fencing.check(fence)
        rows = models.Candle.objects.filter(
            environment=settings.TRADING_ENVIRONMENT,
            symbol=symbol,
            close_time__gt=instant,
        )
        minutes = rows.filter(interval=Interval.M1).count()
        rows.delete()
    return minutes
