"""Deterministic market data for tests: candles of a seeded random walk, filters, frames."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from market.contracts import Candle, Interval

START = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def walk(count: int, *, symbol: str = "BTCUSDT", seed: int = 7, start: datetime = START) -> list[Candle]:
    """`count` contiguous closed 1m candles."""
    source = random.Random(seed)
    price, candles = Decimal("50000.00"), []
    for number in range(count):
        opened = price
        price += Decimal(source.randint(-4000, 4000)) / 100
        high = max(opened, price) + Decimal(source.randint(0, 900)) / 100
        low = min(opened, price) - Decimal(source.randint(0, 900)) / 100
        volume = Decimal(source.randint(0, 500_000)) / 100_000
        open_time = start + number * MINUTE
        candles.append(
            Candle(
                symbol=symbol,
                interval=Interval.M1,
                open_time=open_time,
                close_time=open_time + MINUTE - timedelta(milliseconds=1),
                open=opened,
                high=high,
                low=low,
                close=price,
                volume=volume,
                quote_volume=(volume * price).quantize(Decimal("0.00000001")),
                trade_count=source.randint(1, 400),
            )
        )
    return candles


def row(candle: Candle) -> list[Any]:
    """The candle as GET /api/v3/klines sends it."""
    return [
        milliseconds(candle.open_time),
        str(candle.open),
        str(candle.high),
        str(candle.low),
        str(candle.close),
        str(candle.volume),
        milliseconds(candle.close_time),
        str(candle.quote_volume),
        candle.trade_count,
        "0",
        "0",
        "0",
    ]


def kline_frame(candle: Candle, *, closed: bool = True, **changes: Any) -> dict[str, Any]:
    """The candle as the combined stream sends it; `changes` replace fields of `k`."""
    k = {
        "t": milliseconds(candle.open_time),
        "T": milliseconds(candle.close_time),
        "s": candle.symbol,
        "i": candle.interval.value,
        "f": 1,
        "L": 2,
        "o": str(candle.open),
        "c": str(candle.close),
        "h": str(candle.high),
        "l": str(candle.low),
        "v": str(candle.volume),
        "n": candle.trade_count,
        "x": closed,
        "q": str(candle.quote_volume),
        "V": "0",
        "Q": "0",
        "B": "0",
    }
    data = {"e": "kline", "E": milliseconds(candle.close_time), "s": candle.symbol, "k": k | changes}
    return {"stream": f"{candle.symbol.lower()}@kline_{candle.interval.value}", "data": data}


def ticker_frame(symbol: str = "BTCUSDT", **changes: Any) -> dict[str, Any]:
    data = {"u": 1, "s": symbol, "b": "50000.00", "B": "1.5", "a": "50000.10", "A": "2.25"}
    return {"stream": f"{symbol.lower()}@bookTicker", "data": data | changes}


def trade_row(number: int, **changes: Any) -> dict[str, Any]:
    """An aggregate trade as GET /api/v3/aggTrades sends it; a second after the one before it."""
    row = {"a": number, "p": f"{50000 + number % 100}.10", "q": "0.25", "f": number, "l": number}
    return row | {"T": milliseconds(START) + number * 1000, "m": number % 2 == 0, "M": True} | changes


def trade_frame(row: dict[str, Any], symbol: str = "BTCUSDT") -> dict[str, Any]:
    """The trade as the combined stream sends it."""
    return {
        "stream": f"{symbol.lower()}@aggTrade",
        "data": {"e": "aggTrade", "E": row["T"], "s": symbol} | row,
    }


def listing(symbol: str = "BTCUSDT", *, filters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """One entry of exchangeInfo's `symbols`."""
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol.removesuffix("USDT"),
        "quoteAsset": "USDT",
        "orderTypes": ["LIMIT", "MARKET"],
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": False,
        "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
        "filters": FILTERS if filters is None else filters,
    }


FILTERS: list[dict[str, Any]] = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
    {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.00", "stepSize": "0.00001"},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00", "maxQty": "141.68", "stepSize": "0.00"},
    {
        "filterType": "NOTIONAL",
        "minNotional": "5.00",
        "applyMinToMarket": True,
        "maxNotional": "9000000.00",
        "applyMaxToMarket": False,
        "avgPriceMins": 5,
    },
    {
        "filterType": "PERCENT_PRICE_BY_SIDE",
        "bidMultiplierUp": "2",
        "bidMultiplierDown": "0.5",
        "askMultiplierUp": "3",
        "askMultiplierDown": "0.4",
        "avgPriceMins": 5,
    },
    {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
    {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
    {"filterType": "TRAILING_DELTA", "minTrailingAboveDelta": 10},
]
