"""Writer of the latest quotes and prices to Redis: short time-outs, failures counted and otherwise ignored."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from market.contracts import LastPrice, Quote
from market.selectors import last_prices, quotes
from tradingbot.core.clock import monotonic_seconds

logger = logging.getLogger(__name__)
TIMEOUT_SECONDS = 0.25
PAUSE_AFTER_FAILURE_SECONDS = 1.0


class QuoteCache:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._redis: Redis = Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            max_connections=2,
        )
        self._paused_until = 0.0
        self.failures = 0

    async def put(self, changed: Sequence[Quote], prices: Sequence[LastPrice] = ()) -> bool:
        """Write them in one round trip; False when that failed or writing pauses after a failure."""
        if monotonic_seconds() < self._paused_until:
            return False
        pipeline = self._redis.pipeline(transaction=False)
        for quote in changed:
            fields: dict[Any, Any] = {**quotes.to_cache(quote)}  # redis-py types keys invariantly
            pipeline.hset(quotes.quote_key(quote.symbol), mapping=fields)
        if prices:
            pipeline.mset({last_prices.price_key(p.symbol): last_prices.to_cache(p) for p in prices})
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            self.failures += 1
            self._paused_until = monotonic_seconds() + PAUSE_AFTER_FAILURE_SECONDS
            logger.warning(
                "quotes not cached", extra={"error": type(error).__name__, "failures": self.failures}
            )
            return False
        finally:
            _heed_cancellation()
        return True

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()


def _heed_cancellation() -> None:
    """Raise the cancellation that Python 3.11's `wait_for`, which redis-py writes with, may have swallowed.

    It returns its result instead when both come in the same turn of the loop (python/cpython#86296), and the
    task that was to end would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
