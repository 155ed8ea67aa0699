"""Market streams: /ws/<stream>, /ws, /stream?streams=a/b and their control messages (binance.md §6)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import msgspec

from simulator.api.public import best_quotes
from simulator.api.render import agg_trade_event, kline_event, trade_event
from simulator.clock import monotonic_seconds
from simulator.decimals import units_text
from simulator.engine.exchange import Exchange
from simulator.market.candles import INTERVALS, MINUTE_MS, Candle, interval_close_ms, interval_open_ms, merge
from simulator.market.tape import CandleClosed, SymbolTape, Tick
from simulator.server.sockets import Connection

STREAMS_PER_CONNECTION_MAX = 1_024
INBOUND_PER_SECOND_MAX = 5
MINI_TICKER_SECONDS = 1.0
REQUEST_ID = re.compile(r"^[a-zA-Z0-9-_]{1,36}$")


class Subscriber:
    """A connection to market streams: what it listens to and whether messages are wrapped."""

    def __init__(self, connection: Connection, combined: bool) -> None:
        self.connection = connection
        self.combined = combined
        self.streams: set[str] = set()
        self._second = 0
        self._inbound = 0

    def too_fast(self) -> bool:
        """Count an inbound message; True from the sixth in a second."""
        second = int(monotonic_seconds())
        if second != self._second:
            self._second, self._inbound = second, 0
        self._inbound += 1
        return self._inbound > INBOUND_PER_SECOND_MAX


class MarketStreams:
    """Subscriptions by stream name, and the messages that the market's steps make for them."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._listeners: dict[str, set[Subscriber]] = defaultdict(set)
        self._mini_sent_at = 0.0

    # --- subscriptions ----------------------------------------------------------------------------------

    def open(self, connection: Connection, streams: list[str], combined: bool) -> Subscriber:
        subscriber = Subscriber(connection, combined)
        connection.on_close.append(lambda: self._unsubscribe(subscriber, list(subscriber.streams)))
        self._subscribe(subscriber, streams)
        return subscriber

    def receive(self, subscriber: Subscriber, text: str) -> None:
        """A control message: SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY."""
        if subscriber.too_fast():
            subscriber.connection.close_soon(1008, "Too many requests")
            return
        subscriber.connection.send(msgspec.json.encode(self._control(subscriber, text)))

    def _control(self, subscriber: Subscriber, text: str) -> dict[str, Any]:
        try:
            message = json.loads(text)
        except ValueError as error:
            return {"error": {"code": 3, "msg": f"Invalid JSON: {error}"}}
        if not isinstance(message, dict):
            return {"error": {"code": 2, "msg": "Invalid request: request must be an object"}}
        request_id = message.get("id")
        if not _is_request_id(request_id):
            return {"error": {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}}
        try:
            result = self._command(subscriber, message.get("method"), message.get("params"))
        except ValueError as error:
            return {"error": {"code": 2, "msg": f"Invalid request: {error}"}, "id": request_id}
        return {"result": result, "id": request_id}

    def _command(self, subscriber: Subscriber, method: Any, params: Any) -> Any:
        if method == "LIST_SUBSCRIPTIONS":
            return sorted(subscriber.streams)
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            # Not printable: control characters and halves of surrogate pairs, which cannot be sent back.
            if not isinstance(params, list) or not all(
                isinstance(name, str) and name.isprintable() for name in params
            ):
                raise ValueError("params must be a list of stream names")
            (self._subscribe if method == "SUBSCRIBE" else self._unsubscribe)(subscriber, params)
            return None
        if method == "GET_PROPERTY" and params == ["combined"]:
            return subscriber.combined
        if method == "SET_PROPERTY" and isinstance(params, list) and params[:1] == ["combined"]:
            if len(params) != 2 or not isinstance(params[1], bool):
                raise ValueError("property combined must be a boolean")
            subscriber.combined = params[1]
            return None
        raise ValueError("unknown variant, expected one of SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS")

    def _subscribe(self, subscriber: Subscriber, streams: list[str]) -> None:
        """Unknown names are taken without a word, as the exchange does; they stay silent."""
        if len(subscriber.streams | set(streams)) > STREAMS_PER_CONNECTION_MAX:
            raise ValueError(f"at most {STREAMS_PER_CONNECTION_MAX} streams a connection")
        for name in streams:
            subscriber.streams.add(name)
            self._listeners[name].add(subscriber)

    def _unsubscribe(self, subscriber: Subscriber, streams: list[str]) -> None:
        for name in streams:
            subscriber.streams.discard(name)
            listeners = self._listeners.get(name)
            if listeners:
                listeners.discard(subscriber)
                if not listeners:
                    del self._listeners[name]

    # --- messages ---------------------------------------------------------------------------------------

    def publish(self, steps: list[Tick | CandleClosed]) -> None:
        """Send what the steps mean: every trade and every close, the open candles and quotes once."""
        changed = self._exchange.changed_books
        if not self._listeners:
            changed.clear()
            return
        moved: dict[str, None] = {}
        for step in steps:
            if isinstance(step, CandleClosed):
                self._send_closed(step)
                continue
            moved[step.symbol] = None
            if step.quantity:
                self._send(f"{step.symbol.lower()}@trade", trade_event, step)
                self._send(f"{step.symbol.lower()}@aggTrade", agg_trade_event, step)
        for symbol in moved:
            self._send_open_candles(self._exchange.tapes[symbol])
        for symbol in sorted(changed):
            self._send(f"{symbol.lower()}@bookTicker", self._book_ticker, symbol)
        changed.clear()
        self._send_mini_tickers()

    def _send(self, stream: str, render: Any, *arguments: Any) -> None:
        listeners = self._listeners.get(stream)
        if not listeners:
            return
        message = msgspec.json.encode(render(*arguments))
        wrapped = b'{"stream":"%b","data":%b}' % (stream.encode(), message)
        for subscriber in listeners:
            subscriber.connection.send(wrapped if subscriber.combined else message)

    def _send_closed(self, step: CandleClosed) -> None:
        event_ms = step.candle.open_ms + MINUTE_MS
        prefix = f"{step.symbol.lower()}@kline_"
        for interval in INTERVALS:
            if prefix + interval not in self._listeners:
                continue
            open_ms = interval_open_ms(interval, step.candle.open_ms)
            if interval_close_ms(interval, open_ms) == event_ms - 1:
                candle = self._candle(self._exchange.tapes[step.symbol], open_ms, event_ms - 1)
                self._send(prefix + interval, kline_event, step.symbol, candle, interval, event_ms, True)

    def _send_open_candles(self, tape: SymbolTape) -> None:
        if tape.open_candle is None:
            return
        prefix = f"{tape.symbol.lower()}@kline_"
        for interval in INTERVALS:
            if prefix + interval in self._listeners:
                open_ms = interval_open_ms(interval, tape.open_candle.open_ms)
                candle = self._candle(tape, open_ms, tape.last_ms)
                self._send(prefix + interval, kline_event, tape.symbol, candle, interval, tape.last_ms, False)

    @staticmethod
    def _candle(tape: SymbolTape, open_ms: int, last_ms: int) -> Candle:
        return merge(open_ms, list(tape.minutes(open_ms, last_ms)))

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

    def _send_mini_tickers(self) -> None:
        now = monotonic_seconds()
        if now - self._mini_sent_at < MINI_TICKER_SECONDS:
            return
        self._mini_sent_at = now
        for symbol in self._exchange.tapes:
            self._send(f"{symbol.lower()}@miniTicker", self._mini_ticker, symbol)
        if "!miniTicker@arr" in self._listeners:
            self._send("!miniTicker@arr", lambda: [self._mini_ticker(s) for s in self._exchange.tapes])

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


def _is_request_id(value: Any) -> bool:
    if isinstance(value, str):
        return bool(REQUEST_ID.match(value))
    return value is None or (isinstance(value, int) and not isinstance(value, bool))
