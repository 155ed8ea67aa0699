"""The writer of latest quotes on a real Redis."""

import asyncio
from decimal import Decimal

import redis

from market.adapters.quote_cache import QuoteCache
from market.contracts import Quote
from tradingbot.core import clock

STEPS = 60  # more turns of the loop than one write takes


def test_a_cancellation_at_any_turn_of_a_write_ends_the_writer(redis_server: redis.Redis) -> None:
    quote = Quote(
        symbol="BTCUSDT",
        bid=Decimal(1),
        bid_quantity=Decimal(1),
        ask=Decimal(2),
        ask_quantity=Decimal(1),
        received_at=clock.now(),
    )

    async def write_often(cache: QuoteCache) -> None:
        for _ in range(5 * STEPS):
            await cache.put([quote])

    async def cancelled_after(turns: int) -> bool:
        cache = QuoteCache()
        writer = asyncio.create_task(write_often(cache))
        await cache.put([quote])
        for _ in range(turns):
            await asyncio.sleep(0)
        writer.cancel()
        await asyncio.wait([writer])
        await cache.close()
        return writer.cancelled()

    async def main() -> list[int]:
        return [turns for turns in range(STEPS) if not await cancelled_after(turns)]

    assert asyncio.run(main()) == []
