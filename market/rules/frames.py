"""Frames and replies of the exchange -> contracts (binance.md §2.3, §6, §7).

Nothing that is NaN, negative, zero where a price is meant, of a wrong type or inconsistent gets through:
each raises MalformedFrame, so that it never reaches an indicator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from market.contracts import AccountFrame, Candle, Interval, MalformedFrame, Quote
from market.rules.trades import MILLISECONDS_MAX, AggTrade, check_trade
from tradingbot.core.clock import from_milliseconds
from tradingbot.core.decimals import MalformedDecimal, parse_decimal

TRADE_COUNT_MAX = 2**53
EVENT_TYPE_LENGTH_MAX = 32
SHUTDOWN = "serverShutdown"
_SHUTDOWN_STREAM = f"!{SHUTDOWN}".encode()
STREAM_NAME_LENGTH_MAX = 80
_DATA_HEAD = b'{"stream":"'
_NAME_END_MAX = len(_DATA_HEAD) + STREAM_NAME_LENGTH_MAX + 1


class Envelope(msgspec.Struct):
    """A frame of the combined stream: data of a stream, or the answer to a control message."""

    stream: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: int | str | None = None
    result: list[str] | None = None
    error: dict[str, Any] | None = None
    code: int | None = None
    msg: str = ""
    e: str = ""


class BookTicker(msgspec.Struct):
    """Best bid and ask as text; turned into a Quote only when it is written (at most 10 times a second)."""

    symbol: str = msgspec.field(name="s")
    bid: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")


class _KlineBody(msgspec.Struct):
    open_ms: int = msgspec.field(name="t")
    close_ms: int = msgspec.field(name="T")
    symbol: str = msgspec.field(name="s")
    interval: str = msgspec.field(name="i")
    open: str = msgspec.field(name="o")
    high: str = msgspec.field(name="h")
    low: str = msgspec.field(name="l")
    close: str = msgspec.field(name="c")
    volume: str = msgspec.field(name="v")
    quote_volume: str = msgspec.field(name="q")
    trade_count: int = msgspec.field(name="n")
    closed: bool = msgspec.field(name="x")


class _KlineEvent(msgspec.Struct):
    k: _KlineBody


class _TickerFrame(msgspec.Struct):
    data: BookTicker


class _TradeFrame(msgspec.Struct):
    data: AggTrade


class _KlineFrame(msgspec.Struct):
    data: _KlineEvent


@dataclass(frozen=True, slots=True)
class Kline:
    """A kline message; `candle` only when it is final, since nothing else is stored."""

    symbol: str
    candle: Candle | None


@dataclass(frozen=True, slots=True)
class ControlReply:
    """The answer to SUBSCRIBE (no names) or LIST_SUBSCRIPTIONS; `error` is empty when it succeeded."""

    request_id: int | str | None
    error: str = ""
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ServerShutdown:
    """The server announces its end: reconnect at once (no lead time is promised since 2026-06-09)."""


StreamMessage = AggTrade | Kline | BookTicker | ControlReply | ServerShutdown

_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_ticker = msgspec.json.Decoder(_TickerFrame).decode
_decode_trade = msgspec.json.Decoder(_TradeFrame).decode
_decode_kline = msgspec.json.Decoder(_KlineFrame).decode
_decode_any = msgspec.json.Decoder().decode
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def parse_stream_frame(frame: bytes) -> StreamMessage:
    """One text frame of a combined market stream; raises MalformedFrame, also for an unknown stream.

    Data begins with its stream's name, which says what to decode the whole frame into, at once.
    """
    try:
        if frame.startswith(_DATA_HEAD):
            name = frame[len(_DATA_HEAD) : frame.find(b'"', len(_DATA_HEAD), _NAME_END_MAX)]
        else:
            envelope = _decode_envelope(frame)
            if envelope.data is msgspec.UNSET:
                return _control(envelope)
            name = envelope.stream.encode()
        if len(name) > STREAM_NAME_LENGTH_MAX:
            raise MalformedFrame("a stream's name is too long")
        symbol, kind = _parts(name)
        if kind == "aggTrade":
            return _trade(_decode_trade(frame).data, symbol)
        if kind == "bookTicker":
            return _ticker(_decode_ticker(frame).data, symbol)
        if kind.startswith("kline_"):
            return _kline(_decode_kline(frame).data.k, symbol, kind.removeprefix("kline_"))
    except _UNDECODABLE as error:
        raise MalformedFrame(f"not a frame of the documented shape: {error!s:.120}") from error
    if name == _SHUTDOWN_STREAM:
        return ServerShutdown()
    raise MalformedFrame(f"unknown stream {name!r:.60}")


@lru_cache(maxsize=4096)
def _parts(stream: bytes) -> tuple[str, str]:
    """`btcusdt@bookTicker` -> the symbol as messages spell it, and the kind of stream."""
    symbol, _, kind = stream.decode().partition("@")
    return symbol.upper(), kind


def _trade(trade: AggTrade, symbol: str) -> AggTrade:
    if trade.symbol != symbol:
        raise MalformedFrame("the symbol is not the stream's")
    check_trade(trade)
    return trade


def _ticker(ticker: BookTicker, symbol: str) -> BookTicker:
    if ticker.symbol != symbol:
        raise MalformedFrame("the symbol is not the stream's")
    return ticker


def _control(envelope: Envelope) -> ControlReply | ServerShutdown:
    if envelope.e == SHUTDOWN:
        return ServerShutdown()
    if envelope.error is not None:
        return ControlReply(envelope.id, f"{envelope.error!s:.120}")
    if envelope.code is not None:
        return ControlReply(envelope.id, f"code {envelope.code}: {envelope.msg:.120}")
    _require(envelope.id is not None, "neither data nor the answer to a request")
    return ControlReply(envelope.id, names=None if envelope.result is None else tuple(envelope.result))


def _kline(body: _KlineBody, symbol: str, interval: str) -> Kline:
    _require(body.symbol == symbol, "the symbol is not the stream's")
    _require(body.interval == interval, "the interval is not the stream's")
    if not body.closed:
        return _open_kline(symbol)
    texts = (body.open, body.high, body.low, body.close, body.volume, body.quote_volume)
    candle = _candle(
        body.symbol, _interval(interval), body.open_ms, body.close_ms, texts, body.trade_count, closed=True
    )
    return Kline(body.symbol, candle)


@lru_cache(maxsize=4096)
def _open_kline(symbol: str) -> Kline:
    return Kline(symbol, None)


def parse_kline_row(row: Sequence[Any], *, symbol: str, interval: Interval, closed: bool) -> Candle:
    """One row of GET /api/v3/klines: openTime,o,h,l,c,volume,closeTime,quoteVolume,trades,…"""
    if not isinstance(row, list) or len(row) < 9:
        raise MalformedFrame(f"a kline of {symbol} is not a row of at least 9 fields")
    texts = (row[1], row[2], row[3], row[4], row[5], row[7])
    return _candle(symbol, interval, row[0], row[6], texts, row[8], closed=closed)


def _candle(
    symbol: str,
    interval: Interval,
    open_ms: Any,
    close_ms: Any,
    texts: tuple[Any, ...],
    trade_count: Any,
    *,
    closed: bool,
) -> Candle:
    open_time, close_time = _instant(open_ms), _instant(close_ms)
    _require(open_ms % interval.milliseconds == 0, "the open time is not on the interval's grid")
    _require(close_ms == open_ms + interval.milliseconds - 1, "the close time does not fit the open time")
    opened, high, low, close, volume, quote_volume = (_amount(t) for t in texts)
    _require(low > 0, "a price is not positive")
    _require(low <= min(opened, close) and high >= max(opened, close), "high and low do not enclose")
    _require(volume >= 0 and quote_volume >= 0, "a volume is negative")
    _require(type(trade_count) is int and 0 <= trade_count < TRADE_COUNT_MAX, "the trade count is no count")
    return Candle(
        symbol=symbol,
        interval=interval,
        open_time=open_time,
        close_time=close_time,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=volume,
        quote_volume=quote_volume,
        trade_count=trade_count,
        closed=closed,
    )


def parse_book_row(row: Any, *, received_at: datetime) -> Quote:
    """One object of GET /api/v3/ticker/bookTicker."""
    _require(isinstance(row, dict) and isinstance(row.get("symbol"), str), "a book ticker has no symbol")
    texts = [row.get(name) for name in ("bidPrice", "bidQty", "askPrice", "askQty")]
    _require(all(isinstance(text, str) for text in texts), "a price or quantity is not text")
    return quote_from_ticker(BookTicker(row["symbol"], *texts), received_at=received_at)


def quote_from_ticker(ticker: BookTicker, *, received_at: datetime) -> Quote:
    """The ticker as numbers; raises MalformedFrame for an impossible book (crossed, zero, negative)."""
    bid, ask = _amount(ticker.bid), _amount(ticker.ask)
    bid_quantity, ask_quantity = _amount(ticker.bid_quantity), _amount(ticker.ask_quantity)
    _require(0 < bid <= ask, "bid and ask are not a book")
    _require(bid_quantity >= 0 and ask_quantity >= 0, "a quantity is negative")
    return Quote(ticker.symbol, bid, ask, bid_quantity, ask_quantity, received_at)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on the WS API: the request's id, its status, and the error in words when it failed."""

    request_id: str
    status: int
    error: str


