"""The indicators of one symbol and interval: TA-Lib's streaming handles, and sums for what it has no handle for.

EMA, RSI, ATR, ADX and MACD remember everything since they were opened, so that the same candle gives another
value in a window that starts elsewhere. Therefore the start of the window is part of their definition
(market.contracts.WINDOW_CANDLES): from there on, going on with `update` gives bit for bit what opening anew on
the same candles gives. Kept `Indicators` are a cache, and never another value.

Import this module where it is needed and not before: TA-Lib and NumPy cost a process some 50 MB.
"""

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from talib import stream

NAMES = (
    "close", "ema_9", "ema_21", "ema_50", "sma_20", "adx_14", "macd", "macd_signal", "macd_hist", "rsi_14",
    "stoch_k", "stoch_d", "bollinger_upper", "bollinger_middle", "bollinger_lower", "atr_14", "obv", "vwap_60",
    "return_1", "return_5", "return_15", "volatility_30",
)  # fmt: skip
VWAP_CANDLES = 60
VOLATILITY_CANDLES = 30
_SAMPLE_DIVISOR = math.sqrt(VOLATILITY_CANDLES - 1)


class Indicators:
    """`values` of NAMES at the last candle that was taken. Not for two threads at once.

    When `update` raises, the handles no longer stand at the same candle: throw the object away.
    """

    __slots__ = (
        "_adx", "_atr", "_bands", "_closes", "_ema_9", "_ema_21", "_ema_50", "_log_returns", "_macd", "_obv",
        "_rsi", "_stochastic", "_traded", "_turnover", "values",
    )  # fmt: skip

    def __init__(
        self, highs: Sequence[float], lows: Sequence[float], closes: Sequence[float], volumes: Sequence[float]
    ) -> None:
        """Columns from the first candle of the window to the newest, at least WARM_UP_CANDLES of them."""
        high, low, close, volume = (np.array(column[:-1]) for column in (highs, lows, closes, volumes))
        self._ema_9 = stream.EMA(close, 9)
        self._ema_21 = stream.EMA(close, 21)
        self._ema_50 = stream.EMA(close, 50)
        self._rsi = stream.RSI(close, 14)
        self._macd = stream.MACD(close, 12, 26, 9)
        self._bands = stream.BBANDS(close, 20, 2.0, 2.0)
        self._adx = stream.ADX(high, low, close, 14)
        self._atr = stream.ATR(high, low, close, 14)
        self._stochastic = stream.STOCH(high, low, close, 14, 3, 0, 3, 0)
        self._obv = stream.OBV(close, volume)
        self._closes = deque(closes[-VOLATILITY_CANDLES - 2 : -1], VOLATILITY_CANDLES + 1)
        self._log_returns = [math.log(after / before) for before, after in pairwise(self._closes)]
        recent = slice(-VWAP_CANDLES - 1, -1)
        self._turnover = deque(
            map(_turnover, highs[recent], lows[recent], closes[recent], volumes[recent]), VWAP_CANDLES
        )
        self._traded = deque(volumes[recent], VWAP_CANDLES)
        self.values = self.update(highs[-1], lows[-1], closes[-1], volumes[-1])

    def update(self, high: float, low: float, close: float, volume: float) -> tuple[float, ...]:
        """Take the next closed candle; the values at it.

        OBV starts with the window's first volume. Returns are simple ones; volatility is the sample standard
        deviation of log returns, per candle and not annualised. VWAP and volatility are summed anew for each
        candle: prices that stand still give exactly 0 and a window without trades exactly the last close, and
        a running sum would miss both. A tuple and no dictionary, since building one takes a tenth of the time.
        """
        closes, log_returns, traded, turnover = self._closes, self._log_returns, self._traded, self._turnover
        log_returns.append(math.log(close / closes[-1]))
        del log_returns[0]
        closes.append(close)
        turnover.append(_turnover(high, low, close, volume))
        traded.append(volume)
        total = sum(traded)
        mean = math.log(close / closes[0]) / VOLATILITY_CANDLES
        upper, sma_20, lower = self._bands.update(close)  # the middle one is the mean of the same 20 closes
        self.values = (
            close,
            self._ema_9.update(close),
            self._ema_21.update(close),
            self._ema_50.update(close),
            sma_20,
            self._adx.update(high, low, close),
            *self._macd.update(close),
            self._rsi.update(close),
            *self._stochastic.update(high, low, close),
            upper,
            sma_20,
            lower,
            self._atr.update(high, low, close),
            self._obv.update(close, volume),
            sum(turnover) / total if total else close,
            close / closes[-2] - 1,
            close / closes[-6] - 1,
            close / closes[-16] - 1,
            math.dist(log_returns, (mean,) * VOLATILITY_CANDLES) / _SAMPLE_DIVISOR,
        )
        return self.values


def _turnover(high: float, low: float, close: float, volume: float) -> float:
    """The volume at its typical price."""
    return (high + low + close) / 3 * volume
