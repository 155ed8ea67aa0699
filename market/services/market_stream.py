"""The market stream: candles and quotes of all symbols from the socket into Postgres and Redis."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings

from market import rules, selectors
from market.adapters.binance_rest import MarketClient
from market.adapters.quote_cache import QuoteCache
from market.adapters.stream_client import SocketEnded, StreamSocket
from market.contracts import (
    DERIVED_INTERVALS,
    WINDOW_CANDLES,
    Candle,
    Fence,
    Hole,
    Interval,
    MalformedFrame,
    MarketError,
    Quote,
    Stream,
    UnknownInstrument,
)
from market.rules import BookTicker, ControlReply, Kline
from market.selectors import candles as stored
from market.services import backfill, candles, instruments, quotes
from market.services.database_thread import DatabaseThread
from market.services.stream_loop import StreamLoop
from market.services.together import until_first_ends
from tradingbot.core import clock
from tradingbot.core.environments import Environment

logger = logging.getLogger(__name__)
_OF_A_SYMBOL = (BookTicker, Kline)  # a tuple: `A | B` would be built anew for every message
SUBSCRIBE_BATCH = 200
SYMBOLS_MAX = 512  # two streams each, and a connection carries 1,024 (binance.md §6)
LIST_AFTER_SECONDS = 2.0
LIST_EVERY_SECONDS = 15.0
KLINE_SILENCE_SECONDS = 10.0
SILENCE_CANDLES = 3  # the open one, the newest closed one, and one more
INSTRUMENTS_SECONDS = 60.0
DATA_SILENCE_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 1.0
SUBSCRIBE_PAUSE_SECONDS = 0.25  # the exchange drops a client that sends more than 5 messages a second
QUOTE_FLUSH_SECONDS = 0.1
QUOTE_STORE_SECONDS = 1.0
QUOTE_QUIET_SECONDS = 2.0
QUOTE_CONFIRM_SECONDS = 1.0
HOLE_ATTEMPTS = 3
HOLE_PAUSE_SECONDS = 0.3


class MarketStream(StreamLoop):
    """1m klines and book tickers of settings.SYMBOLS on one connection."""

    def __init__(self, database: DatabaseThread, fence: Fence, *, holds_lease: Callable[[], bool]) -> None:
        super().__init__(Stream.MARKET, database, fence)
        self._holds_lease = holds_lease
        self._client = MarketClient()
        self._cache = QuoteCache()
        self._symbols: tuple[str, ...] = ()
        self._names: list[str] = []
        self._data_at = 0.0
        self._kline_at: dict[str, float] = {}
        self._expected: dict[str, datetime | None] = {}  # open time of the next closed candle
        self._tickers: dict[str, tuple[BookTicker, datetime]] = {}
        self._quoted_at: dict[str, datetime] = {}
        self._uncached: dict[str, Quote] = {}
        self._unstored: dict[str, Quote] = {}

    async def prepare(self) -> str:
        listed = await asyncio.to_thread(self._client.fetch_instruments, settings.SYMBOLS)
        now = clock.now()
        await self.database.run(instruments.upsert_instruments, listed=listed, now=now, fence=self.fence)
        self._symbols = await self.database.run(instruments.report_unlisted, listed=listed, now=now)
        if not self._symbols:
            raise UnknownInstrument(f"none of {', '.join(settings.SYMBOLS)} is listed")
        if len(self._symbols) > SYMBOLS_MAX:
            raise MarketError(f"{len(self._symbols)} symbols, and one connection carries {SYMBOLS_MAX}")
        self._names = [f"{s.lower()}@{kind}" for s in self._symbols for kind in ("kline_1m", "bookTicker")]
        return f"{settings.EXCHANGE.stream_url}/stream"

    async def serve(self) -> None:
        self._expected = dict.fromkeys(self._symbols)
        self._quoted_at = {}
        for symbol in self._symbols:  # what the socket brings meanwhile waits in its queue
            await self._catch_up(symbol)
        await self.feed.caught_up()
        self._data_at = clock.monotonic_seconds()
        self._kline_at = dict.fromkeys(self._symbols, self._data_at)
        await until_first_ends(
            self._apply_frames(),
            self._keep_alive(),
            self._write_quotes(),
            self._confirm_quotes(),
            self._watch_klines(),
            self._watch_instruments(),
        )

    async def subscribe(self, socket: StreamSocket) -> None:
        for number, first in enumerate(range(0, len(self._names), SUBSCRIBE_BATCH), start=1):
            if number > 1:
                await asyncio.sleep(SUBSCRIBE_PAUSE_SECONDS)
            batch = self._names[first : first + SUBSCRIBE_BATCH]
            socket.send({"method": "SUBSCRIBE", "params": batch, "id": number})

    async def _keep_alive(self) -> None:
        """Ask for our subscriptions, soon when all is quiet: the answer shows that the connection and they live."""
        number = len(self._names)
        asked_at = clock.monotonic_seconds()
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            silence = clock.monotonic_seconds() - self._data_at
            if silence > DATA_SILENCE_SECONDS:
                raise SocketEnded(f"no market data for {DATA_SILENCE_SECONDS:.0f} s")
            if silence > LIST_AFTER_SECONDS or clock.monotonic_seconds() - asked_at > LIST_EVERY_SECONDS:
                number += 1
                asked_at = clock.monotonic_seconds()
                self.socket.send({"method": "LIST_SUBSCRIPTIONS", "id": number})

    async def _watch_klines(self) -> None:
        """One silent stream among live ones: a quiet symbol, unless the exchange has newer candles by REST."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            now = clock.monotonic_seconds()
            for symbol, at in self._kline_at.items():
                if now - at > KLINE_SILENCE_SECONDS:
                    self._kline_at[symbol] = now
                    await self._judge_silence(symbol)

    async def _judge_silence(self, symbol: str) -> None:
        try:
            rows = await asyncio.to_thread(
                self._client.fetch_candle_rows, symbol, Interval.M1, limit=SILENCE_CANDLES
            )
        except MarketError as error:
            logger.warning("silence not judged: %s", error, extra={"symbol": symbol})
            return
        expected = self._expected[symbol]
        if any(c.closed and (expected is None or c.open_time >= expected) for c in rows):
            raise SocketEnded(f"{symbol.lower()}@kline_1m is silent and the exchange has newer candles")

    async def _watch_instruments(self) -> None:
        """A halt or a new filter is known within a minute: no message of any stream tells of it."""
        while True:
            await asyncio.sleep(INSTRUMENTS_SECONDS)
            try:
                listed = await asyncio.to_thread(self._client.fetch_instruments, self._symbols)
            except MarketError as error:
                logger.warning("instruments not read: %s", error)
                continue
            await self.database.run(
                instruments.upsert_instruments, listed=listed, now=clock.now(), fence=self.fence
            )

    # --- candles ---
    async def _catch_up(self, symbol: str) -> None:
        last = await self.database.run(selectors.last_closed, symbol, Interval.M1)
        missing = await asyncio.to_thread(backfill.fetch_missing, self._client, symbol, last)
        if missing.went_back(last):
            await self._market_time_went_back(symbol, missing)
        await self.database.run(
            candles.upsert_candles,
            candles=missing.candles,
            missing=missing.holes,
            now=clock.now(),
            fence=self.fence,
        )
        await self._catch_up_longer(symbol)
        self.feed.backfilled(sum(1 for c in missing.candles if last is None or c.open_time > last.open_time))
        if missing.candles:
            self._expect_after(missing.candles[-1])

    async def _catch_up_longer(self, symbol: str) -> None:
        for interval in DERIVED_INTERVALS:
            have = await self.database.run(stored.open_times, symbol, interval, WINDOW_CANDLES)
            longer = await asyncio.to_thread(backfill.fetch_longer, self._client, symbol, interval, have)
            if longer:
                await self.database.run(
                    candles.upsert_candles, candles=longer, now=clock.now(), fence=self.fence
                )

    async def _market_time_went_back(self, symbol: str, missing: backfill.Backfill) -> None:
        """A simulator started on another recording; anywhere else the reply is not to be believed."""
        if settings.TRADING_ENVIRONMENT is not Environment.SIMULATOR:
            raise MalformedFrame(f"the klines of {symbol} end before the last one that is stored")
        newest = missing.newest_open_time or datetime.fromtimestamp(0, clock.now().tzinfo)
        dropped = await self.database.run(
            candles.drop_candles_after,
            symbol=symbol,
            instant=newest - timedelta(milliseconds=1),
            fence=self.fence,
        )
        logger.warning(
            "market time went back: later candles dropped", extra={"symbol": symbol, "candles": dropped}
        )

    def _expect_after(self, candle: Candle) -> None:
        self._expected[candle.symbol] = candle.open_time + rules.length(candle.interval)

    async def _apply_frames(self) -> None:
        while True:
            frames = await self.receive()
            now = clock.now()
            self.feed.received(len(frames), now)
            closed, end = self._sort(frames, now)
            await self._release(closed)
            if end is not None:
                raise end

    def _sort(self, frames: list[bytes], now: datetime) -> tuple[list[Candle], SocketEnded | None]:
        """Keeps the newest ticker of each symbol, collects closed candles, and notes an announced end."""
        closed: list[Candle] = []
        end: SocketEnded | None = None
        received = clock.monotonic_seconds()
        for frame in frames:
            try:
                message = rules.parse_stream_frame(frame)
                if isinstance(message, _OF_A_SYMBOL) and message.symbol not in self._expected:
                    raise MalformedFrame("a symbol that was not asked for")
            except MalformedFrame as error:
                self.feed.rejected(frame, error)
                continue
            if isinstance(message, BookTicker):
                self._data_at = received
                self._tickers[message.symbol] = (message, now)
            elif isinstance(message, Kline):
                self._data_at = self._kline_at[message.symbol] = received
                if message.candle is not None:
                    closed.append(message.candle)
            elif isinstance(message, ControlReply):
                end = self._judge(message) or end
            else:
                self.socket.retire("the exchange announced its shutdown")
        return closed, end

    def _judge(self, reply: ControlReply) -> SocketEnded | None:
        if reply.error:
            return SocketEnded(f"a subscription was refused: {reply.error}")
        if reply.names is not None and not set(self._names) <= set(reply.names):
            return SocketEnded("the exchange has lost some of our subscriptions")
        return None

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
            await self.database.run(
                candles.upsert_candles,
                candles=ready,
                missing=missing,
                now=clock.now(),
                fence=self.fence,
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
                self.feed.backfilled(len(found.candles))
                logger.warning("hole filled", extra={"symbol": candle.symbol, "candles": len(found.candles)})
                return found
        self.feed.rejected(
            repr(candle).encode(), MalformedFrame("a closed candle that the exchange's klines do not have")
        )
        return None

    # --- quotes ---
    async def _write_quotes(self) -> None:
        stored_at = clock.monotonic_seconds()
        while True:
            await asyncio.sleep(QUOTE_FLUSH_SECONDS)
            self._parse_tickers()
            await self._write_cache()
            if self._unstored and clock.monotonic_seconds() - stored_at >= QUOTE_STORE_SECONDS:
                stored_at = clock.monotonic_seconds()
                newest, self._unstored = list(self._unstored.values()), {}
                await self.database.run(quotes.record_quotes, quotes=newest, fence=self.fence)

    async def _write_cache(self) -> None:
        """Redis knows no fence: a process that slept must not pass old frames off as the latest price."""
        if self._uncached and self._holds_lease() and await self._cache.put(list(self._uncached.values())):
            self._uncached.clear()

    async def _confirm_quotes(self) -> None:
        """Ask by REST for quotes that were quiet: the stream sends changes only, and silence proves nothing."""
        while True:
            await asyncio.sleep(QUOTE_CONFIRM_SECONDS)
            quiet_since = clock.now() - timedelta(seconds=QUOTE_QUIET_SECONDS)
            quiet = [s for s in self._symbols if s not in self._quoted_at or self._quoted_at[s] < quiet_since]
            if quiet:
                await self._ask_quotes(quiet)

    async def _ask_quotes(self, symbols: list[str]) -> None:
        try:
            found = await asyncio.to_thread(self._client.fetch_quotes, symbols)
        except MarketError as error:
            logger.warning("quiet quotes not confirmed: %s", error)
            return
        for quote in found:
            if quote.symbol in symbols:
                self._take_quote(quote)

    def _take_quote(self, quote: Quote) -> None:
        """The newest by receive time counts: the stream may have brought a later one meanwhile."""
        seen = self._quoted_at.get(quote.symbol)
        if seen is None or seen <= quote.received_at:
            self._quoted_at[quote.symbol] = quote.received_at
            self._uncached[quote.symbol] = self._unstored[quote.symbol] = quote

    def _parse_tickers(self) -> None:
        tickers, self._tickers = self._tickers, {}
        for ticker, received_at in tickers.values():
            try:
                quote = rules.quote_from_ticker(ticker, received_at=received_at)
            except MalformedFrame as error:
                self.feed.rejected(repr(ticker).encode(), error)
                continue
            self._take_quote(quote)

    async def close(self) -> None:
        """Give back what is not the database's."""
        await self._cache.close()
