"""Lines of the candle chart. Plain Python: a web process need not carry NumPy and TA-Lib for two lines."""

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from market.contracts import Candle


def ema(values: Sequence[float], period: int) -> list[float | None]:
    """Exponential moving average, seeded with the mean of the first `period` values, as TA-Lib does."""
    line: list[float | None] = [None] * min(period - 1, len(values))
    if len(values) < period:
        return line
    average = sum(values[:period]) / period
    line.append(average)
    for value in values[period:]:
        average += (value - average) * 2 / (period + 1)
        line.append(average)
    return line


def rsi(values: Sequence[float], period: int) -> list[float | None]:
    """Relative strength index with Wilder's smoothing."""
    line: list[float | None] = [None] * min(period, len(values))
    changes = [after - before for before, after in itertools.pairwise(values)]
    if len(changes) < period:
        return line
    gain = sum(max(c, 0.0) for c in changes[:period]) / period
    loss = sum(max(-c, 0.0) for c in changes[:period]) / period
    for number in range(period, len(changes) + 1):
        line.append(100 * gain / (gain + loss) if gain + loss else 0.0)
        if number < len(changes):
            gain += (max(changes[number], 0.0) - gain) / period
            loss += (max(-changes[number], 0.0) - loss) / period
    return line


Line = Callable[[Sequence[float]], list[float | None]]


def line_over(candles: Sequence[Candle], span: timedelta, line: Line) -> list[float | None]:
    """`line` over the closes, begun anew after each hole: what comes after says nothing of what is missing.

    So it warms up again there, as the indicators of a snapshot do.
    """
    values: list[float | None] = []
    start = 0
    for end in range(1, len(candles) + 1):
        if end == len(candles) or candles[end].open_time - candles[end - 1].open_time != span:
            values += line([float(candle.close) for candle in candles[start:end]])
            start = end
    return values


def segments(points: Sequence[tuple[int, float | None]]) -> list[list[tuple[int, float]]]:
    """The points of each unbroken piece of a line; a point without a value ends a piece."""
    return [
        [(at, value) for at, value in piece if value is not None]
        for drawn, piece in itertools.groupby(points, lambda point: point[1] is not None)
        if drawn
    ]


def missing_opens(candles: Sequence[Candle], span: timedelta, limit: int) -> list[datetime]:
    """Open times without a candle between the first and the last, at most `limit`."""
    missing: list[datetime] = []
    for before, after in itertools.pairwise(candles):
        at = before.open_time + span
        while at < after.open_time and len(missing) < limit:
            missing.append(at)
            at += span
    return missing


def candle_of(recorded_at: datetime, stored: Sequence[tuple[Candle, datetime]]) -> Candle | None:
    """The newest candle that had been stored at `recorded_at`, both by our clock; None before the first.

    Market time is not wall time in a simulator, so what happened is placed by when we knew what.
    """
    return next((candle for candle, at in reversed(stored) if at <= recorded_at), None)
