"""Fetch by REST what the socket did not bring (binance.md §6: klines from the last closed one)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from market import rules
from market.adapters.binance_rest import KLINES_MAX, MarketClient
from market.contracts import WINDOW_CANDLES, Candle, Hole, Interval

FIRST_START_CANDLES = 500
PAGES_MAX = 10


@dataclass(frozen=True, slots=True)
class Backfill:
    """Closed candles, oldest first, the holes between them, and the open time of the exchange's newest row."""

    candles: tuple[Candle, ...]
    newest_open_time: datetime | None
    holes: tuple[Hole, ...] = ()

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
    if not recent:
        return Backfill((), None)
    start = recent[0].open_time if last is None else min(_after(last.open_time), recent[0].open_time)
    return _joined(client, symbol, recent, start=start, until=recent[-1].open_time)


def fetch_hole(client: MarketClient, symbol: str, *, start: datetime | None, until: datetime) -> Backfill:
    """Candles before `until`, from `start` (without it the newest page), and the newest row's open time."""
    newest = client.fetch_candle_rows(symbol, Interval.M1, limit=KLINES_MAX)
    if not newest:
        return Backfill((), None)
    return _joined(
        client,
        symbol,
        newest,
        start=newest[0].open_time if start is None else start,
        until=min(until, newest[-1].open_time),
    )


def _joined(
    client: MarketClient, symbol: str, newest: list[Candle], *, start: datetime, until: datetime
) -> Backfill:
    """The page `newest`, preceded by what is asked for from `start` on; holes up to `until`."""
    older: list[Candle] = []
    fetched_to = newest[0].open_time
    if newest[0].open_time > start:
        older, fetched_to = _fetch_pages(client, symbol, start, before=newest[0].open_time)
    found = [c for c in [*older, *newest] if c.closed and start <= c.open_time < until]
    holes = rules.missing_minutes(symbol, [c.open_time for c in found], start=start, end=until)
    return Backfill(
        tuple(found),
        newest[-1].open_time,
        tuple(replace(h, exchange=h.end <= fetched_to or h.start >= newest[0].open_time) for h in holes),
    )


def _fetch_pages(
    client: MarketClient, symbol: str, start: datetime, *, before: datetime
) -> tuple[list[Candle], datetime]:
    """Candles from `start` up to `before`, page by page, and the instant up to which they were asked for."""
    found: list[Candle] = []
    for _ in range(PAGES_MAX):
        page = client.fetch_candle_rows(symbol, Interval.M1, limit=KLINES_MAX, start=start)
        found += [c for c in page if c.closed and c.open_time < before]
        if len(page) < KLINES_MAX or page[-1].open_time >= before:
            return found, before
        start = page[-1].open_time  # the last row of a page counts as open: ask for it again
    return found, start


def _after(open_time: datetime) -> datetime:
    return open_time + rules.length(Interval.M1)


def fetch_longer(
    client: MarketClient, symbol: str, interval: Interval, stored: Sequence[datetime]
) -> list[Candle]:
    """The exchange's own closed candles of a longer interval, unless the newest ones are `stored` without a hole.

    1m candles reach back hours; the indicators of 1h to 1d look back days and months.
    """
    span = rules.length(interval)
    gapless = len(stored) >= WINDOW_CANDLES and stored[-1] - stored[0] == (len(stored) - 1) * span
    return [] if gapless else client.fetch_candles(symbol, interval, limit=WINDOW_CANDLES + 1)
