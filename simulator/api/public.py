"""Market data: endpoints that need no key. All times here are market time, except GET time."""

from __future__ import annotations

import json
import re
from collections import deque
from itertools import islice
from typing import Any

from simulator.api.desk import Call, Desk
from simulator.api.limits import rate_limits_json
from simulator.api.params import Params
from simulator.api.render import agg_trade, kline_row, public_trade
from simulator.decimals import money_text, units_text
from simulator.engine.contracts import Side
from simulator.engine.errors import ExchangeError, illegal_characters, invalid_parameter, invalid_symbol
from simulator.engine.exchange import Exchange
from simulator.engine.instruments import STATUSES, instrument_json
from simulator.market.candles import (
    DAY_MS,
    FIXED_INTERVALS_MS,
    INTERVALS,
    MINUTE_MS,
    aggregate,
    interval_close_ms,
    interval_open_ms,
)
from simulator.market.seconds import SECOND_MS, second_candles
from simulator.market.tape import SymbolTape

KLINES_DEFAULT, KLINES_MAX = 500, 1000
TRADES_DEFAULT, TRADES_MAX = 500, 1000
DEPTH_DEFAULT, DEPTH_MAX = 100, 5000
TIME_ZONE = re.compile(r"^([+-]?)([0-9]{1,2})(?::([0-5][0-9]))?$")
END_ONLY_MS = 3_600_000
"""How far before endTime aggregate trades are looked for when nothing else is named."""


def ping(desk: Desk, call: Call) -> dict[str, Any]:
    return {}


def time(desk: Desk, call: Call) -> dict[str, Any]:
    return {"serverTime": call.now_ms}


def exchange_info(desk: Desk, call: Call) -> dict[str, Any]:
    params = call.params
    named = _symbols(desk, params)
    symbols = named or list(desk.exchange.instruments)
    status, permissions = _status(params), params.has("permissions")
    if named and (status is not None or permissions):
        raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    if status is not None:
        symbols = [symbol for symbol in symbols if desk.exchange.instruments[symbol].status == status]
    if permissions and "SPOT" not in _names(params, "permissions"):
        # Every symbol here has the permission SPOT and no other.
        symbols = []
    rows = [instrument_json(desk.instrument(symbol)) for symbol in symbols]
    if not params.boolean("showPermissionSets", True):
        rows = [row | {"permissionSets": []} for row in rows]
    return {
        "timezone": "UTC",
        "serverTime": call.now_ms,
        "rateLimits": rate_limits_json(),
        "exchangeFilters": desk.exchange.rules.filters_json(),
        "symbols": rows,
    }


def _status(params: Params) -> str | None:
    status = params.text("symbolStatus")
    if status not in (None, *STATUSES):
        raise ExchangeError(-1122, "Invalid symbolStatus.")
    return status


def _check_status(desk: Desk, symbols: list[str], status: str | None) -> None:
    if status is not None and any(desk.instrument(symbol).status != status for symbol in symbols):
        raise ExchangeError(-1220, "The symbol's status does not match the requested symbolStatus.")


def klines(desk: Desk, call: Call) -> list[list[Any]]:
    """Candles of market time; the last one may be open. Longer intervals are derived from minutes; timeZone
    moves their boundaries, startTime and endTime stay UTC."""
    params = call.params
    tape = _tape(desk, params)
    interval = params.required("interval")
    offset_ms = _offset_ms(params.text("timeZone") or "0")
    if interval == "1s":
        return _second_klines(tape, params)
    if interval not in INTERVALS:
        raise ExchangeError(-1120, "Invalid interval.")
    limit = params.limit(KLINES_DEFAULT, KLINES_MAX)
    start, end = _span(params)
    last_ms = tape.last_ms if end is None else min(end, tape.last_ms)
    span_ms = _span_ms(interval, limit)

    def rows_between(first_ms: int, stop_ms: int) -> list[list[Any]]:
        candles = aggregate(interval, tape.minutes(first_ms, stop_ms), offset_ms)
        return [kline_row(candle, interval, offset_ms) for candle in candles]

    if start is None:
        first_ms = interval_open_ms(interval, max(0, last_ms - span_ms), offset_ms)
        rows = rows_between(first_ms, last_ms)
        # Minutes missing from the market make fewer candles than the span holds: look further back.
        if len(rows) < limit and tape.first_ms < first_ms:
            rows = rows_between(0, last_ms)
        return rows[-limit:]
    # A candle is named by its open time: the first one opens at or after startTime.
    first_ms = interval_open_ms(interval, start, offset_ms)
    if first_ms < start:
        first_ms = interval_close_ms(interval, first_ms, offset_ms) + 1
    return rows_between(first_ms, min(last_ms, first_ms + span_ms + _span_ms(interval, 1)))[:limit]


