"""Fetch by REST what the socket did not bring (binance.md §6: klines from the last closed one)."""

from dataclasses import dataclass
from datetime import datetime

from market import rules
from market.adapters.binance_rest import KLINES_MAX, MarketClient
from market.contracts import Candle, Interval

FIRST_START_CANDLES = 500
PAGES_MAX = 10


@dataclass(frozen=True, slots=True)
class Backfill:
    """Closed candles, oldest first, and the open time of the newest row that the exchange has, open or not."""

    candles: tuple[Candle, ...]
    newest_open_time: datetime | None

    def went_back(self, last: Candle | None) -> bool:
        """Whether the exchange's market time is before the newest candle that we hold."""
        newest = self.newest_open_time
        return last is not None and (newest is None or newest < last.open_time)


def fetch_missing(client: MarketClient, symbol: str, last: Candle | None) -> Backfill:
    """The exchange's newest candles, and before them all since `last`, when it is known.

    The newest FIRST_START_CANDLES are always among them, so that what is stored is corrected where the
    exchange says otherwise. A gap of more than PAGES_MAX requests stays a hole.
    """
    recent = client.fetch_candle_rows(symbol, Interval.M1, limit=FIRST_START_CANDLES + 1)
    newest = recent[-1].open_time if recent else None
    older: list[Candle] = []
    if last is not None and recent and recent[0].open_time > last.open_time + rules.length(Interval.M1):
        older = _fetch_pages(client, symbol, last.open_time, before=recent[0].open_time)
    closed = [c for c in [*older, *recent] if c.closed]
    return Backfill(tuple(closed), newest)


def _fetch_pages(client: MarketClient, symbol: str, after: datetime, *, before: datetime) -> list[Candle]:
    """Candles with `after` < open time < `before`, page by page."""
    found: list[Candle] = []
    start = after + rules.length(Interval.M1)
    for _ in range(PAGES_MAX):
        page = client.fetch_candle_rows(symbol, Interval.M1, limit=KLINES_MAX, start=start)
        found += [c for c in page if c.closed and c.open_time < before]
        if len(page) < KLINES_MAX or page[-1].open_time >= before:
            break
        start = page[-1].open_time  # the last row of a page counts as open: ask for it again
    return found


def fetch_hole(client: MarketClient, symbol: str, *, start: datetime | None, until: datetime) -> Backfill:
    """Candles before `until`, from `start` (without it the newest page), and the newest row's open time."""
    newest = client.fetch_candle_rows(symbol, Interval.M1, limit=KLINES_MAX)
    newest_open_time = newest[-1].open_time if newest else None
    older: list[Candle] = []
    if start is not None and newest and newest[0].open_time > start:
        older = _fetch_pages(client, symbol, start - rules.length(Interval.M1), before=newest[0].open_time)
    wanted = [c for c in [*older, *newest] if c.closed and c.open_time < until]
    return Backfill(tuple(c for c in wanted if start is None or c.open_time >= start), newest_open_time)
