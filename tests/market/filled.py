"""A store with everything that the market pages show."""

from datetime import datetime, timedelta

from django.conf import settings

from market import models, services
from market.contracts import Candle, Hole
from tests.market.builders import MINUTE, walk
from tests.web import seeding

SYMBOL = "BTCUSDT"


def fill_the_store(now: datetime) -> list[Candle]:
    """Six hours of minutes with a hole, two connections, a failed attempt, fresh feeds."""
    start = now.replace(second=0, microsecond=0) - 360 * MINUTE
    minutes = walk(360, start=start)
    hole = Hole(SYMBOL, minutes[330].open_time, minutes[336].open_time)
    for candle in [*minutes[:330], *minutes[336:]]:
        if candle.open_time >= minutes[320].open_time:
            services.upsert_candles(candles=[candle], now=candle.close_time)
    services.upsert_candles(candles=minutes[:320], missing=[hole], now=start + 320 * MINUTE)
    environment = settings.TRADING_ENVIRONMENT
    for number in range(3):
        at = now - timedelta(minutes=30 - 10 * number)
        models.FeedSession.objects.create(
            environment=environment, stream="market", connected_at=at, resynced_at=at + timedelta(seconds=1),
            ended_at=None if number == 2 else at + timedelta(minutes=9, seconds=50),
            end_reason="" if number == 2 else "half-open: no frame for 12 s", message_count=4210, backfilled_candles=3,
        )  # fmt: skip
    models.FeedAttempt.objects.create(
        environment=environment, stream="account", at=now - MINUTE, reason="could not connect (TimeoutError)"
    )
    seeding.feeds(now)
    return minutes
