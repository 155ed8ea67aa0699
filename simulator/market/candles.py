"""Closed one-minute candles in compact columns, and longer intervals derived from them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
# 1970-01-05, the first Monday of the epoch: weekly candles open on Mondays.
FIRST_MONDAY_MS = 4 * DAY_MS

FIXED_INTERVALS_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
}
INTERVALS = (*FIXED_INTERVALS_MS, "1w", "1M")


class RawCandle(NamedTuple):
    """What a source knows of a minute. Prices and volume in 1e-8 units."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int


class Candle(NamedTuple):
    """A candle as the exchange publishes it. Prices and volumes in 1e-8 units."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trades: int
    taker_volume: int
    taker_quote_volume: int
    first_trade_id: int


def interval_open_ms(interval: str, moment_ms: int, offset_ms: int = 0) -> int:
    """Open time of the candle of `interval` that holds `moment_ms`, on the boundaries of a time zone that is
    `offset_ms` ahead of UTC."""
    if offset_ms:
        return interval_open_ms(interval, moment_ms + offset_ms) - offset_ms
    if interval == "1w":
        return moment_ms - (moment_ms - FIRST_MONDAY_MS) % WEEK_MS
    if interval == "1M":
        moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
        return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp() * 1000)
    return moment_ms - moment_ms % FIXED_INTERVALS_MS[interval]


def interval_close_ms(interval: str, open_ms: int, offset_ms: int = 0) -> int:
    """Last millisecond of the candle of `interval` that opens at `open_ms`."""
    if offset_ms:
        return interval_close_ms(interval, open_ms + offset_ms) - offset_ms
    if interval == "1s":
        return open_ms + 999
    if interval == "1w":
        return open_ms + WEEK_MS - 1
    if interval == "1M":
        return interval_open_ms("1M", open_ms + 32 * DAY_MS) - 1
    return open_ms + FIXED_INTERVALS_MS[interval] - 1


def merge(open_ms: int, candles: list[Candle]) -> Candle:
    """One candle from consecutive shorter ones (at least one)."""
    return Candle(
        open_ms=open_ms,
        open=candles[0].open,
        high=max(candle.high for candle in candles),
        low=min(candle.low for candle in candles),
        close=candles[-1].close,
        volume=sum(candle.volume for candle in candles),
        quote_volume=sum(candle.quote_volume for candle in candles),
        trades=sum(candle.trades for candle in candles),
        taker_volume=sum(candle.taker_volume for candle in candles),
        taker_quote_volume=sum(candle.taker_quote_volume for candle in candles),
        first_trade_id=candles[0].first_trade_id,
    )


def aggregate(interval: str, candles: Iterable[Candle], offset_ms: int = 0) -> Iterator[Candle]:
    """Candles of `interval` from one-minute ones in ascending order; minutes without a candle leave no trace."""
    group: list[Candle] = []
    group_open = group_end = -1
    for candle in candles:
        if candle.open_ms > group_end:
            if group:
                yield merge(group_open, group)
            group = []
            group_open = interval_open_ms(interval, candle.open_ms, offset_ms)
            group_end = interval_close_ms(interval, group_open, offset_ms)
        group.append(candle)
    if group:
        yield merge(group_open, group)


class CandleSeries:
    """Closed one-minute candles of one symbol, ascending, 88 bytes each."""

    def __init__(self) -> None:
        self._columns = tuple(array("q") for _ in Candle._fields)

    def __len__(self) -> int:
        return len(self._columns[0])

    def append(self, candle: Candle) -> None:
        if len(self) and candle.open_ms <= self._columns[0][-1]:
            raise ValueError(f"candle {candle.open_ms} is not after {self._columns[0][-1]}")
        for column, value in zip(self._columns, candle, strict=True):
            column.append(value)

    def at(self, index: int) -> Candle:
        return Candle._make(column[index] for column in self._columns)

    def of_trade(self, trade_id: int) -> int:
        """Open time of the candle that holds a trade, or of the next one; the first one's for older trades."""
        times, first_ids = self._columns[0], self._columns[-1]
        index = bisect_right(first_ids, trade_id) - 1
        return times[max(0, index)] if times else 0

    def between(self, start_ms: int, end_ms: int) -> Iterator[Candle]:
        """Candles that open in [start_ms, end_ms]."""
        times = self._columns[0]
        low, high = bisect_left(times, start_ms), bisect_right(times, end_ms)
        return map(Candle._make, zip(*(column[low:high] for column in self._columns), strict=True))