def _offset_ms(text: str) -> int:
    """timeZone: hours and minutes ahead of UTC, like 8, -3 or 05:45; from -12:00 to +14:00."""
    match = TIME_ZONE.match(text)
    if match is None:
        raise invalid_parameter("timeZone")
    sign, hours, minutes = match.groups()
    offset = (int(hours) * 60 + int(minutes or 0)) * MINUTE_MS * (-1 if sign == "-" else 1)
    if not -12 * 60 * MINUTE_MS <= offset <= 14 * 60 * MINUTE_MS:
        raise invalid_parameter("timeZone")
    return offset


def _span(params: Params) -> tuple[int | None, int | None]:
    return params.moment("startTime", round_up=True), params.moment("endTime")


def _second_klines(tape: SymbolTape, params: Params) -> list[list[Any]]:
    """Candles of a second, made from the tape's trades."""
    limit = params.limit(KLINES_DEFAULT, KLINES_MAX)
    start, end = _span(params)
    last_ms = tape.last_ms if end is None else min(end, tape.last_ms)
    first_ms = last_ms - (limit - 1) * SECOND_MS if start is None else start
    first_ms = max(tape.first_ms, -(-first_ms // SECOND_MS) * SECOND_MS)
    last_ms = min(last_ms, first_ms + limit * SECOND_MS - 1)
    if first_ms > last_ms:
        return []
    before = list(tape.minutes(first_ms - MINUTE_MS, first_ms - 1))
    price = before[-1].open if before else tape.last_price
    ticks = list(tape.ticks(first_ms - first_ms % MINUTE_MS, last_ms))
    earlier = [tick.price for tick in ticks if tick.time_ms < first_ms and tick.quantity]
    rest = [tick for tick in ticks if tick.time_ms >= first_ms]
    candles = second_candles(rest, first_ms, last_ms, earlier[-1] if earlier else price)
    return [kline_row(candle, "1s") for candle in candles]


def ticker_price(desk: Desk, call: Call) -> Any:
    def one(symbol: str) -> dict[str, Any]:
        return {"symbol": symbol, "price": units_text(desk.exchange.tapes[symbol].last_price)}

    return _one_or_all(desk, call.params, one)


def book_ticker(desk: Desk, call: Call) -> Any:
    return _one_or_all(desk, call.params, lambda symbol: best_quotes(desk.exchange, symbol))


def best_quotes(exchange: Exchange, symbol: str) -> dict[str, Any]:
    """Best bid and ask, the accounts' own orders included."""
    book = exchange.books[symbol]
    quotes: dict[str, Any] = {"symbol": symbol}
    for side, name in ((Side.BUY, "bid"), (Side.SELL, "ask")):
        best = book.depth(side, 1)
        quotes[f"{name}Price"] = money_text(best[0][0]) if best else "0.00000000"
        quotes[f"{name}Qty"] = money_text(best[0][1]) if best else "0.00000000"
    return quotes


def ticker_24hr(desk: Desk, call: Call) -> Any:
    kind = call.params.text("type") or "FULL"
    if kind not in ("FULL", "MINI"):
        raise ExchangeError(-1139, "Invalid ticker type.")
    render = mini_day_json if kind == "MINI" else day_json
    return _one_or_all(desk, call.params, lambda symbol: render(desk.exchange, symbol))


def mini_day_json(exchange: Exchange, symbol: str) -> dict[str, Any]:
    """Rolling 24 hours of a symbol, type MINI."""
    day = exchange.tapes[symbol].day_statistics()
    return {
        "symbol": symbol,
        "openPrice": units_text(day.open),
        "highPrice": units_text(day.high),
        "lowPrice": units_text(day.low),
        "lastPrice": units_text(day.close),
        "volume": units_text(day.volume),
        "quoteVolume": units_text(day.quote_volume),
        "openTime": day.open_ms,
        "closeTime": day.close_ms,
        "firstId": day.first_trade_id if day.trades else -1,
        "lastId": day.first_trade_id + day.trades - 1 if day.trades else -1,
        "count": day.trades,
    }


def day_json(exchange: Exchange, symbol: str) -> dict[str, Any]:
    """Rolling 24 hours of a symbol, type FULL."""
    day = exchange.tapes[symbol].day_statistics()
    change = day.close - day.open
    average = day.quote_volume * 10**8 // day.volume if day.volume else day.close
    sign = "-" if change < 0 else ""
    return mini_day_json(exchange, symbol) | {
        "priceChange": sign + units_text(abs(change)),
        "priceChangePercent": f"{change / day.open * 100:.3f}",
        "weightedAvgPrice": units_text(average),
        "prevClosePrice": units_text(day.open),
        "lastQty": units_text(_last_quantity(exchange.tapes[symbol])),
        **best_quotes(exchange, symbol),
    }


def avg_price(desk: Desk, call: Call) -> dict[str, Any]:
    instrument = desk.instrument(call.params.required("symbol"))
    tape = desk.exchange.tapes[instrument.symbol]
    minutes = instrument.average_price_minutes
    return {"mins": minutes, "price": units_text(tape.average_price(minutes)), "closeTime": tape.last_ms}


def execution_rules(desk: Desk, call: Call) -> dict[str, Any]:
    """GET executionRules: no symbol here has any, beyond its filters."""
    if len(call.params.names() & {"symbol", "symbols", "symbolStatus"}) > 1:
        raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    _symbols(desk, call.params)
    _status(call.params)
    return {"symbolRules": []}


def reference_price(desk: Desk, call: Call) -> dict[str, Any]:
    """GET referencePrice: no symbol here ever had one; the filters use the average price."""
    desk.instrument(call.params.required("symbol"))
    raise ExchangeError(-2043, "This symbol doesn't have a reference price.")


def depth(desk: Desk, call: Call) -> dict[str, Any]:
    instrument = desk.instrument(call.params.required("symbol"))
    _check_status(desk, [instrument.symbol], _status(call.params))
    limit = call.params.limit(DEPTH_DEFAULT, DEPTH_MAX)
    book = desk.exchange.books[instrument.symbol]
    sides = {}
    for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
        sides[name] = [[money_text(price), money_text(amount)] for price, amount in book.depth(side, limit)]
    return {"lastUpdateId": book.update_id, **sides}


def trades(desk: Desk, call: Call) -> list[dict[str, Any]]:
    tape = _tape(desk, call.params)
    limit = call.params.limit(TRADES_DEFAULT, TRADES_MAX)
    return [public_trade(tick) for tick in list(tape.recent)[-limit:]]


def historical_trades(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """Trades from an id on, as far back as the market's candles go; the latest ones without an id."""
    from_id = call.params.integer("fromId")
    if from_id is None:
        return trades(desk, call)
    limit = call.params.limit(TRADES_DEFAULT, TRADES_MAX)
    return [public_trade(tick) for tick in islice(_tape(desk, call.params).trades_from(from_id), limit)]


def agg_trades(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """Aggregate trades from an id or in a span, as far back as the market's candles go."""
    tape = _tape(desk, call.params)
    limit = call.params.limit(TRADES_DEFAULT, TRADES_MAX)
    from_id = call.params.integer("fromId")
    start, end = _span(call.params)
    if from_id is not None and (start is not None or end is not None):
        raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    if from_id is not None:
        ticks = tape.trades_from(from_id)
    elif start is not None:
        ticks = tape.ticks(start, tape.last_ms if end is None else min(end, tape.last_ms))
    elif end is not None:
        ticks = tape.ticks(max(tape.first_ms, end - END_ONLY_MS), min(end, tape.last_ms))
    else:
        ticks = iter(tape.recent)
    found = (tick for tick in ticks if tick.quantity)
    if from_id is None and start is None:
        return [agg_trade(tick) for tick in deque(found, maxlen=limit)]
    return [agg_trade(tick) for tick in islice(found, limit)]


def _last_quantity(tape: SymbolTape) -> int:
    return tape.recent[-1].quantity if tape.recent else 0


def _span_ms(interval: str, count: int) -> int:
    if interval == "1M":
        return count * 31 * DAY_MS
    if interval == "1w":
        return count * 7 * DAY_MS
    return count * FIXED_INTERVALS_MS[interval]


def _tape(desk: Desk, params: Params) -> SymbolTape:
    return desk.exchange.tapes[desk.instrument(params.required("symbol")).symbol]


def _symbols(desk: Desk, params: Params) -> list[str] | None:
    """`symbol` or `symbols` (a JSON list); None when neither was sent. An unknown one refuses all."""
    if params.has("symbol") and params.has("symbols"):
        raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    if params.has("symbol"):
        return [desk.instrument(params.required("symbol")).symbol]
    if not params.has("symbols"):
        return None
    names = _names(params, "symbols")
    if len(set(names)) < len(names):
        raise ExchangeError(-1151, "Symbol is present multiple times in the list.")
    for name in names:
        if name not in desk.exchange.instruments:
            raise invalid_symbol()
    return names


def _names(params: Params, name: str) -> list[str]:
    """A JSON list of names, or a single one."""
    text = params.required(name)
    try:
        names = json.loads(text) if text.startswith("[") else [text]
    except ValueError:
        names = None
    if name == "symbols" and not text.startswith("["):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(entry, str) for entry in names):
        raise illegal_characters(name, r"^\[\"[\w\-._&&[^a-z]]{1,50}\"(,\"[\w\-._&&[^a-z]]{1,50}\"){0,}\]$")
    return names


def _one_or_all(desk: Desk, params: Params, one: Any) -> Any:
    symbols, status = _symbols(desk, params), _status(params)
    if symbols is not None:
        _check_status(desk, symbols, status)
    if params.has("symbol"):
        assert symbols is not None
        return one(symbols[0])
    instruments = desk.exchange.instruments
    everything = [symbol for symbol in instruments if status in (None, instruments[symbol].status)]
    return [one(symbol) for symbol in symbols or everything]
