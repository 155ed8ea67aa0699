"""TA-Lib's values against pandas written from the definitions, on deterministic candles."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from market.contracts import WINDOW_CANDLES, StaleData
from market.rules.indicators import compute_facts
from tests.market.builders import walk

CANDLES = walk(WINDOW_CANDLES)
FACTS = compute_facts(CANDLES)
FRAME = pd.DataFrame(
    {name: [float(getattr(c, name)) for c in CANDLES] for name in ("open", "high", "low", "close", "volume")}
)
CLOSE, HIGH, LOW, VOLUME = FRAME["close"], FRAME["high"], FRAME["low"], FRAME["volume"]


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


def true_range() -> pd.Series:
    before = CLOSE.shift()
    return pd.concat([HIGH - LOW, (HIGH - before).abs(), (LOW - before).abs()], axis=1).max(axis=1).iloc[1:]


def rsi() -> float:
    change = CLOSE.diff().iloc[1:]
    gain, loss = wilder(change.clip(lower=0), 14), wilder(-change.clip(upper=0), 14)
    return float((100 * gain / (gain + loss)).iloc[-1])


def macd() -> tuple[float, float]:
    """Both averages start where the slower one can: TA-Lib seeds the fast one on the same bar."""
    slow, fast = ema(CLOSE, 26), ema(CLOSE.iloc[14:], 12)
    line = (fast - slow).dropna()
    return float(line.iloc[-1]), float(ema(line, 9).iloc[-1])


def adx() -> float:
    up, down = HIGH.diff().iloc[1:], -LOW.diff().iloc[1:]
    plus = up.where((up > down) & (up > 0), 0.0)
    minus = down.where((down > up) & (down > 0), 0.0)

    def summed(values: pd.Series) -> pd.Series:
        """Wilder's sum: the first 13 added up, then each step loses a fourteenth and gains the new value."""
        totals = [values.iloc[:13].sum()]
        for value in values.iloc[13:]:
            totals.append(totals[-1] - totals[-1] / 14 + value)
        return pd.Series(totals[1:], index=values.index[13:])

    di_plus, di_minus = summed(plus) / summed(true_range()), summed(minus) / summed(true_range())
    dx = 100 * (di_plus - di_minus).abs() / (di_plus + di_minus)
    return float(wilder(dx, 14).iloc[-1])


def stochastic() -> tuple[float, float]:
    lowest, highest = LOW.rolling(14).min(), HIGH.rolling(14).max()
    k = (100 * (CLOSE - lowest) / (highest - lowest)).rolling(3).mean()
    return float(k.iloc[-1]), float(k.rolling(3).mean().iloc[-1])


def obv() -> float:
    signed = np.sign(CLOSE.diff().fillna(0)) * VOLUME
    return float(VOLUME.iloc[0] + signed.iloc[1:].sum())


def vwap() -> float:
    typical = ((HIGH + LOW + CLOSE) / 3).iloc[-60:]
    return float((typical * VOLUME.iloc[-60:]).sum() / VOLUME.iloc[-60:].sum())


MIDDLE, DEVIATION = CLOSE.iloc[-20:].mean(), CLOSE.iloc[-20:].std(ddof=0)
LOG_RETURNS = np.log(CLOSE).diff()
EXPECTED = {
    "close": float(CLOSE.iloc[-1]),
    "ema_9": float(ema(CLOSE, 9).iloc[-1]),
    "ema_21": float(ema(CLOSE, 21).iloc[-1]),
    "ema_50": float(ema(CLOSE, 50).iloc[-1]),
    "sma_20": float(CLOSE.rolling(20).mean().iloc[-1]),
    "adx_14": adx(),
    "rsi_14": rsi(),
    "macd": macd()[0],
    "macd_signal": macd()[1],
    "macd_hist": macd()[0] - macd()[1],
    "stoch_k": stochastic()[0],
    "stoch_d": stochastic()[1],
    "bollinger_upper": MIDDLE + 2 * DEVIATION,
    "bollinger_middle": MIDDLE,
    "bollinger_lower": MIDDLE - 2 * DEVIATION,
    "atr_14": float(wilder(true_range(), 14).iloc[-1]),
    "obv": obv(),
    "vwap_60": vwap(),
    "return_1": float(CLOSE.iloc[-1] / CLOSE.iloc[-2] - 1),
    "return_5": float(CLOSE.iloc[-1] / CLOSE.iloc[-6] - 1),
    "return_15": float(CLOSE.iloc[-1] / CLOSE.iloc[-16] - 1),
    "volatility_30": float(LOG_RETURNS.iloc[-30:].std(ddof=1)),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_indicator_has_the_value_of_its_definition(name: str) -> None:
    assert float(FACTS[f"{name}_1m"]) == pytest.approx(EXPECTED[name], rel=1e-6, abs=1e-9)


def test_exactly_the_defined_set_comes_out() -> None:
    assert set(FACTS) == {f"{name}_1m" for name in EXPECTED}


def test_the_same_candles_give_the_same_text() -> None:
    again = compute_facts(walk(WINDOW_CANDLES))

    assert {k: str(v) for k, v in again.items()} == {k: str(v) for k, v in FACTS.items()}


def test_a_value_has_at_most_ten_significant_digits() -> None:
    assert all(len(value.as_tuple().digits) <= 10 for value in FACTS.values())


@pytest.mark.parametrize("count", [0, 1, WINDOW_CANDLES - 1, WINDOW_CANDLES + 1])
def test_any_other_number_of_candles_is_refused(count: int) -> None:
    with pytest.raises(StaleData):
        compute_facts(walk(count))


def test_a_window_without_trades_takes_the_close_as_vwap() -> None:
    from dataclasses import replace

    silent = [replace(c, volume=Decimal(0)) for c in CANDLES]

    assert compute_facts(silent)["vwap_60_1m"] == CANDLES[-1].close
