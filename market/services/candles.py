"""Closed candles into Postgres, and the longer ones derived from them."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter, itemgetter

from django.conf import settings
from django.db import connection, transaction

from market import models, rules
from market.contracts import DERIVED_INTERVALS, Candle, Fence, Hole, Interval
from market.selectors import candles as stored
from market.services import fencing, holes
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
RETURNING symbol, "interval", open_time
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
    *,
    candles: Sequence[Candle],
    now: datetime,
    fence: Fence | None = None,
    live: bool = False,
    missing: Sequence[Hole] = (),
) -> None:
    """Store closed candles by open time, each longer one that 1m candles complete, and the holes between.

    `live` announces them (a backfill is history and rings no bell). Open candles are refused: only closed
    ones feed indicators. Raises LeaseLost.
    """
    if not all(c.closed for c in candles):
        raise ValueError("an open candle is not stored")
    unique = {(c.symbol, c.interval, c.open_time): c for c in candles}
    if not unique and not missing:
        return
    with transaction.atomic():
        fencing.check(fence)
        changed = _write(list(unique.values()), now)
        minutes = [(symbol, at) for symbol, interval, at in changed if interval == Interval.M1]
        new_holes = holes.record(missing, now)
        holes.mark_filled(minutes, now)
        minutes += [(hole.symbol, at) for hole in new_holes for at in rules.hole_minutes(hole)]
        derived = _derive_touched(minutes)
        _write(derived, now)
        if live:
            for symbol, interval in sorted({(c.symbol, c.interval) for c in [*unique.values(), *derived]}):
                announce("candle", f"{symbol}:{interval}")


def _write(candles: list[Candle], now: datetime) -> list[tuple[str, str, datetime]]:
    """Symbol, interval and open time of those that were new or different."""
    if not candles:
        return []
    ordered = sorted(candles, key=attrgetter("symbol", "interval", "open_time"))  # one lock order for all
    columns = {name: [getattr(c, name) for c in ordered] for name in _COLUMNS}
    columns["interval"] = [c.interval.value for c in ordered]
    with connection.cursor() as cursor:
        cursor.execute(_UPSERT, {**columns, "environment": settings.TRADING_ENVIRONMENT.value, "now": now})
        return cursor.fetchall()


def _derive_touched(minutes: list[tuple[str, datetime]]) -> list[Candle]:
    """The complete longer candles that hold any of `minutes`, read back from what is stored.

    A longer candle is read only once its last minute can be there: at a live minute mostly none is.
    """
    derived: list[Candle] = []
    newest = stored.last_open_times({symbol for symbol, _ in minutes}, Interval.M1) if minutes else {}
    for symbol, group in groupby(sorted(minutes), itemgetter(0)):
        times = [at for _, at in group]
        known_to = max(times[-1], newest.get(symbol, times[-1])) + rules.length(Interval.M1)
        for interval in DERIVED_INTERVALS:
            starts = {rules.bucket_start(at, interval) for at in times}
            ended = sorted(start for start in starts if start + rules.length(interval) <= known_to)
            if ended:
                derived += _derive(symbol, interval, ended)
    return derived


def _derive(symbol: str, interval: Interval, starts: list[datetime]) -> list[Candle]:
    end = starts[-1] + rules.length(interval)
    parts = stored.minutes_between(symbol, starts[0], end)
    absent = stored.absent_minutes(symbol, starts[0], end)
    return [c for c in rules.derive(parts, interval, absent) if c.open_time in set(starts)]


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
        holes.drop_after(symbol, instant)
    return minutes
