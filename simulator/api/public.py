"""Market data: endpoints that need no key. All times here are market time, except GET time."""

from __future__ import annotations

import json
from typing import Any

from simulator.api.desk import Call, Desk
from simulator.api.limits import rate_limits_json
from simulator.api.params import Params
from simulator.api.render import agg_trade, kline_row, public_trade
from simulator.decimals import money_text, units_text
from simulator.engine.contracts import Side
from simulator.engine.errors import ExchangeError, illegal_characters, invalid_symbol
from simulator.engine.exchange import Exchange
from simulator.engine.instruments import STATUSES, instrument_json
from simulator.market.candles import (
    DAY_MS,
    FIXED_INTERVALS_MS,
    INTERVALS,
    MINUTE_MS,
    aggregate,
    interval_open_ms,
)
from simulator.market.seconds import SECOND_MS, second_candles
from simulator.market.tape import SymbolTape

KLINES_DEFAULT, KLINES_MAX = 500, 1000
TRADES_DEFAULT, TRADES_MAX = 500, 1000
DEPTH_DEFAULT, DEPTH_MAX = 100, 5000


def ping(desk: Desk, call: Call) -> dict[str, Any]:
    return {}


def time(desk: Desk, call: Call) -> dict[str, Any]:
    return {"serverTime": call.now_ms}


def exchange_info(desk: Desk, call: Call) -> dict[str, Any]:
    named = _symbols(desk, call.params)
    symbols = named or list(desk.exchange.instruments)
    status = call.params.text("symbolStatus")
    if status is not None:
        if status not in STATUSES:
            raise illegal_characters("symbolStatus", f"^({'|'.join(STATUSES)})$")
        if named:
            raise ExchangeError(-1128, "Combination of optional parameters invalid.")
        symbols = [symbol for symbol in symbols if desk.exchange.instruments[symbol].status == status]
    return {
        "timezone": "UTC",
        "serverTime": call.now_ms,
        "rateLimits": rate_limits_json(),
        "exchangeFilters": desk.exchange.rules.filters_json(),
        "symbols": [instrument_json(desk.instrument(symbol)) for symbol in symbols],
    }


def klines(desk: Desk, call: Call) -> list[list[Any]]:
    """Candles of market time; the last one may be open. Longer intervals are derived from minutes."""
    tape = _tape(desk, call.params)
    interval = call.params.required("interval")
    if interval == "1s":
        return _second_klines(tape, call.params)
    if interval not in INTERVALS:
        raise ExchangeError(-1120, "Invalid interval.")
    limit = call.params.limit(KLINES_DEFAULT, KLINES_MAX)
    start = call.params.integer("startTime")
    end = call.params.integer("endTime")
    last_ms = tape.last_ms if end is None else min(end, tape.last_ms)
    span_ms = _span_ms(interval, limit)
    if start is None:
        first_ms = interval_open_ms(interval, max(0, last_ms - span_ms))
        rows = [
            kline_row(candle, interval) for candle in aggregate(interval, tape.minutes(first_ms, last_ms))
        ]
        # Minutes missing from the market make fewer candles than the span holds: look further back.
        if len(rows) < limit and tape.first_ms < first_ms:
            all_minutes = tape.minutes(0, last_ms)
            rows = [kline_row(candle, interval) for candle in aggregate(interval, all_minutes)]
        return rows[-limit:]
    # A candle is named by its open time: the first one opens at or after startTime.
    first_ms = interval_open_ms(interval, start)
    if first_ms < start:
        first_ms = interval_open_ms(interval, start + _span_ms(interval, 1))
    stop_ms = min(last_ms, first_ms + span_ms + _span_ms(interval, 1))
    rows = []
    for candle in aggregate(interval, tape.minutes(first_ms, stop_ms)):
        if end is not None and candle.open_ms > end:
            break
        rows.append(kline_row(candle, interval))
    return rows[:limit]


def _second_klines(tape: SymbolTape, params: Params) -> list[list[Any]]:
    """Candles of a second, made from the tape's trades."""
    limit = params.limit(KLINES_DEFAULT, KLINES_MAX)
    start, end = params.integer("startTime"), params.integer("endTime")
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
    mini = (call.params.text("type") or "FULL") == "MINI"

    render = mini_day_json if mini else day_json
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


def depth(desk: Desk, call: Call) -> dict[str, Any]:
    instrument = desk.instrument(call.params.required("symbol"))
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


def agg_trades(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """The last trades kept in memory (1000 a symbol); older ones are not answered."""
    tape = _tape(desk, call.params)
    limit = call.params.limit(TRADES_DEFAULT, TRADES_MAX)
    from_id = call.params.integer("fromId")
    start, end = call.params.integer("startTime"), call.params.integer("endTime")
    ticks = [
        tick
        for tick in tape.recent
        if (from_id is None or tick.trade_id >= from_id)
        and (start is None or tick.time_ms >= start)
        and (end is None or tick.time_ms <= end)
    ]
    oldest_first = from_id is not None or start is not None
    return [agg_trade(tick) for tick in (ticks[:limit] if oldest_first else ticks[-limit:])]


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
    text = params.text("symbols")
    if text is None:
        return None
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise illegal_characters(
            "symbols", r"^\[\"[\w\-._&&[^a-z]]{1,50}\"(,\"[\w\-._&&[^a-z]]{1,50}\"){0,}\]$"
        )
    for name in names:
        if name not in desk.exchange.instruments:
            raise invalid_symbol()
    return names


def _one_or_all(desk: Desk, params: Params, one: Any) -> Any:
    symbols = _symbols(desk, params)
    if params.has("symbol"):
        assert symbols is not None
        return one(symbols[0])
    return [one(symbol) for symbol in symbols or desk.exchange.instruments]