def parse_reply(frame: bytes, *, received_at: datetime) -> Reply | AccountFrame | ServerShutdown:
    """One text frame of the WS API: the answer to a request, a user-data event, or a shutdown notice."""
    try:
        content = _decode_any(frame)
    except _UNDECODABLE as error:
        raise MalformedFrame(f"not JSON: {error!s:.120}") from error
    if not isinstance(content, dict):
        raise MalformedFrame("not an object")
    if "event" in content:
        # Postgres' jsonb cannot hold a NUL character; no genuine event has one.
        _require(b"\\u0000" not in frame, "it holds a NUL character")
        return parse_account_event(content["event"], received_at=received_at)
    status, problem = content.get("status"), content.get("error") or {}
    if type(status) is not int or not isinstance(problem, dict):
        raise MalformedFrame("neither an event nor an answer with a status")
    text = f"code {problem.get('code')}: {problem.get('msg')!s:.120}" if status != 200 else ""
    return Reply(str(content.get("id")), status, text)


def parse_account_event(event: Any, *, received_at: datetime) -> AccountFrame | ServerShutdown:
    """The `event` of a user-data frame, kept whole; only its type and time are read here."""
    _require(isinstance(event, dict), "the event is not an object")
    kind = event.get("e")
    if kind == SHUTDOWN:
        return ServerShutdown()
    _require(isinstance(kind, str) and 0 < len(kind) <= EVENT_TYPE_LENGTH_MAX, "the event has no type")
    return AccountFrame(kind, _instant(event.get("E")), received_at, event)


def _interval(text: str) -> Interval:
    try:
        return Interval(text)
    except ValueError as error:
        raise MalformedFrame(f"unknown interval {text!r:.20}") from error


def _instant(milliseconds: Any) -> datetime:
    _require(type(milliseconds) is int and 0 < milliseconds < MILLISECONDS_MAX, "a time is out of range")
    return from_milliseconds(milliseconds)


def _amount(text: Any) -> Decimal:
    try:
        return parse_decimal(text)
    except MalformedDecimal as error:
        raise MalformedFrame(str(error)) from error


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise MalformedFrame(otherwise)
