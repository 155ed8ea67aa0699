"""The price of the newest trade: Redis first, the stored trades when Redis has none or does not answer."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import cast

import redis
from django.conf import settings

from market.contracts import LastPrice
from market.selectors.trades import recent_trades
from tradingbot.core.decimals import plain

REDIS_TIMEOUT_SECONDS = 0.25
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def last_price(symbol: str) -> LastPrice | None:
    """The newest trade's price, or None; its age is for the caller to judge.

    From the stored trades it counts as received when it was traded, since they do not say.
    """
    try:
        text = cast("str | None", _redis().get(price_key(symbol)))
    except redis.RedisError:
        text = None
    if text is not None:
        price, traded_us, received_us = text.split()
        return LastPrice(symbol, Decimal(price), _instant(traded_us), _instant(received_us))
    for trade in recent_trades(symbol, 1):
        return LastPrice(symbol, trade.price, trade.traded_at, trade.traded_at)
    return None


def price_key(symbol: str) -> str:
    """The Redis key of the last price of `symbol` in this environment."""
    return f"{settings.CACHE_PREFIX}:price:{symbol}"


def to_cache(price: LastPrice) -> str:
    """The price and its two times in microseconds, as Redis keeps them."""
    times = (str((at - _EPOCH) // _MICROSECOND) for at in (price.traded_at, price.received_at))
    return " ".join((plain(price.price), *times))


def _instant(microseconds: str) -> datetime:
    return _EPOCH + int(microseconds) * _MICROSECOND


@cache
def _redis() -> redis.Redis:
    """One pool a process, made at first use (after any fork)."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        max_connections=20,
    )
