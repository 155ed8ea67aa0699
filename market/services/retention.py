"""Old market data is dropped. What a decision was made on, account events and holes are kept for ever."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Max

from market.contracts import Interval
from market.models import Candle, FeedAttempt, FeedSession

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
    return dropped


def _drop_candles(environment: str, symbol: str, interval: str, before: datetime) -> int:
    total = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_DELETE, [environment, symbol, interval, before, ROWS_PER_DELETE])
            total += cursor.rowcount
            if cursor.rowcount < ROWS_PER_DELETE:
                return total
