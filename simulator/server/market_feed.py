"""What the market's steps mean on the streams: trades, klines, quotes, books, tickers (binance.md §6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from simulator.api.public import best_quotes, day_json
from simulator.api.render import agg_trade_event, kline_event, trade_event
from simulator.clock import monotonic_seconds
from simulator.decimals import units_text
from simulator.engine.exchange import Exchange
from simulator.engine.instruments import TRADING
from simulator.faults import FaultBook, FaultKind
from simulator.market.candles import (
    HOUR_MS,
    INTERVALS,
    MINUTE_MS,
    Candle,
    interval_close_ms,
    interval_open_ms,
    merge,
)
from simulator.market.seconds import SecondsOfTape
from simulator.market.tape import CandleClosed, SymbolTape, Tick
from simulator.server.depth_feed import DepthFeed
from simulator.server.market_streams import MarketStreams

TICKER_SECONDS = 1.0
ZONES = {"": 0, "@+08:00": 8 * HOUR_MS}
"""Time zones that kline streams can be had in, by what stands behind the interval."""


class MarketFeed:
    """Sends the messages that the market's steps make, to whom they interest."""

    def __init__(
        self, exchange: Exchange, streams: MarketStreams, faults: FaultBook, now_ms: Callable[[], int]
    ) -> None:
        self._exchange = exchange
        self._streams = streams
        self._faults = faults
        self._now_ms = now_ms
        self._tickers_sent_at = 0.0
        self._seconds: dict[str, SecondsOfTape] = {}
        self.depth = DepthFeed(exchange, streams)
        streams.on_first = self.depth.prime

    def publish(self, steps: list[Tick | CandleClosed]) -> None:
        """Send what the steps mean: every trade and every close, the open candles and quotes once."""
        changed = self._exchange.changed_books
        if not self._streams.has_listeners:
            changed.clear()
            return
        moved: dict[str, None] = {}
        for step in steps:
            symbol = step.symbol
            # Nothing is traded while a symbol does not trade: what the tape holds then is not told.
            if self._exchange.instruments[symbol].status != TRADING:
                continue
            if isinstance(step, CandleClosed):
                self._send_closed(step)
                self._send_seconds(symbol, step.candle.open_ms + MINUTE_MS, None)
                continue
            moved[symbol] = None
            self._send_seconds(symbol, step.time_ms, step)
            if step.quantity:
                self._streams.send(f"{symbol.lower()}@trade", trade_event, step)
                self._streams.send(f"{symbol.lower()}@aggTrade", agg_trade_event, step)
        for symbol in moved:
            self._send_open_candles(self._exchange.tapes[symbol])
        for symbol in sorted(changed):
            self._streams.send(f"{symbol.lower()}@bookTicker", self._book_ticker, symbol)
        self.depth.publish(changed)
        changed.clear()
        self._send_tickers()

    # --- candles ----------------------------------------------------------------------------------------

    def _send_closed(self, step: CandleClosed) -> None:
        event_ms = step.candle.open_ms + MINUTE_MS
        tape = self._exchange.tapes[step.symbol]
        for interval, zone, offset_ms in self._wanted_klines(step.symbol):
            open_ms = interval_open_ms(interval, step.candle.open_ms, offset_ms)
            if interval_close_ms(interval, open_ms, offset_ms) == event_ms - 1:
                candle = self._candle(tape, open_ms, event_ms - 1)
                self._send_kline(step.symbol, candle, interval, zone, event_ms, closed=True)

    def _wanted_klines(self, symbol: str) -> Iterator[tuple[str, str, int]]:
        """Interval, time zone in the stream's name and its offset, of every stream that somebody listens to."""
        prefix = f"{symbol.lower()}@kline_"
        for interval in INTERVALS:
            for zone, offset_ms in ZONES.items():
                if self._streams.wanted(prefix + interval + zone):
                    yield interval, zone, offset_ms

    def _send_kline(
        self, symbol: str, candle: Candle, interval: str, zone: str, event_ms: int, *, closed: bool
    ) -> None:
        stream = f"{symbol.lower()}@kline_{interval}{zone}"
        if closed and self._faults.take(
            FaultKind.MUTE_CLOSED_KLINE, "WS", stream, self._now_ms(), None, symbol
        ):
            return
        close_ms = interval_close_ms(interval, candle.open_ms, ZONES[zone])
        self._streams.send(stream, kline_event, symbol, candle, interval, close_ms, event_ms, closed)

    def _send_open_candles(self, tape: SymbolTape) -> None:
        if tape.open_candle is None:
            return
        for interval, zone, offset_ms in self._wanted_klines(tape.symbol):
            open_ms = interval_open_ms(interval, tape.open_candle.open_ms, offset_ms)
            candle = self._candle(tape, open_ms, tape.last_ms)
            self._send_kline(tape.symbol, candle, interval, zone, tape.last_ms, closed=False)

    def _send_seconds(self, symbol: str, until_ms: int, tick: Tick | None) -> None:
        """Candles of a second: every one that has ended, and the present one after a trade."""
        if not self._streams.wanted(f"{symbol.lower()}@kline_1s"):
            self._seconds.pop(symbol, None)
            return
        seconds = self._seconds.get(symbol)
        if seconds is None:
            seconds = self._seconds[symbol] = SecondsOfTape(until_ms, self._exchange.tapes[symbol].last_price)
        for candle in seconds.closed_by(until_ms):
            self._send_kline(symbol, candle, "1s", "", candle.open_ms + 1000, closed=True)
        if tick is not None:
            self._send_kline(symbol, seconds.take(tick), "1s", "", tick.time_ms, closed=False)

    @staticmethod
    def _candle(tape: SymbolTape, open_ms: int, last_ms: int) -> Candle:
        return merge(open_ms, list(tape.minutes(open_ms, last_ms)))

    # --- quotes and tickers -----------------------------------------------------------------------------

    def _book_ticker(self, symbol: str) -> dict[str, Any]:
        quotes = best_quotes(self._exchange, symbol)
        return {
            "u": self._exchange.books[symbol].update_id,
            "s": symbol,
            "b": quotes["bidPrice"],
            "B": quotes["bidQty"],
            "a": quotes["askPrice"],
            "A": quotes["askQty"],
        }

    def _send_tickers(self) -> None:
        now = monotonic_seconds()
        if now - self._tickers_sent_at < TICKER_SECONDS:
            return
        self._tickers_sent_at = now
        for symbol in self._exchange.tapes:
            self._streams.send(f"{symbol.lower()}@miniTicker", self._mini_ticker, symbol)
            self._streams.send(f"{symbol.lower()}@ticker", self._ticker, symbol)
            self._streams.send(f"{symbol.lower()}@avgPrice", self._average, symbol)
        if self._streams.wanted("!miniTicker@arr"):
            self._streams.send(
                "!miniTicker@arr", lambda: [self._mini_ticker(s) for s in self._exchange.tapes]
            )

    def _mini_ticker(self, symbol: str) -> dict[str, Any]:
        day = self._exchange.tapes[symbol].day_statistics()
        return {
            "e": "24hrMiniTicker",
            "E": day.close_ms,
            "s": symbol,
            "c": units_text(day.close),
            "o": units_text(day.open),
            "h": units_text(day.high),
            "l": units_text(day.low),
            "v": units_text(day.volume),
            "q": units_text(day.quote_volume),
        }

    def _ticker(self, symbol: str) -> dict[str, Any]:
        day = day_json(self._exchange, symbol)
        return {"e": "24hrTicker", "E": day["closeTime"], "s": symbol} | {
            short: day[name] for short, name in TICKER_FIELDS.items()
        }

    def _average(self, symbol: str) -> dict[str, Any]:
        tape = self._exchange.tapes[symbol]
        minutes = self._exchange.instruments[symbol].average_price_minutes
        return {
            "e": "avgPrice",
            "E": tape.last_ms,
            "s": symbol,
            "i": f"{minutes}m",
            "w": units_text(tape.average_price(minutes)),
            "T": tape.last_ms,
        }


TICKER_FIELDS = {
    "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "x": "prevClosePrice",
    "c": "lastPrice", "Q": "lastQty", "b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty",
    "o": "openPrice", "h": "highPrice", "l": "lowPrice", "v": "volume", "q": "quoteVolume", "O": "openTime",
    "C": "closeTime", "F": "firstId", "L": "lastId", "n": "count",
}  # fmt: skip
