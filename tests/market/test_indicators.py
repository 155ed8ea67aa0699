"""The indicators' values against pandas written from the definitions, on recorded minutes and a random walk."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from market import rules
from market.contracts import ANCHOR_CANDLES, WARM_UP_CANDLES, Candle, Interval
from market.rules.indicators import NAMES
from market.rules.recordings import RecordedCandle
from market.rules.windows import facts_of, follow
from tests.market.bars import packed, recorded_minutes
from tests.market.builders import START, walk


def facts(
    candles: list[Candle] | list[RecordedCandle], interval: Interval = Interval.M1
) -> dict[str, Decimal]:
    return facts_of(follow(None, packed(candles), interval), interval)


class Definitions:
    """Every indicator at the last of `candles`, all of which are its window."""

    def __init__(self, candles: list[Candle] | list[RecordedCandle]) -> None:
        columns = ("high", "low", "close", "volume")
        frame = pd.DataFrame({name: [float(getattr(c, name)) for c in candles] for name in columns})
        self.close, self.high, self.low, self.volume = (
            frame[name] for name in ("close", "high", "low", "volume")
        )

    def expected(self) -> dict[str, float]:
        close, log_returns = self.close, np.log(self.close).diff()
        middle, deviation = close.iloc[-20:].mean(), close.iloc[-20:].std(ddof=0)
        macd, signal = self.macd()
        stoch_k, stoch_d = self.stochastic()
        return {
            "close": float(close.iloc[-1]),
            "ema_9": float(ema(close, 9).iloc[-1]),
            "ema_21": float(ema(close, 21).iloc[-1]),
            "ema_50": float(ema(close, 50).iloc[-1]),
            "sma_20": float(close.rolling(20).mean().iloc[-1]),
            "adx_14": self.adx(),
            "rsi_14": self.rsi(),
            "macd": macd,
            "macd_signal": signal,
            "macd_hist": macd - signal,
            "stoch_k": stoch_k,
            "stoch_d": stoch_d,
            "bollinger_upper": middle + 2 * deviation,
            "bollinger_middle": middle,
            "bollinger_lower": middle - 2 * deviation,
            "atr_14": float(wilder(self.true_range(), 14).iloc[-1]),
            "obv": self.obv(),
            "vwap_60": self.vwap(),
            "return_1": float(close.iloc[-1] / close.iloc[-2] - 1),
            "return_5": float(close.iloc[-1] / close.iloc[-6] - 1),
            "return_15": float(close.iloc[-1] / close.iloc[-16] - 1),
            "volatility_30": float(log_returns.iloc[-30:].std(ddof=1)),
        }

    def true_range(self) -> pd.Series:
        before = self.close.shift()
        return (
            pd.concat([self.high - self.low, (self.high - before).abs(), (self.low - before).abs()], axis=1)
            .max(axis=1)
            .iloc[1:]
        )

    def rsi(self) -> float:
        change = self.close.diff().iloc[1:]
        gain, loss = wilder(change.clip(lower=0), 14), wilder(-change.clip(upper=0), 14)
        return float((100 * gain / (gain + loss)).iloc[-1])

    def macd(self) -> tuple[float, float]:
        """Both averages start where the slower one can: TA-Lib seeds the fast one on the same bar."""
        slow, fast = ema(self.close, 26), ema(self.close.iloc[14:], 12)
        line = (fast - slow).dropna()
        return float(line.iloc[-1]), float(ema(line, 9).iloc[-1])

    def adx(self) -> float:
        up, down = self.high.diff().iloc[1:], -self.low.diff().iloc[1:]
        plus = up.where((up > down) & (up > 0), 0.0)
        minus = down.where((down > up) & (down > 0), 0.0)

        def summed(values: pd.Series) -> pd.Series:
            """Wilder's sum: the first 13 added up, then each step loses a fourteenth and gains the new value."""
            totals = [values.iloc[:13].sum()]
            for value in values.iloc[13:]:
                totals.append(totals[-1] - totals[-1] / 14 + value)
            return pd.Series(totals[1:], index=values.index[13:])

        di_plus, di_minus = (
            summed(plus) / summed(self.true_range()),
            summed(minus) / summed(self.true_range()),
        )
        dx = 100 * (di_plus - di_minus).abs() / (di_plus + di_minus)
        return float(wilder(dx, 14).iloc[-1])

    def stochastic(self) -> tuple[float, float]:
        lowest, highest = self.low.rolling(14).min(), self.high.rolling(14).max()
        k = (100 * (self.close - lowest) / (highest - lowest)).rolling(3).mean()
        return float(k.iloc[-1]), float(k.rolling(3).mean().iloc[-1])

    def obv(self) -> float:
        signed = np.sign(self.close.diff().fillna(0)) * self.volume
        return float(self.volume.iloc[0] + signed.iloc[1:].sum())

    def vwap(self) -> float:
        typical = ((self.high + self.low + self.close) / 3).iloc[-60:]
        return float((typical * self.volume.iloc[-60:]).sum() / self.volume.iloc[-60:].sum())


