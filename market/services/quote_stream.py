"""Quotes and last prices from the socket: the newest of each symbol to Redis and, once a second, to Postgres."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from market import rules
from market.adapters.binance_rest import MarketClient
from market.adapters.quote_cache import QuoteCache
from market.contracts import Fence, LastPrice, MalformedFrame, MarketError, Quote
from market.rules import BookTicker
from market.services import quotes
from market.services.database_thread import DatabaseThread
from market.services.feed import Feed
from market.services.together import until_first_ends
from tradingbot.core import clock

logger = logging.getLogger(__name__)
QUOTE_FLUSH_SECONDS = 0.1
QUOTE_STORE_SECONDS = 1.0
QUOTE_QUIET_SECONDS = 2.0
QUOTE_CONFIRM_SECONDS = 1.0


class QuoteStream:
    """The quotes of one connection's symbols. A ticker is kept as text until it is written."""

    def __init__(
        self,
        database: DatabaseThread,
        fence: Fence,
        feed: Feed,
        client: MarketClient,
        *,
        holds_lease: Callable[[], bool],
        last_prices: Callable[[], list[LastPrice]],
    ) -> None:
        self._database = database
        self._fence = fence
        self._feed = feed
        self._client = client
        self._holds_lease = holds_lease
        self._last_prices = last_prices
        self._cache = QuoteCache()
        self._symbols: tuple[str, ...] = ()
        self._tickers: dict[str, tuple[BookTicker, datetime]] = {}
        self._quoted_at: dict[str, datetime] = {}
        self._uncached: dict[str, Quote] = {}
        self._uncached_prices: dict[str, LastPrice] = {}
        self._unstored: dict[str, Quote] = {}

    def begin(self, symbols: tuple[str, ...]) -> None:
        """A fresh connection: what was quoted before it has to be confirmed."""
        self._symbols = symbols
        self._quoted_at = {}

    def take(self, ticker: BookTicker, received_at: datetime) -> None:
        """Keep it as the newest of its symbol."""
        self._tickers[ticker.symbol] = (ticker, received_at)

    async def run(self) -> None:
        """Write and confirm until cancelled."""
        await until_first_ends(self._write(), self._confirm())

    async def close(self) -> None:
        """Give back what is not the database's."""
        await self._cache.close()

    async def _write(self) -> None:
        stored_at = clock.monotonic_seconds()
        while True:
            await asyncio.sleep(QUOTE_FLUSH_SECONDS)
            self._parse_tickers()
            await self._write_cache()
            if self._unstored and clock.monotonic_seconds() - stored_at >= QUOTE_STORE_SECONDS:
                stored_at = clock.monotonic_seconds()
                newest, self._unstored = list(self._unstored.values()), {}
                await self._database.run(quotes.record_quotes, quotes=newest, fence=self._fence)

    async def _write_cache(self) -> None:
        """Redis knows no fence: a process that slept must not pass old frames off as the latest price."""
        self._uncached_prices |= {price.symbol: price for price in self._last_prices()}
        found, prices = list(self._uncached.values()), list(self._uncached_prices.values())
        if (found or prices) and self._holds_lease() and await self._cache.put(found, prices):
            self._uncached.clear()
            self._uncached_prices.clear()

    async def _confirm(self) -> None:
        """Ask by REST for quotes that were quiet: the stream sends changes only, and silence proves nothing."""
        while True:
            await asyncio.sleep(QUOTE_CONFIRM_SECONDS)
            quiet_since = clock.now() - timedelta(seconds=QUOTE_QUIET_SECONDS)
            quiet = [s for s in self._symbols if s not in self._quoted_at or self._quoted_at[s] < quiet_since]
            if quiet:
                await self._ask(quiet)

    async def _ask(self, symbols: list[str]) -> None:
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
                self._feed.rejected(repr(ticker).encode(), error)
                continue
            self._take_quote(quote)
