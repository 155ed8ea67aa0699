"""Old market data is dropped. What a decision was made on, account events and holes are kept for ever."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Max

from market.contracts import Interval
from market.models import Candle, FeedAttempt, FeedSession, TradeHole
from market.selectors.trades import last_trades
from market.services import partitions
from tradingbot.core import clock

# By market time, counted back from the newest candle: a simulator's market time is not wall time.
KEPT: dict[Interval, timedelta] = {
    Interval.M1: timedelta(days=180),
    Interval.M5: timedelta(days=365),
    Interval.M15: timedelta(days=365),
}
CONNECTIONS_KEPT = timedelta(days=90)
ROWS_PER_DELETE = 20_000
_DELETE = """
DELETE FROM market_candle WHERE ctid IN (
    SELECT ctid FROM market_candle
    WHERE environment = %s AND symbol = %s AND "interval" = %s AND open_time < %s LIMIT %s)
"""


def drop_old(*, now: datetime) -> int:
    """Delete what is older than it is kept, in bites that lock nothing for long; how many candles."""
    environment = settings.TRADING_ENVIRONMENT
    dropped = 0
    rows = Candle.objects.filter(environment=environment, interval__in=KEPT)
    for symbol, interval, newest in rows.values_list("symbol", "interval").annotate(newest=Max("open_time")):
        before = newest - KEPT[Interval(interval)]
        dropped += _drop_candles(environment.value, symbol, interval, before)
    for model, at in ((FeedSession, "connected_at"), (FeedAttempt, "at")):
        model.objects.filter(environment=environment, **{f"{at}__lt": now - CONNECTIONS_KEPT}).delete()
    _turn_trades(now)
    return dropped


def _turn_trades(now: datetime) -> None:
    """Make the parts of the next days, and drop those of days that are kept no longer: whole tables, at once.

    By market time as well, counted back from the newest trade that is stored.
    """
    newest = max((ms for _, ms in last_trades(settings.SYMBOLS).values()), default=clock.to_milliseconds(now))
    today = clock.from_milliseconds(newest).date()
    partitions.ensure_parts(today + partitions.DAY * ahead for ahead in range(partitions.DAYS_AHEAD + 1))
    partitions.drop_parts_before(today - partitions.DAY * settings.TRADES_KEPT_DAYS)
    TradeHole.objects.filter(
        environment=settings.TRADING_ENVIRONMENT, found_at__lt=now - CONNECTIONS_KEPT
    ).delete()


def _drop_candles(environment: str, symbol: str, interval: str, before: datetime) -> int:
    total = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_DELETE, [environment, symbol, interval, before, ROWS_PER_DELETE])
            total += cursor.rowcount
            if cursor.rowcount < ROWS_PER_DELETE:
                return total
