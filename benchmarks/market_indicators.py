"""Indicators of 100 symbols on a closed minute: ours, bare TA-Lib streaming handles, and the DataFrame way.

All three are given numbers in memory, minute after minute over two anchors (market.contracts.ANCHOR_CANDLES),
in turns within one process. Ours is measured in three depths: the values alone, the whole rule from the stored
bytes to the facts of a snapshot, and the same by a process that has kept nothing.

python -m benchmarks.market_indicators
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import talib
from talib import abstract

from benchmarks.figures import figure, print_table
from market.contracts import ANCHOR_CANDLES, WARM_UP_CANDLES, WINDOW_CANDLES, Candle, Interval
from market.rules import window_length
from market.rules.indicators import Indicators
from market.rules.windows import BAR, Window, facts_of, follow

SYMBOLS = 100
MINUTES = 2 * ANCHOR_CANDLES
DATAFRAME_EVERY = 8  # one of so many minutes: it takes a thousand times as long as the rest
START = datetime(2026, 3, 2, tzinfo=UTC)
TOLERANCE = 1e-9


def walk(seed: int, count: int) -> list[Candle]:
    """Closed 1m candles of a random walk."""
    source, price, candles = Random(seed), Decimal("50000.00"), []
    for number in range(count):
        opened, price = price, price + Decimal(source.randint(-4000, 4000)) / 100
        high = max(opened, price) + Decimal(source.randint(0, 900)) / 100
        low = min(opened, price) - Decimal(source.randint(0, 900)) / 100
        volume = Decimal(source.randint(1, 500_000)) / 100_000
        at = START + number * timedelta(minutes=1)
        candles.append(
            Candle(
                symbol=f"S{seed}", interval=Interval.M1, open_time=at,
                close_time=at + timedelta(milliseconds=59_999), open=opened, high=high, low=low, close=price,
                volume=volume, quote_volume=volume * price, trade_count=1,
            )
        )  # fmt: skip
    return candles


class Handles:
    """Fifteen bare streaming handles of a symbol."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        high, low, close, volume = (arrays[name] for name in ("high", "low", "close", "volume"))
        lib = talib._ta_lib
        self.by_close = [
            lib.EMA_Stream(close, 9), lib.EMA_Stream(close, 21), lib.EMA_Stream(close, 50),
            lib.SMA_Stream(close, 20), lib.RSI_Stream(close, 14), lib.MACD_Stream(close, 12, 26, 9),
            lib.BBANDS_Stream(close, 20, 2.0, 2.0), lib.ROC_Stream(close, 1), lib.ROC_Stream(close, 5),
            lib.ROC_Stream(close, 15), lib.STDDEV_Stream(close, 30),
        ]  # fmt: skip
        self.by_range = [lib.ADX_Stream(high, low, close, 14), lib.ATR_Stream(high, low, close, 14)]
        self.stochastic = lib.STOCH_Stream(high, low, close, 14, 3, 0, 3, 0)
        self.obv = lib.OBV_Stream(close, volume)

    def update(self, high: float, low: float, close: float, volume: float) -> None:
        for handle in self.by_close:
            handle.update(close)
        for handle in self.by_range:
            handle.update(high, low, close)
        self.stochastic.update(high, low, close)
        self.obv.update(close, volume)


def arrays_of(candles: list[Candle]) -> dict[str, Any]:
    """The float columns of the candles."""
    names = ("open", "high", "low", "close", "volume")
    return {name: np.array([getattr(c, name) for c in candles], dtype=np.float64) for name in names}


def dataframe_way(frame: pd.DataFrame) -> dict[str, float]:
    """As freqtrade's strategies do it: one column a line over the whole frame, and its last row is used."""
    for period in (9, 21, 50):
        frame[f"ema_{period}"] = abstract.EMA(frame, timeperiod=period)
    frame["sma_20"] = abstract.SMA(frame, timeperiod=20)
    frame["rsi_14"] = abstract.RSI(frame, timeperiod=14)
    macd = abstract.MACD(frame, fastperiod=12, slowperiod=26, signalperiod=9)
    frame["macd"], frame["macd_signal"], frame["macd_hist"] = (
        macd["macd"],
        macd["macdsignal"],
        macd["macdhist"],
    )
    bands = abstract.BBANDS(frame, timeperiod=20, nbdevup=2.0, nbdevdn=2.0)
    frame["bollinger_upper"], frame["bollinger_lower"] = bands["upperband"], bands["lowerband"]
    frame["adx_14"] = abstract.ADX(frame, timeperiod=14)
    frame["atr_14"] = abstract.ATR(frame, timeperiod=14)
    stochastic = abstract.STOCH(frame, fastk_period=14, slowk_period=3, slowd_period=3)
    frame["stoch_k"], frame["stoch_d"] = stochastic["slowk"], stochastic["slowd"]
    frame["obv"] = abstract.OBV(frame)
    for count in (1, 5, 15):
        frame[f"return_{count}"] = frame["close"].pct_change(count)
    frame["volatility_30"] = np.log(frame["close"]).diff().rolling(30).std()
    recent = frame.iloc[-60:]
    typical = (recent["high"] + recent["low"] + recent["close"]) / 3
    vwap = (typical * recent["volume"]).sum() / recent["volume"].sum()
    row = frame.iloc[-1]
    names = [name for name in frame.columns if name not in ("open", "high", "low", "close", "volume")]
    return {**{name: float(row[name]) for name in names}, "vwap_60": float(vwap)}


