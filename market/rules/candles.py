"""Verbs on candles: longer ones from 1m, and holes between them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from market.contracts import Candle, Interval

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def length(interval: Interval) -> timedelta:
    """The interval as a time span."""
    return timedelta(milliseconds=interval.milliseconds)


def bucket_start(instant: datetime, interval: Interval) -> datetime:
    """The open time of the candle of `interval` that holds `instant` (days start at midnight UTC)."""
    return instant - (instant - _EPOCH) % length(interval)


def derive(candles: Sequence[Candle], interval: Interval) -> list[Candle]:
    """Candles of `interval` from closed 1m ones of one symbol, oldest first.

    Exactly the exchange's own: first open, highest high, lowest low, last close, sums. A candle comes out
    only when every minute of it is present.
    """
    minutes = interval.milliseconds // Interval.M1.milliseconds
    buckets: dict[datetime, list[Candle]] = {}
    for candle in sorted({c.open_time: c for c in candles}.values(), key=lambda c: c.open_time):
        buckets.setdefault(bucket_start(candle.open_time, interval), []).append(candle)
    return [_merge(parts, interval) for parts in buckets.values() if len(parts) == minutes]


def _merge(parts: list[Candle], interval: Interval) -> Candle:
    first, last = parts[0], parts[-1]
    return Candle(
        symbol=first.symbol,
        interval=interval,
        open_time=first.open_time,
        close_time=last.close_time,
        open=first.open,
        high=max(c.high for c in parts),
        low=min(c.low for c in parts),
        close=last.close,
        volume=sum((c.volume for c in parts[1:]), first.volume),
        quote_volume=sum((c.quote_volume for c in parts[1:]), first.quote_volume),
        trade_count=sum(c.trade_count for c in parts),
    )


def first_hole(candles: Sequence[Candle]) -> datetime | None:
    """The open time of the first candle missing between the oldest and the newest, or None."""
    for before, after in pairwise(candles):
        expected = before.open_time + length(before.interval)
        if after.open_time != expected:
            return expected
    return None
