"""Stored candles as contracts."""

from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet

from market import contracts, models
from market.contracts import Interval
from market.rules import hole_minutes


def closed_candles(symbol: str, interval: Interval, limit: int) -> list[contracts.Candle]:
    """The last `limit` closed candles, oldest first; there may be holes between them."""
    newest_first = _rows(symbol, interval).order_by("-open_time")[:limit]
    return [_to_contract(row) for row in reversed(newest_first)]


def with_receipt(symbol: str, interval: Interval, limit: int) -> list[tuple[contracts.Candle, datetime]]:
    """The last `limit` closed candles, oldest first, each with the instant at which we first had it."""
    newest_first = _rows(symbol, interval).order_by("-open_time")[:limit]
    return [(_to_contract(row), row.received_at) for row in reversed(newest_first)]


def last_closed(symbol: str, interval: Interval) -> contracts.Candle | None:
    """The newest closed candle, or None when none is stored."""
    row = _rows(symbol, interval).order_by("-open_time").first()
    return _to_contract(row) if row else None


def last_open_time(symbol: str, interval: Interval) -> datetime | None:
    """The open time of the newest closed candle."""
    return _rows(symbol, interval).order_by("-open_time").values_list("open_time", flat=True).first()


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


def received_at(symbol: str, interval: Interval) -> datetime | None:
    """When, by our clock, the newest closed candle was stored."""
    times = _rows(symbol, interval).order_by("-open_time").values_list("received_at", flat=True)
    return times.first()


def minutes_between(symbol: str, start: datetime, end: datetime) -> list[contracts.Candle]:
    """Stored 1m candles with `start` <= open time < `end`, oldest first."""
    rows = _rows(symbol, Interval.M1).filter(open_time__gte=start, open_time__lt=end)
    return [_to_contract(row) for row in rows.order_by("open_time")]


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
