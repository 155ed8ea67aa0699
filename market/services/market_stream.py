"""The market stream of a shard: one connection for the candles, trades and quotes of its symbols."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from django.conf import settings

from market import rules
from market.adapters.binance_rest import MarketClient
from market.adapters.stream_client import SocketEnded, StreamSocket
from market.contracts import Fence, MalformedFrame, MarketError, Shard, UnknownInstrument
from market.rules import AggTrade, BookTicker, ControlReply, Kline, ServerShutdown
from market.services import instruments
from market.services.candle_stream import CandleStream
from market.services.database_thread import DatabaseThread
from market.services.quote_stream import QuoteStream
from market.services.stream_loop import StreamLoop
from market.services.together import until_first_ends
from market.services.trade_stream import TradeStream
from tradingbot.core import clock

logger = logging.getLogger(__name__)
SUBSCRIBE_BATCH = 200
SUBSCRIBE_PAUSE_SECONDS = 0.25  # the exchange drops a client that sends more than 5 messages a second
LIST_AFTER_SECONDS = 2.0
LIST_EVERY_SECONDS = 15.0
KLINE_SILENCE_SECONDS = 10.0
INSTRUMENTS_SECONDS = 60.0
DATA_SILENCE_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 1.0
OF_A_SYMBOL = (AggTrade, BookTicker, Kline)


class MarketStream(StreamLoop):
    """1m klines, book tickers and aggregate trades of a shard on one connection."""

    def __init__(
        self,
        shard: Shard,
        database: DatabaseThread,
        trades_database: DatabaseThread,
        fence: Fence,
        *,
        holds_lease: Callable[[], bool],
    ) -> None:
        super().__init__(shard.name, database, fence)
        self._shard = shard
        self._client = MarketClient()
        self._candles = CandleStream(database, fence, self.feed, self._client)
        self._trades = TradeStream(trades_database, fence, self._client)
        self._quotes = QuoteStream(
            database,
            fence,
            self.feed,
            self._client,
            holds_lease=holds_lease,
            last_prices=self._trades.last_prices,
        )
        self._symbols: tuple[str, ...] = ()
        self._asked: frozenset[str] = frozenset()
        self._names: list[str] = []
        self._data_at = 0.0
        self._kline_at: dict[str, float] = {}

    async def prepare(self) -> str:
        listed = await asyncio.to_thread(self._client.fetch_instruments, self._shard.symbols)
        now = clock.now()
        await self.database.run(instruments.upsert_instruments, listed=listed, now=now, fence=self.fence)
        self._symbols = await self.database.run(
            instruments.report_unlisted, symbols=self._shard.symbols, listed=listed, now=now
        )
        if not self._symbols:
            raise UnknownInstrument(f"none of {', '.join(self._shard.symbols)} is listed")
        self._asked = frozenset(self._symbols)
        self._names = rules.stream_names(self._symbols)
        return f"{settings.EXCHANGE.stream_url}/stream"

    async def subscribe(self, socket: StreamSocket) -> None:
        for number, first in enumerate(range(0, len(self._names), SUBSCRIBE_BATCH), start=1):
            if number > 1:
                await asyncio.sleep(SUBSCRIBE_PAUSE_SECONDS)
            batch = self._names[first : first + SUBSCRIBE_BATCH]
            socket.send({"method": "SUBSCRIBE", "params": batch, "id": number})

    async def serve(self) -> None:
        self._candles.begin(self._symbols)
        self._quotes.begin(self._symbols)
        await self._trades.begin(self._symbols)
        for symbol in self._symbols:  # what the socket brings meanwhile waits in its queue
            if await self._candles.catch_up(symbol):
                await self._trades.forget(symbol)
        await self.feed.caught_up()
        self._data_at = clock.monotonic_seconds()
        self._kline_at = dict.fromkeys(self._symbols, self._data_at)
        await until_first_ends(
            self._apply_frames(),
            self._candles.run(),
            self._keep_alive(),
            self._watch_klines(),
            self._watch_instruments(),
            self._quotes.run(),
            self._trades.run(),
        )

    async def close(self) -> None:
        await super().close()
        await self._quotes.close()

    # --- what comes ---
    async def _apply_frames(self) -> None:
        """Reads on while candles and trades are written; waits only when too much of them waits."""
        while True:
            frames = await self.receive()
            now = clock.now()
            self.feed.received(len(frames), now)
            end = self._sort(frames, now)
            if end is not None:
                raise end
            await self._candles.make_room()
            await self._trades.make_room()

    def _sort(self, frames: list[bytes], now: datetime) -> SocketEnded | None:
        """Hands each message to what it is about; the end, when one of them announces it."""
        end: SocketEnded | None = None
        received = clock.monotonic_seconds()
        parse, asked = rules.parse_stream_frame, self._asked
        take_trade, take_ticker = self._trades.take, self._quotes.take
        for frame in frames:
            try:
                message = parse(frame)
                if isinstance(message, OF_A_SYMBOL):
                    if message.symbol not in asked:
                        raise MalformedFrame("a symbol that was not asked for")
                    self._data_at = received
                if isinstance(message, AggTrade):
                    take_trade(message, now)
                elif isinstance(message, BookTicker):
                    take_ticker(message, now)
                elif isinstance(message, Kline):
                    self._kline_at[message.symbol] = received
                    if message.candle is not None:
                        self._candles.take(message.candle)
                else:
                    end = self._judge(message) or end
            except MalformedFrame as error:
                self.feed.rejected(frame, error)
        return end

    def _judge(self, message: ControlReply | ServerShutdown) -> SocketEnded | None:
        if isinstance(message, ServerShutdown):
            self.socket.retire("the exchange announced its shutdown")
            return None
        if message.error:
            return SocketEnded(f"a subscription was refused: {message.error}")
        if message.names is not None and not set(self._names) <= set(message.names):
            return SocketEnded("the exchange has lost some of our subscriptions")
        return None

    # --- what does not come ---
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
            newer = await self._candles.exchange_has_newer(symbol)
        except MarketError as error:
            logger.warning("silence not judged: %s", error, extra={"symbol": symbol})
            return
        if newer:
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