def ema(values: pd.Series, period: int) -> pd.Series:
    """Seeded with the mean of the first `period` values, as the definition of the classic EMA has it."""
    values = values.dropna()
    seeded = pd.concat(
        [pd.Series([values.iloc[:period].mean()], index=[values.index[period - 1]]), values.iloc[period:]]
    )
    return seeded.ewm(span=period, adjust=False).mean()


def wilder(values: pd.Series, period: int) -> pd.Series:
    """Wilder's smoothing, seeded with the mean of the first `period` values."""
    seeded = pd.concat(
        [pd.Series([values.iloc[:period].mean()], index=[values.index[period - 1]]), values.iloc[period:]]
    )
    return seeded.ewm(alpha=1 / period, adjust=False).mean()


RECORDED, WALKED = recorded_minutes(), walk(400)


def window(candles: list[Candle] | list[RecordedCandle], count: int) -> list[Candle] | list[RecordedCandle]:
    """The newest of `candles` at which the window holds `count`, with that window before it."""
    last = max(n for n, c in enumerate(candles) if rules.window_length(c.open_time, Interval.M1) == count)
    return candles[last + 1 - count : last + 1]


@pytest.mark.parametrize(
    "count", [WARM_UP_CANDLES, WARM_UP_CANDLES + 17, WARM_UP_CANDLES + ANCHOR_CANDLES - 1]
)
@pytest.mark.parametrize("candles", [RECORDED, WALKED], ids=["recorded", "walk"])
def test_every_indicator_has_the_value_of_its_definition(
    candles: list[Candle] | list[RecordedCandle], count: int
) -> None:
    found = window(candles, count)

    values = facts(found)

    expected = Definitions(found).expected()
    assert set(values) == {f"{name}_1m" for name in expected} and len(NAMES) == len(expected)
    assert {n: float(values[f"{n}_1m"]) for n in expected} == pytest.approx(expected, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("interval", Interval)
def test_every_interval_has_the_same_indicators(interval: Interval) -> None:
    span = rules.length(interval)
    first = rules.bucket_start(START, interval) - 400 * span
    candles = [replace(c, interval=interval, open_time=first + n * span) for n, c in enumerate(WALKED)]

    values = facts(candles, interval)

    count = rules.window_length(candles[-1].open_time, interval)
    expected = Definitions(candles[-count:]).expected()
    assert {n: float(values[f"{n}_{interval}"]) for n in expected} == pytest.approx(
        expected, rel=1e-8, abs=1e-9
    )


def test_a_value_has_at_most_ten_significant_digits() -> None:
    assert all(len(value.as_tuple().digits) <= 10 for value in facts(WALKED).values())


def test_a_window_without_trades_takes_the_close_as_vwap() -> None:
    silent = [*WALKED[:-60], *(replace(c, volume=Decimal(0)) for c in WALKED[-60:])]

    assert facts(silent)["vwap_60_1m"] == WALKED[-1].close


def test_prices_that_stand_still_have_no_volatility_at_all() -> None:
    price = WALKED[-31].close
    still = [*WALKED[:-30], *(replace(c, high=price, low=price, close=price) for c in WALKED[-30:])]

    values = facts(still)

    assert str(values["volatility_30_1m"]) == str(values["return_15_1m"]) == "0"
