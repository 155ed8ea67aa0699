"""Indicators of 100 symbols on a closed minute: ours, bare TA-Lib streaming handles, and the DataFrame way.

python -m benchmarks.market_indicators
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import talib
from talib import abstract

from benchmarks.figures import figure, print_table
from market.contracts import WINDOW_CANDLES, Candle, Interval

SYMBOLS = 100
ROUNDS = 20
DATAFRAME_ROUNDS = 3
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


def timed(work: Callable[[], Any], rounds: int) -> list[float]:
    """Milliseconds of each round."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def check_values(symbols: list[list[Candle]], ours: Callable[[list[Candle]], dict[str, Decimal]]) -> int:
    """How many values were compared; SystemExit when one differs from the DataFrame way's."""
    compared = 0
    for candles in symbols:
        facts = ours(candles)
        for name, value in dataframe_way(pd.DataFrame(arrays_of(candles))).items():
            mine = float(facts[f"{name}_1m"])
            if abs(mine - value) > TOLERANCE * max(1.0, abs(value)):
                raise SystemExit(f"{name} of {candles[0].symbol} differs: {mine} and {value}")
            compared += 1
    return compared


def main() -> int:
    from market.rules.indicators import compute_facts

    symbols = [walk(seed, WINDOW_CANDLES) for seed in range(SYMBOLS)]
    columns = [arrays_of(candles) for candles in symbols]
    handles = [Handles(column) for column in columns]
    last = [
        tuple(float(column[name][-1]) for name in ("high", "low", "close", "volume")) for column in columns
    ]
    frames = [pd.DataFrame(column) for column in columns]
    print(f"values compared with the DataFrame way: {check_values(symbols, compute_facts)}, different: 0")
    ours = timed(lambda: [compute_facts(candles) for candles in symbols], ROUNDS)
    bare = timed(lambda: [h.update(*row) for h, row in zip(handles, last, strict=True)], ROUNDS)
    slow = timed(lambda: [dataframe_way(frame.copy()) for frame in frames], DATAFRAME_ROUNDS)
    name = f"indicators of {SYMBOLS} symbols, {WINDOW_CANDLES} candles"
    print_table(
        [
            figure(f"{name}: ours", ours, least=1, baseline=("15 bare handles a symbol", bare)),
            figure(f"{name}: ours", ours, least=1, baseline=("the DataFrame way", slow)),
        ]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
