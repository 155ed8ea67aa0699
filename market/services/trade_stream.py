"""Aggregate trades from the socket into Postgres: in batches beside the candles, gaps fetched by REST."""

import asyncio
import contextlib
import logging
from datetime import datetime, timedelta

from django.conf import settings

from market.adapters.binance_rest import TRADES_MAX, MarketClient
from market.contracts import Fence, LastPrice, MalformedFrame, MarketError, TradeHole
from market.models import TradeHole as TradeHoleRow
from market.rules import JUMP_IDS_MAX, AggTrade, Order, Tape
from market.selectors import trades as stored
from market.services import trades
from market.services.database_thread import DatabaseThread
from market.services.together import until_first_ends
from tradingbot.core import clock
from tradingbot.core.clock import from_milliseconds
from tradingbot.core.decimals import parse_decimal
from tradingbot.core.environments import Environment

logger = logging.getLogger(__name__)
FLUSH_SECONDS = 0.25
BATCH_TRADES = 20_000  # so many are written at once, sooner than FLUSH_SECONDS
PENDING_MAX = 50_000  # more than this waits in the socket's queue, which is bounded as well
REPAIR_SECONDS = 1.0
HOLES_AT_ONCE = 20
PAGES_MAX = JUMP_IDS_MAX // TRADES_MAX + 1
REST_LAG_MAX = timedelta(seconds=30)


class TradeStream:
    """The trades of one connection's symbols. Knows nothing of candles, and never holds them up."""

    def __init__(self, database: DatabaseThread, fence: Fence, client: MarketClient) -> None:
        self._database = database
        self._fence = fence
        self._client = client
        self._symbols: tuple[str, ...] = ()
        self._tapes: dict[str, Tape] = {}
        self._unwritten: list[AggTrade] = []
        self._gaps: list[TradeHole] = []
        self._holes_open = True
        self._doubtful: set[str] = set()
        self._last: dict[str, tuple[AggTrade, datetime]] = {}
        self._room = asyncio.Event()
        self._batch = asyncio.Event()

    async def begin(self, symbols: tuple[str, ...]) -> None:
        """A fresh connection: go on from what is stored."""
        known = await self._database.run(stored.last_trades, symbols)
        self._symbols = symbols
        self._tapes = {symbol: Tape(*last) for symbol, last in known.items()}
        self._unwritten, self._gaps = [], []
        self._doubtful = set(symbols) - set(known)
        self._holes_open = True

    def take(self, trade: AggTrade, received_at: datetime) -> None:
        """Keep a trade for the next write; raises MalformedFrame for one that cannot be believed."""
        tape = self._tapes.get(trade.symbol)
        if tape is None:
            self._doubtful.add(trade.symbol)  # until REST has told where the tape stands
            return
        if not tape.advance(trade):
            order = tape.order_of(trade)
            if order is Order.REPEATED:
                return
            if order is Order.DOUBTFUL:
                self._doubtful.add(trade.symbol)
                raise MalformedFrame("a trade that does not follow the ones before it")
            self._gaps.append(TradeHole(trade.symbol, tape.last_id + 1, trade.aggregate_id - 1))
            tape.last_id, tape.last_ms = trade.aggregate_id, trade.traded_ms
        self._unwritten.append(trade)
        self._last[trade.symbol] = (trade, received_at)

    def last_prices(self) -> list[LastPrice]:
        """The newest price of each symbol that traded since the last call."""
        last, self._last = self._last, {}
        return [
            LastPrice(t.symbol, parse_decimal(t.price), from_milliseconds(t.traded_ms), received_at)
            for t, received_at in last.values()
        ]

    async def run(self) -> None:
        """Write and repair until cancelled."""
        await until_first_ends(self._write(), self._repair())

    async def make_room(self) -> None:
        """Wait until fewer than PENDING_MAX trades wait for their write."""
        if len(self._unwritten) >= BATCH_TRADES:
            self._batch.set()
        while len(self._unwritten) >= PENDING_MAX:
            self._room.clear()
            await self._room.wait()

    async def _write(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._batch.wait()
            self._batch.clear()
            if self._unwritten or self._gaps:
                batch, self._unwritten = self._unwritten, []
                gaps, self._gaps = self._gaps, []
                self._room.set()
                await self._database.run(
                    trades.record_trades, trades=batch, missing=gaps, now=clock.now(), fence=self._fence
                )
                self._holes_open = self._holes_open or bool(gaps)

    # --- gaps ---
    async def _repair(self) -> None:
        """Fetch what is missing; a request that fails is made again a second later."""
        while True:
            for symbol in sorted(self._doubtful):
                await self._find_the_end(symbol)
            if self._holes_open:
                self._holes_open = False
                holes = await self._database.run(stored.pending_trade_holes, self._symbols, HOLES_AT_ONCE)
                for hole in holes:
                    await self._fill(hole)
            await asyncio.sleep(REPAIR_SECONDS)

    async def _find_the_end(self, symbol: str) -> None:
        """Ask by REST which trade is the newest, when the socket's cannot be believed or none is known."""
        try:
            found = await asyncio.to_thread(self._client.fetch_trades, symbol, limit=1)
        except MarketError as error:
            logger.warning("end of the trades not found: %s", error, extra={"symbol": symbol})
            return
        self._doubtful.discard(symbol)
        if not found:
            return
        newest, tape = found[-1], self._tapes.get(symbol)
        if tape is None:
            self._unwritten.append(newest)
        elif newest.aggregate_id < tape.last_id - JUMP_IDS_MAX:
            if settings.TRADING_ENVIRONMENT is not Environment.SIMULATOR:
                logger.warning("trades end before the newest stored one", extra={"symbol": symbol})
                return
            await self.forget(symbol)
            self._unwritten.append(newest)
        elif newest.aggregate_id > tape.last_id:
            self._gaps.append(TradeHole(symbol, tape.last_id + 1, newest.aggregate_id))
        else:
            return
        self._tapes[symbol] = Tape(newest.aggregate_id, newest.traded_ms)

    async def forget(self, symbol: str) -> None:
        """A simulator's market was put back: its trades are not those that are stored."""
        self._tapes.pop(symbol, None)
        self._doubtful.add(symbol)
        self._unwritten = [t for t in self._unwritten if t.symbol != symbol]
        self._gaps = [g for g in self._gaps if g.symbol != symbol]
        dropped = await self._database.run(trades.drop_trades, symbol=symbol, fence=self._fence)
        logger.warning("market went back: trades dropped", extra={"symbol": symbol, "trades": dropped})

    async def _fill(self, hole: TradeHoleRow) -> None:
        found: list[AggTrade] = []
        start = hole.first_id
        try:
            for _ in range(PAGES_MAX):
                page = await asyncio.to_thread(self._client.fetch_trades, hole.symbol, from_id=start)
                found += page
                start = page[-1].aggregate_id + 1 if page else start
                if len(page) < TRADES_MAX or start > hole.last_id:
                    break
        except MarketError as error:
            logger.warning("hole in the trades not filled: %s", error, extra={"symbol": hole.symbol})
            self._holes_open = True
            return
        if start <= hole.last_id and clock.now() - hole.found_at < REST_LAG_MAX:
            self._holes_open = True  # REST does not know of them yet
            return
        await self._database.run(
            trades.fill_trade_hole, hole_id=hole.pk, trades=found, now=clock.now(), fence=self._fence
        )
        logger.info("hole in the trades closed", extra={"symbol": hole.symbol, "from_id": hole.first_id})
