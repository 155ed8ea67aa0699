"""Indicators: TA-Lib over the last WINDOW_CANDLES closed candles. Same candles, same text.

Import this module where it is needed and not before: TA-Lib and NumPy cost a process some 50 MB.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from operator import attrgetter

import numpy as np
import talib
from numpy.typing import NDArray

from market.contracts import WINDOW_CANDLES, Candle, StaleData

SIGNIFICANT_DIGITS = 10
VWAP_CANDLES = 60
VOLATILITY_CANDLES = 30

Series = NDArray[np.float64]


def compute_facts(candles: Sequence[Candle]) -> dict[str, Decimal]:
    """Indicator values by id (`ema_9_1m`) at the last of exactly WINDOW_CANDLES closed candles.

    Raises StaleData when there are fewer or more, or when a value is not a number.
    """
    if len(candles) != WINDOW_CANDLES:
        raise StaleData(f"{len(candles)} closed candles, and the indicators need {WINDOW_CANDLES}")
    suffix = candles[-1].interval.value
    high, low, close = (_series(candles, name) for name in ("high", "low", "close"))
    volume = _series(candles, "volume")
    values = {
        "close": float(close[-1]),
        **_trend(high, low, close),
        **_momentum(high, low, close),
        **_range(high, low, close),
        **_volume(high, low, close, volume),
        **_returns(close),
    }
    return {f"{name}_{suffix}": _rounded(name, value) for name, value in values.items()}


def _series(candles: Sequence[Candle], name: str) -> Series:
    # Not dtype=float64 on the Decimals: NumPy takes twice as long over each of them as float().
    return np.array([float(number) for number in map(attrgetter(name), candles)])


def _trend(high: Series, low: Series, close: Series) -> dict[str, float]:
    return {
        "ema_9": _last(talib.EMA(close, 9)),
        "ema_21": _last(talib.EMA(close, 21)),
        "ema_50": _last(talib.EMA(close, 50)),
        "sma_20": _last(talib.SMA(close, 20)),
        "adx_14": _last(talib.ADX(high, low, close, 14)),
    }


def _momentum(high: Series, low: Series, close: Series) -> dict[str, float]:
    macd, signal, histogram = talib.MACD(close, 12, 26, 9)
    k, d = talib.STOCH(high, low, close, fastk_period=14, slowk_period=3, slowd_period=3)
    return {
        "rsi_14": _last(talib.RSI(close, 14)),
        "macd": _last(macd),
        "macd_signal": _last(signal),
        "macd_hist": _last(histogram),
        "stoch_k": _last(k),
        "stoch_d": _last(d),
    }


def _range(high: Series, low: Series, close: Series) -> dict[str, float]:
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    return {
        "bollinger_upper": _last(upper),
        "bollinger_middle": _last(middle),
        "bollinger_lower": _last(lower),
        "atr_14": _last(talib.ATR(high, low, close, 14)),
    }


def _volume(high: Series, low: Series, close: Series, volume: Series) -> dict[str, float]:
    """OBV starts with the window's first volume; VWAP of a window without trades is the last close."""
    recent = slice(-VWAP_CANDLES, None)
    typical, traded = ((high + low + close) / 3)[recent], volume[recent]
    total = float(traded.sum())
    return {
        "obv": _last(talib.OBV(close, volume)),
        f"vwap_{VWAP_CANDLES}": float((typical * traded).sum()) / total if total else float(close[-1]),
    }


def _returns(close: Series) -> dict[str, float]:
    """Simple returns, and the sample standard deviation of log returns (per candle, not annualised)."""
    logarithmic = np.diff(np.log(close[-VOLATILITY_CANDLES - 1 :]))
    simple = {f"return_{n}": float(close[-1] / close[-1 - n]) - 1 for n in (1, 5, 15)}
    return {**simple, f"volatility_{VOLATILITY_CANDLES}": float(logarithmic.std(ddof=1))}


def _last(series: Series) -> float:
    return float(series[-1])


def _rounded(name: str, value: float) -> Decimal:
    if not math.isfinite(value):
        raise StaleData(f"the indicator {name} has no value on these candles")
    return Decimal(f"{value:.{SIGNIFICANT_DIGITS}g}") + 0