@dataclass(slots=True)
class Symbol:
    """One symbol's candles, and what each way keeps of them."""

    candles: list[Candle]
    bars: list[tuple[float, float, float, float]]
    stored: bytes
    handles: Handles
    indicators: Indicators
    kept: Window | None = None

    @classmethod
    def at(cls, seed: int, count: int) -> "Symbol":
        """A symbol whose ways all stand at the candle before number `count`."""
        candles = walk(seed, count + MINUTES)
        bars = [(float(c.high), float(c.low), float(c.close), float(c.volume)) for c in candles]
        since_2000 = (START - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        stored = b"".join(BAR.pack(since_2000 + n * 60_000_000, *bar) for n, bar in enumerate(bars))
        first = count - window_length(candles[count - 1].open_time, Interval.M1)
        symbol = cls(
            candles,
            bars,
            stored,
            Handles(arrays_of(candles[first:count])),
            Indicators(*zip(*bars[first:count], strict=True)),
        )
        symbol.kept = follow(None, symbol.newest(count - 1), Interval.M1)
        return symbol

    def newest(self, minute: int) -> bytes:
        """What Postgres hands over when candle number `minute` is the newest."""
        return self.stored[(minute + 1 - WINDOW_CANDLES) * BAR.size : (minute + 1) * BAR.size]


def main() -> int:
    symbols = [Symbol.at(seed, WINDOW_CANDLES + 1) for seed in range(SYMBOLS)]
    taken: dict[str, list[float]] = {name: [] for name in ("bare", "values", "rule", "anew", "frames")}
    compared = 0
    for minute in range(WINDOW_CANDLES + 1, WINDOW_CANDLES + 1 + MINUTES):
        taken["bare"].append(timed(lambda: [s.handles.update(*s.bars[minute]) for s in symbols]))  # noqa: B023
        taken["values"].append(timed(lambda: [take_values(s, minute) for s in symbols]))  # noqa: B023
        taken["rule"].append(timed(lambda: [take_facts(s, minute) for s in symbols]))  # noqa: B023
        if minute % DATAFRAME_EVERY == 0:
            compared += compare(symbols, minute, taken)
    print(f"values compared with the DataFrame way: {compared}, different: 0")
    print_figures(taken)
    return 0


def take_values(symbol: Symbol, minute: int) -> None:
    """Carry the indicators forward; at an anchor open them anew."""
    count = window_length(symbol.candles[minute].open_time, Interval.M1)
    if count == WARM_UP_CANDLES:
        symbol.indicators = Indicators(*zip(*symbol.bars[minute + 1 - count : minute + 1], strict=True))
    else:
        symbol.indicators.update(*symbol.bars[minute])


def take_facts(symbol: Symbol, minute: int) -> dict[str, Decimal]:
    """What a snapshot does with the bytes that Postgres hands over."""
    symbol.kept = follow(symbol.kept, symbol.newest(minute), Interval.M1)
    return facts_of(symbol.kept, Interval.M1)


def compare(symbols: list[Symbol], minute: int, taken: dict[str, list[float]]) -> int:
    """How many values were compared (the DataFrame way gets the same window); SystemExit when one differs."""
    count = window_length(symbols[0].candles[minute].open_time, Interval.M1)
    frames = [pd.DataFrame(arrays_of(s.candles[minute + 1 - count : minute + 1])) for s in symbols]
    theirs: list[dict[str, float]] = []
    taken["frames"].append(timed(lambda: theirs.extend(dataframe_way(frame) for frame in frames)))
    anew: list[dict[str, Decimal]] = []
    taken["anew"].append(
        timed(lambda: anew.extend(facts_of(follow(None, s.newest(minute), Interval.M1), Interval.M1) for s in symbols))
    )  # fmt: skip
    compared = 0
    for symbol, fresh, values in zip(symbols, anew, theirs, strict=True):
        if symbol.kept is None or fresh != facts_of(symbol.kept, Interval.M1):
            raise SystemExit(f"{symbol.candles[0].symbol}: kept and opened anew differ")
        if symbol.kept.indicators.values != symbol.indicators.values:
            raise SystemExit(f"{symbol.candles[0].symbol}: the rule and the values alone differ")
        for name, value in values.items():
            mine = float(fresh[f"{name}_1m"])
            if abs(mine - value) > TOLERANCE * max(1.0, abs(value)):
                raise SystemExit(f"{name} of {symbol.candles[0].symbol} differs: {mine} and {value}")
            compared += 1
    return compared


def print_figures(taken: dict[str, list[float]]) -> None:
    """The table, and the means: a median does not see the rounds at the anchors."""
    bare, frames = ("15 bare handles a symbol", taken["bare"]), ("the DataFrame way", taken["frames"])
    named = {
        "values alone": "values",
        "stored bytes to facts, kept": "rule",
        "stored bytes to facts, opened anew": "anew",
    }
    print_table(
        [
            figure(f"{SYMBOLS} symbols, {name}", taken[key], least=5, baseline=baseline)
            for name, key in named.items()
            for baseline in (bare, frames)
        ]
    )
    for name, key in named.items():
        print(
            f"mean of {name}: {fmean(taken[key]):.2f} ms, "
            f"{fmean(taken[key]) / fmean(taken['bare']):.2f} of bare handles, "
            f"the DataFrame way takes {fmean(taken['frames']) / fmean(taken[key]):.0f} times as long"
        )


def timed(work: Callable[[], Any]) -> float:
    """Milliseconds of processor time that `work` takes: others use this machine as well."""
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


if __name__ == "__main__":
    sys.exit(main())
