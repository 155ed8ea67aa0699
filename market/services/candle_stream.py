"""Candles from the socket into Postgres: in order, each hole backfilled by REST before what follows it."""

import asyncio
import logging
from datetime import datetime, timedelta

from django.conf import settings

from market import rules, selectors
from market.adapters.binance_rest import MarketClient
from market.contracts import (
    DERIVED_INTERVALS,
    WINDOW_CANDLES,
    Candle,
    Fence,
    Hole,
    Interval,
    MalformedFrame,
)
from market.selectors import candles as stored
from market.services import backfill, candles
from market.services.database_thread import DatabaseThread
from market.services.feed import Feed
from tradingbot.core import clock
from tradingbot.core.environments import Environment

logger = logging.getLogger(__name__)
SILENCE_CANDLES = 3  # the open one, the newest closed one, and one more
PENDING_MAX = 2_000  # more than this waits in the socket's queue, which is bounded as well
HOLE_ATTEMPTS = 3
HOLE_PAUSE_SECONDS = 0.3


class CandleStream:
    """The 1m candles of one connection's symbols."""

    def __init__(self, database: DatabaseThread, fence: Fence, feed: Feed, client: MarketClient) -> None:
        self._database = database
        self._fence = fence
        self._feed = feed
        self._client = client
        self._expected: dict[str, datetime | None] = {}  # open time of the next closed candle
        self._closed: list[Candle] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    def begin(self, symbols: tuple[str, ...]) -> None:
        """A fresh connection: nothing is known of what comes next."""
        self._expected = dict.fromkeys(symbols)
        self._closed = []

    def take(self, candle: Candle) -> None:
        """A closed candle, to be released in its turn."""
        self._closed.append(candle)
        self._arrived.set()

    async def make_room(self) -> None:
        """Wait until fewer than PENDING_MAX candles wait for their release."""
        while len(self._closed) >= PENDING_MAX:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Release what is taken, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            closed, self._closed = self._closed, []
            self._room.set()
            await self._release(closed)

    async def catch_up(self, symbol: str) -> bool:
        """Fetch what was missed; whether the market's time went back, so that what is later was dropped."""
        last = await self._database.run(selectors.last_closed, symbol, Interval.M1)
        missing = await asyncio.to_thread(backfill.fetch_missing, self._client, symbol, last)
        went_back = missing.went_back(last)
        if went_back:
            await self._market_time_went_back(symbol, missing)
        await self._database.run(
            candles.upsert_candles,
            candles=missing.candles,
            missing=missing.holes,
            now=clock.now(),
            fence=self._fence,
        )
        await self._catch_up_longer(symbol)
        self._feed.backfilled(sum(1 for c in missing.candles if last is None or c.open_time > last.open_time))
        if missing.candles:
            self._expect_after(missing.candles[-1])
        return went_back

    async def _catch_up_longer(self, symbol: str) -> None:
        for interval in DERIVED_INTERVALS:
            have = await self._database.run(stored.open_times, symbol, interval, WINDOW_CANDLES)
            longer = await asyncio.to_thread(backfill.fetch_longer, self._client, symbol, interval, have)
            if longer:
                await self._database.run(
                    candles.upsert_candles, candles=longer, now=clock.now(), fence=self._fence
                )

    async def _market_time_went_back(self, symbol: str, missing: backfill.Backfill) -> None:
        """A simulator started on another recording; anywhere else the reply is not to be believed."""
        if settings.TRADING_ENVIRONMENT is not Environment.SIMULATOR:
            raise MalformedFrame(f"the klines of {symbol} end before the last one that is stored")
        newest = missing.newest_open_time or datetime.fromtimestamp(0, clock.now().tzinfo)
        dropped = await self._database.run(
            candles.drop_candles_after,
            symbol=symbol,
            instant=newest - timedelta(milliseconds=1),
            fence=self._fence,
        )
        logger.warning(
            "market time went back: later candles dropped", extra={"symbol": symbol, "candles": dropped}
        )

    def _expect_after(self, candle: Candle) -> None:
        self._expected[candle.symbol] = candle.open_time + rules.length(candle.interval)

    async def _release(self, closed: list[Candle]) -> None:
        """Store closed candles in order; one that does not follow the last is preceded by its backfill."""
        ready: list[Candle] = []
        missing: list[Hole] = []
        for candle in closed:
            expected = self._expected[candle.symbol]
            if expected is not None and candle.open_time < expected:
                continue  # a repetition, or part of the backfill
            if candle.open_time != expected:
                found = await self._fill(candle, expected)
                if found is None:
                    continue
                ready += found.candles
                missing += found.holes
            ready.append(candle)
            self._expect_after(candle)
        if ready:
            await self._database.run(
                candles.upsert_candles,
                candles=ready,
                missing=missing,
                now=clock.now(),
                fence=self._fence,
                live=True,
            )

    async def _fill(self, candle: Candle, expected: datetime | None) -> backfill.Backfill | None:
        """What is missing before `candle`; None when REST does not know of it (a date in the future)."""
        for attempt in range(HOLE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(HOLE_PAUSE_SECONDS)
            found = await asyncio.to_thread(
                backfill.fetch_hole, self._client, candle.symbol, start=expected, until=candle.open_time
            )
            if found.newest_open_time is not None and found.newest_open_time >= candle.open_time:
                self._feed.backfilled(len(found.candles))
                logger.warning("hole filled", extra={"symbol": candle.symbol, "candles": len(found.candles)})
                return found
        self._feed.rejected(
            repr(candle).encode(), MalformedFrame("a closed candle that the exchange's klines do not have")
        )
        return None

    async def exchange_has_newer(self, symbol: str) -> bool:
        """Whether REST knows a closed candle that we still wait for; raises MarketError."""
        rows = await asyncio.to_thread(
            self._client.fetch_candle_rows, symbol, Interval.M1, limit=SILENCE_CANDLES
        )
        expected = self._expected[symbol]
        return any(c.closed and (expected is None or c.open_time >= expected) for c in rows)
