"""Verbs on candles: longer ones from 1m, and holes between them."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

from market.contracts import ANCHOR_CANDLES, WARM_UP_CANDLES, Candle, Hole, Interval

MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@cache
def _seconds(interval: Interval) -> int:
    return interval.milliseconds // 1000


@cache
def length(interval: Interval) -> timedelta:
    """The interval as a time span."""
    return timedelta(milliseconds=interval.milliseconds)


def bucket_start(instant: datetime, interval: Interval) -> datetime:
    """The open time of the candle of `interval` that holds `instant` (days start at midnight UTC)."""
    return instant - (instant - _EPOCH) % length(interval)


def derive(
    candles: Sequence[Candle], interval: Interval, absent: Collection[datetime] = frozenset()
) -> list[Candle]:
    """Candles of `interval` from closed 1m ones of one symbol, oldest first.

    Exactly the exchange's own: first open, highest high, lowest low, last close, sums. A candle comes out
    only when every minute of it is present, or `absent` by its open time because the exchange has none.
    """
    minutes = interval.milliseconds // Interval.M1.milliseconds
    buckets: dict[datetime, list[Candle]] = {}
    for candle in sorted({c.open_time: c for c in candles}.values(), key=lambda c: c.open_time):
        buckets.setdefault(bucket_start(candle.open_time, interval), []).append(candle)
    lacking = Counter(bucket_start(instant, interval) for instant in absent)
    return [
        _merge(start, parts, interval)
        for start, parts in buckets.items()
        if len(parts) + lacking[start] == minutes
    ]


def _merge(start: datetime, parts: list[Candle], interval: Interval) -> Candle:
    first, last = parts[0], parts[-1]
    return Candle(
        symbol=first.symbol,
        interval=interval,
        open_time=start,
        close_time=start + length(interval) - MILLISECOND,
        open=first.open,
        high=max(c.high for c in parts),
        low=min(c.low for c in parts),
        close=last.close,
        volume=sum((c.volume for c in parts[1:]), first.volume),
        quote_volume=sum((c.quote_volume for c in parts[1:]), first.quote_volume),
        trade_count=sum(c.trade_count for c in parts),
    )


def missing_minutes(
    symbol: str, present: Sequence[datetime], *, start: datetime, end: datetime
) -> list[Hole]:
    """The holes between `start` and `end` (not included) that the 1m open times `present` leave."""
    holes: list[Hole] = []
    at = start
    for open_time in [*sorted(t for t in present if start <= t < end), end]:
        if open_time > at:
            holes.append(Hole(symbol, at, open_time))
        at = open_time + length(Interval.M1)
    return holes


def hole_minutes(hole: Hole) -> list[datetime]:
    """The open times of the minutes that are missing."""
    count = (hole.end - hole.start) // length(Interval.M1)
    return [hole.start + number * length(Interval.M1) for number in range(count)]


def window_length(open_time: datetime, interval: Interval) -> int:
    """How many candles the window of the indicators holds that ends with the one of `open_time`."""
    # In seconds, because a division of time spans takes as long as six indicators.
    return WARM_UP_CANDLES + int(open_time.timestamp() // _seconds(interval)) % ANCHOR_CANDLES


def first_hole(candles: Sequence[Candle]) -> datetime | None:
    """The open time of the first candle missing between the oldest and the newest, or None."""
    for before, after in pairwise(candles):
        expected = before.open_time + length(before.interval)
        if after.open_time != expected:
            return expected
    return None
