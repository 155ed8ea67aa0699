"""The latest best bid and ask: Redis first, Postgres when Redis has none or does not answer."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import cast

import redis
from django.conf import settings

from market import contracts, models
from tradingbot.core.decimals import plain

REDIS_TIMEOUT_SECONDS = 0.25
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = ("bid", "ask", "bid_quantity", "ask_quantity", "received_us")


def latest_quote(symbol: str) -> contracts.Quote | None:
    """The last quote we received of `symbol`, or None; its age is for the caller to judge."""
    try:
        values = cast("list[str | None]", _redis().hmget(quote_key(symbol), _FIELDS))
    except redis.RedisError:
        values = []
    if values and None not in values:
        return _from_cache(symbol, cast("list[str]", values))
    return _from_database(symbol)


def latest_quotes(symbols: Collection[str]) -> dict[str, contracts.Quote]:
    """The last quotes of those of `symbols` that have one, by one question to Redis."""
    asked = list(symbols)
    try:
        pipeline = _redis().pipeline(transaction=False)
        for symbol in asked:
            pipeline.hmget(quote_key(symbol), _FIELDS)
        answers = pipeline.execute()
    except redis.RedisError:
        answers = [[] for _ in asked]
    found: dict[str, contracts.Quote] = {}
    for symbol, values in zip(asked, answers, strict=True):
        quote = _from_cache(symbol, values) if values and None not in values else _from_database(symbol)
        if quote is not None:
            found[symbol] = quote
    return found


def quote_key(symbol: str) -> str:
    """The Redis hash that holds the latest quote of `symbol` in this environment."""
    return f"{settings.CACHE_PREFIX}:quote:{symbol}"


def to_cache(quote: contracts.Quote) -> dict[str, str]:
    """The quote as the fields of its Redis hash."""
    return {
        "bid": plain(quote.bid),
        "ask": plain(quote.ask),
        "bid_quantity": plain(quote.bid_quantity),
        "ask_quantity": plain(quote.ask_quantity),
        "received_us": str((quote.received_at - _EPOCH) // timedelta(microseconds=1)),
    }


def _from_cache(symbol: str, values: list[str]) -> contracts.Quote:
    *numbers, received_us = values
    bid, ask, bid_quantity, ask_quantity = (Decimal(text) for text in numbers)
    received_at = _EPOCH + timedelta(microseconds=int(received_us))
    return contracts.Quote(symbol, bid, ask, bid_quantity, ask_quantity, received_at)


def _from_database(symbol: str) -> contracts.Quote | None:
    row = models.Quote.objects.filter(environment=settings.TRADING_ENVIRONMENT, symbol=symbol).first()
    if row is None:
        return None
    return contracts.Quote(symbol, row.bid, row.ask, row.bid_quantity, row.ask_quantity, row.received_at)


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
