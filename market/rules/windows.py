"""The indicators' window of closed candles, carried forward or opened anew: the same facts either way.

Import this module where it is needed and not before: it takes TA-Lib and NumPy with it.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

from market.contracts import Interval, StaleData
from market.rules.candles import length, window_length
from market.rules.indicators import NAMES, Indicators
from market.rules.snapshots import iso_z

SIGNIFICANT_DIGITS = 10
# A candle as PostgreSQL's timestamptz_send and float8send write it: the open time in microseconds since 2000,
# then high, low, close and volume.
BAR = struct.Struct("!qdddd")
# All values in one formatting: one by one takes twice as long.
_TEXT = f"%.{SIGNIFICANT_DIGITS}g " * len(NAMES)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Indicators with the very candles they were fed, BAR after BAR, so that nobody need trust their state."""

    bars: bytes
    indicators: Indicators


def follow(kept: Window | None, stored: bytes, interval: Interval) -> Window:
    """The window that ends with the newest of the `stored` candles (BARs, oldest first).

    `kept` goes on when what it was fed is what is stored, byte for byte; after a replaced, late or dropped candle,
    a market that went back or at the next anchor it does not, and the window is opened anew. `kept` is used up.
    Raises StaleData when candles are too few, missing or not numbers.
    """
    bars = _newest_window(stored, interval)
    known = kept.bars if kept is not None and bars.startswith(kept.bars) else b""
    fresh = BAR.iter_unpack(bars[max(len(known) - BAR.size, 0) :])  # with the last known one, for its time
    times, *columns = zip(*fresh, strict=True)
    _refuse_holes(times, interval)
    if not all(math.isfinite(sum(column)) for column in columns):
        raise StaleData("a stored candle holds something that is not a number")
    if kept is None or not known:
        return Window(bars, Indicators(*columns))
    for bar in zip(*(column[1:] for column in columns), strict=True):
        kept.indicators.update(*bar)
    return Window(bars, kept.indicators)


def facts_of(window: Window, interval: Interval) -> dict[str, Decimal]:
    """Indicator values by id (`ema_9_1m`); raises StaleData when one is not a number."""
    values = window.indicators.values
    if not all(map(math.isfinite, values)):
        name = next(name for name, value in zip(NAMES, values, strict=True) if not math.isfinite(value))
        raise StaleData(f"the indicator {name} has no value on these candles")
    return dict(zip(_ids(interval), map(Decimal, (_TEXT % values).split()), strict=True))


@cache
def _ids(interval: Interval) -> tuple[str, ...]:
    return tuple(f"{name}_{interval.value}" for name in NAMES)


def _newest_window(stored: bytes, interval: Interval) -> bytes:
    count = len(stored) // BAR.size
    if not count:
        raise StaleData("no closed candle is stored yet")
    needed = window_length(_instant(BAR.unpack_from(stored, len(stored) - BAR.size)[0]), interval)
    if count < needed:
        raise StaleData(f"{count} closed candles, and the indicators need {needed}")
    return stored[-needed * BAR.size :]


def _refuse_holes(times: Sequence[int], interval: Interval) -> None:
    step = length(interval) // _MICROSECOND
    for at, expected in zip(times, range(times[0], times[-1] + 1, step), strict=False):
        if at != expected:
            raise StaleData(f"the candle of {iso_z(_instant(expected))} is missing")


def _instant(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
