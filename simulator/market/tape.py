"""One symbol's market in time: closed candles, the open one, the last trades, and what comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from simulator.market.candles import DAY_MS, MINUTE_MS, Candle, CandleSeries, RawCandle
from simulator.market.path import TICKS_PER_CANDLE, PathTick, candle_path, stable_hash, summarize
from simulator.market.sources import CandleSource

RECENT_TRADES_MAX = 1000
PUBLIC_TRADE_ID_BASE = 6_000_000_000
"""Public trades count from here (live BTCUSDT is past it too); fills of accounts count from 1. Fills are not
printed on the tape, because a replayed tape must stay the recorded one."""


class Tick(NamedTuple):
    """A trade of the tape, or a move of the quotes (`quantity` 0, `trade_id` -1). 1e-8 units, market time."""

    symbol: str
    time_ms: int
    price: int
    quantity: int
    buyer_is_maker: bool
    trade_id: int


class CandleClosed(NamedTuple):
    symbol: str
    candle: Candle


@dataclass(slots=True)
class DayStatistics:
    """Rolling 24 hours up to the last tick. 1e-8 units."""

    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trades: int
    first_trade_id: int
    open_ms: int
    close_ms: int


class SymbolTape:
    """Feeds the candles of a source tick by tick. Closed candles are exactly those of the source."""

    def __init__(
        self, symbol: str, source: CandleSource, seed: int, tick: int, step: int, history_start_ms: int
    ) -> None:
        self.symbol = symbol
        self.source = source
        self.series = CandleSeries()
        self.recent: deque[Tick] = deque(maxlen=RECENT_TRADES_MAX)
        self._seed = seed
        self._tick = tick
        self._step = step
        first = source.next_after(history_start_ms - 1)
        if first is None:
            raise ValueError(f"{symbol}: no candle at or after {history_start_ms}")
        self.last_price = first.open
        self.first_ms = first.open_ms
        self.last_ms = first.open_ms
        self.candles_played = 0
        self._average = ((0, 0, 0), 0)
        self._trade_id = PUBLIC_TRADE_ID_BASE + first.open_ms // MINUTE_MS * TICKS_PER_CANDLE
        self._load(first)

    def _load(self, raw: RawCandle | None) -> None:
        self._raw = raw
        self._position = 0
        self._path: list[PathTick] = []
        self.open_candle: Candle | None = None
        if raw is not None:
            self._path = self._path_of(raw)

    def _path_of(self, raw: RawCandle) -> list[PathTick]:
        """The recorded trades of a minute, or a path that fits its candle."""
        recorded = self.source.trades(raw.open_ms)
        if recorded is not None:
            return recorded
        return candle_path(raw, stable_hash(self._seed, self.symbol, raw.open_ms), self._tick, self._step)

    @property
    def ended(self) -> bool:
        """No candle follows: the last price stays."""
        return self._raw is None

    @property
    def next_ms(self) -> int | None:
        """Market time of the next tick or close, None at the end."""
        if self._raw is None:
            return None
        if self._position < len(self._path):
            return self._raw.open_ms + self._path[self._position].offset_ms
        return self._raw.open_ms + MINUTE_MS

    def step(self) -> Tick | CandleClosed:
        """Take the next tick, or close the candle after its last one. Not to be called once ended."""
        assert self._raw is not None
        if self._position < len(self._path):
            return self._take_tick(self._raw)
        return self._close_candle(self._raw)

    def skip_to(self, market_ms: int) -> None:
        """Load the past: take everything up to `market_ms` without handing out single ticks."""
        while (upcoming := self.next_ms) is not None and upcoming <= market_ms:
            # Whole candles of the past cost one step; only their last trades are kept.
            whole = (
                self._position == 0 and self._raw is not None and self._raw.open_ms + MINUTE_MS <= market_ms
            )
            if whole and market_ms - upcoming > RECENT_TRADES_MAX // TICKS_PER_CANDLE * MINUTE_MS:
                assert self._raw is not None
                self._close_candle(self._raw)
            else:
                self.step()
        self.candles_played = 0

    def standing(self) -> Tick:
        """The last price as a tick without a trade: quotes for a market that has just been loaded."""
        return Tick(self.symbol, self.last_ms, self.last_price, 0, False, -1)

    def minutes(self, start_ms: int, end_ms: int) -> Iterator[Candle]:
        """One-minute candles that open in [start_ms, end_ms], the open one included."""
        yield from self.series.between(start_ms, end_ms)
        if self.open_candle is not None and start_ms <= self.open_candle.open_ms <= end_ms:
            yield self.open_candle

    def ticks(self, start_ms: int, end_ms: int) -> Iterator[Tick]:
        """The ticks in [start_ms, end_ms] that have been played, made again from their candles."""
        first_minute = start_ms - start_ms % MINUTE_MS
        for candle in self.series.between(first_minute, end_ms):
            yield from self._ticks_of(RawCandle._make(candle[:6]), candle.first_trade_id, start_ms, end_ms)
        if self.open_candle is not None and self._raw is not None:
            first_id = self.open_candle.first_trade_id
            yield from self._ticks_of(self._raw, first_id, start_ms, min(end_ms, self.last_ms))

    def trades_from(self, trade_id: int) -> Iterator[Tick]:
        """The trades that have been played from an id on, made again from their candles."""
        start_ms = self.series.of_trade(trade_id)
        return (tick for tick in self.ticks(start_ms, self.last_ms) if tick.trade_id >= trade_id)

    def _ticks_of(self, raw: RawCandle, trade_id: int, start_ms: int, end_ms: int) -> Iterator[Tick]:
        for offset_ms, price, quantity, buyer_is_maker in self._path_of(raw):
            time_ms = raw.open_ms + offset_ms
            if start_ms <= time_ms <= end_ms:
                number = trade_id if quantity else -1
                yield Tick(self.symbol, time_ms, price, quantity, buyer_is_maker, number)
            if quantity:
                trade_id += 1

    def average_price(self, minutes: int) -> int:
        """Volume-weighted price of the last minutes; the last price when nothing was traded."""
        # Every order asks for it, and it changes with a step of the tape only.
        asked = (minutes, self.last_ms, self._position)
        if self._average[0] != asked:
            recent = list(self.minutes(self.last_ms - minutes * MINUTE_MS, self.last_ms))
            volume = sum(candle.volume for candle in recent)
            quote_volume = sum(candle.quote_volume for candle in recent)
            self._average = (asked, quote_volume * 10**8 // volume if volume else self.last_price)
        return self._average[1]

    def day_statistics(self) -> DayStatistics:
        recent = list(self.minutes(self.last_ms - DAY_MS + 1, self.last_ms))
        first_ms = recent[0].open_ms if recent else self.last_ms
        return DayStatistics(
            open=recent[0].open if recent else self.last_price,
            high=max((candle.high for candle in recent), default=self.last_price),
            low=min((candle.low for candle in recent), default=self.last_price),
            close=self.last_price,
            volume=sum(candle.volume for candle in recent),
            quote_volume=sum(candle.quote_volume for candle in recent),
            trades=sum(candle.trades for candle in recent),
            first_trade_id=recent[0].first_trade_id if recent else self._trade_id,
            open_ms=first_ms,
            close_ms=self.last_ms,
        )

    def _take_tick(self, raw: RawCandle) -> Tick:
        offset, price, quantity, buyer_is_maker = self._path[self._position]
        self._position += 1
        trade_id = -1
        before = self.open_candle or Candle(
            raw.open_ms, price, price, price, price, 0, 0, 0, 0, 0, self._trade_id
        )
        if quantity:
            trade_id = self._trade_id
            self._trade_id += 1
        amount = price * quantity // 10**8
        self.open_candle = Candle(
            raw.open_ms,
            before.open,
            max(before.high, price),
            min(before.low, price),
            price,
            before.volume + quantity,
            before.quote_volume + amount,
            before.trades + (1 if quantity else 0),
            before.taker_volume + (0 if buyer_is_maker else quantity),
            before.taker_quote_volume + (0 if buyer_is_maker else amount),
            before.first_trade_id,
        )
        self.last_price = price
        self.last_ms = raw.open_ms + offset
        tick = Tick(self.symbol, self.last_ms, price, quantity, buyer_is_maker, trade_id)
        if quantity:
            self.recent.append(tick)
        return tick

    def _close_candle(self, raw: RawCandle) -> CandleClosed:
        first_id = self.open_candle.first_trade_id if self.open_candle else self._trade_id
        candle = summarize(raw, self._path, first_id)
        self.series.append(candle)
        self._trade_id = first_id + candle.trades
        self.last_price = raw.close
        self.last_ms = raw.open_ms + MINUTE_MS - 1
        self.candles_played += 1
        self._load(self.source.next_after(raw.open_ms))
        return CandleClosed(self.symbol, candle)
