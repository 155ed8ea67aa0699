"""Stored candles as contracts."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from market import contracts, models
from market.contracts import WINDOW_CANDLES, Interval
from market.rules import SHOWN_CANDLES, hole_minutes

# One statement, so that the numbers and the rows that are shown are of the same candles. Decimals as Python
# objects would take most of a snapshot's time: PostgreSQL hands the indicators' numbers over as the eight bytes
# they are computed with (its cast to float8 rounds as Python's float() does), and only the rows that are shown
# as exact numbers.
_NEWEST = """
WITH newest AS (
    SELECT * FROM market_candle
    WHERE environment = %(environment)s AND symbol = %(symbol)s AND "interval" = %(interval)s
    ORDER BY open_time DESC LIMIT %(window)s
), shown AS (SELECT * FROM newest ORDER BY open_time DESC LIMIT %(shown)s)
SELECT open_time, close_time, open, high, low, close, volume, quote_volume, trade_count, received_at,
       CASE WHEN open_time = (SELECT max(open_time) FROM newest) THEN (
           SELECT string_agg(timestamptz_send(open_time) || float8send(high::float8) || float8send(low::float8)
                             || float8send(close::float8) || float8send(volume::float8), ''::bytea
                             ORDER BY open_time)
           FROM newest) END
FROM shown ORDER BY open_time
"""


@dataclass(frozen=True, slots=True)
class NewestCandles:
    """What a snapshot is made of: the window's numbers (market.rules.windows.BAR after BAR), the newest rows,
    oldest first, and when we first had the last of them."""

    bars: bytes
    shown: tuple[contracts.Candle, ...]
    received_at: datetime


def newest_candles(symbol: str, interval: Interval) -> NewestCandles | None:
    """The newest WINDOW_CANDLES closed candles, or as many as there are; None when none is stored."""
    with connection.cursor() as cursor:
        cursor.execute(
            _NEWEST,
            {
                "environment": settings.TRADING_ENVIRONMENT.value,
                "symbol": symbol,
                "interval": interval.value,
                "window": WINDOW_CANDLES,
                "shown": SHOWN_CANDLES,
            },
        )
        rows = cursor.fetchall()
    if not rows:
        return None
    shown = tuple(contracts.Candle(symbol, interval, *row[:9]) for row in rows)
    *_, received_at, bars = rows[-1]
    return NewestCandles(bytes(bars), shown, received_at)


def closed_candles(symbol: str, interval: Interval, limit: int) -> list[contracts.Candle]:
    """The last `limit` closed candles, oldest first; there may be holes between them."""
    newest_first = _rows(symbol, interval).order_by("-open_time")[:limit]
    return [_to_contract(row) for row in reversed(newest_first)]


def with_receipt(symbol: str, interval: Interval, limit: int) -> list[tuple[contracts.Candle, datetime]]:
    """The last `limit` closed candles, oldest first, each with the instant at which we first had it."""
    newest_first = _rows(symbol, interval).order_by("-open_time")[:limit]
    return [(_to_contract(row), row.received_at) for row in reversed(newest_first)]


def recent_range(symbol: str, minutes: int) -> contracts.PriceRange | None:
    """What the price did over the last `minutes` closed 1m candles; None when one of them is missing."""
    rows = list(
        _rows(symbol, Interval.M1)
        .order_by("-open_time")
        .values_list("open_time", "high", "low", "received_at")[:minutes]
    )
    if len(rows) < minutes or rows[0][0] - rows[-1][0] != timedelta(minutes=minutes - 1):
        return None
    return contracts.PriceRange(
        low=min(row[2] for row in rows),
        high=max(row[1] for row in rows),
        minutes=minutes,
        received_at=rows[0][3],
    )


def last_closed(symbol: str, interval: Interval) -> contracts.Candle | None:
    """The newest closed candle, or None when none is stored."""
    row = _rows(symbol, interval).order_by("-open_time").first()
    return _to_contract(row) if row else None


_LAST_OPEN_TIMES = """
SELECT s.symbol, c.open_time
FROM unnest(%s::text[]) AS s(symbol), LATERAL (
    SELECT open_time FROM market_candle
    WHERE environment = %s AND symbol = s.symbol AND "interval" = %s ORDER BY open_time DESC LIMIT 1) AS c
"""


def last_open_times(symbols: Collection[str], interval: Interval) -> dict[str, datetime]:
    """The open time of the newest closed candle of each symbol that has one."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST_OPEN_TIMES, [list(symbols), settings.TRADING_ENVIRONMENT.value, interval.value])
        return dict(cursor.fetchall())


def open_times(symbol: str, interval: Interval, limit: int) -> list[datetime]:
    """The open times of the last `limit` closed candles, oldest first."""
    times = _rows(symbol, interval).order_by("-open_time").values_list("open_time", flat=True)
    return list(reversed(times[:limit]))


def absent_minutes(symbol: str, start: datetime, end: datetime) -> set[datetime]:
    """Open times of the 1m candles between `start` and `end` that the exchange itself does not have."""
    rows = models.CandleHole.objects.filter(
        environment=settings.TRADING_ENVIRONMENT,
        symbol=symbol,
        reason=models.CandleHole.Reason.EXCHANGE,
        filled_at=None,
        start__lt=end,
        end__gt=start,
    )
    times = (at for row in rows for at in hole_minutes(contracts.Hole(symbol, row.start, row.end)))
    return {at for at in times if start <= at < end}


def holes_between(symbol: str, start: datetime, end: datetime) -> list[models.CandleHole]:
    """Holes on record that touch the time from `start` to `end`, oldest first; the filled ones as well."""
    rows = models.CandleHole.objects.filter(
        environment=settings.TRADING_ENVIRONMENT, symbol=symbol, start__lt=end, end__gt=start
    )
    return list(rows.order_by("start"))


def minutes_between(symbol: str, start: datetime, end: datetime) -> list[contracts.Candle]:
    """Stored 1m candles with `start` <= open time < `end`, oldest first."""
    rows = _rows(symbol, Interval.M1).filter(open_time__gte=start, open_time__lt=end)
    return [_to_contract(row) for row in rows.order_by("open_time")]


def last_minute_had_at(symbol: str, instant: datetime) -> datetime | None:
    """The open time of the newest 1m candle that we had at `instant` of our clock."""
    rows = _rows(symbol, Interval.M1).filter(received_at__lte=instant).order_by("-open_time")
    return rows.values_list("open_time", flat=True).first()


def _rows(symbol: str, interval: Interval) -> QuerySet[models.Candle]:
    return models.Candle.objects.filter(
        environment=settings.TRADING_ENVIRONMENT, symbol=symbol, interval=interval
    )


def _to_contract(row: models.Candle) -> contracts.Candle:
    return contracts.Candle(
        symbol=row.symbol,
        interval=Interval(row.interval),
        open_time=row.open_time,
        close_time=row.close_time,
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        quote_volume=row.quote_volume,
        trade_count=row.trade_count,
    )
