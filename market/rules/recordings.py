"""Candle files: one candle a line, in the layout of our recordings or of Binance's downloads."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from market.contracts import Interval, MalformedFrame
from market.rules.frames import MILLISECONDS_MAX
from tradingbot.core.clock import from_milliseconds
from tradingbot.core.decimals import MalformedDecimal, parse_decimal

FIELDS_MIN = 6  # open time, open, high, low, close, volume; a download has six more
LINE_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class RecordedCandle:
    """What every layout has of a minute."""

    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line that is no candle, or not after the one before; `number` counts from 1."""

    number: int
    text: str
    why: str


def parse_recording(lines: Iterable[str]) -> tuple[list[RecordedCandle], list[BrokenLine]]:
    """The 1m candles of a file, oldest first, and every line that was refused. A header is neither."""
    candles: list[RecordedCandle] = []
    broken: list[BrokenLine] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or (number == 1 and text.startswith("open_time")):
            continue
        try:
            candle = parse_recorded_line(text)
            if candles and candle.open_time <= candles[-1].open_time:
                raise MalformedFrame("it is not after the line before")
        except MalformedFrame as error:
            broken.append(BrokenLine(number, text, str(error)))
            continue
        candles.append(candle)
    return candles, broken


def parse_recorded_line(text: str) -> RecordedCandle:
    """One line; its time in milliseconds, or in microseconds as downloads have it since 2025."""
    fields = text.split(",")
    if len(fields) < FIELDS_MIN or len(text) > LINE_LENGTH_MAX:
        raise MalformedFrame(f"it has not at least {FIELDS_MIN} fields of a sensible length")
    open_ms = _open_ms(fields[0])
    try:
        # Recorders that print floats write small volumes as 9e-05; that is a number, too.
        opened, high, low, close = (parse_decimal(field) for field in fields[1:5])
        volume = Decimal(fields[5]) if "e-" in fields[5] else parse_decimal(fields[5])
    except (MalformedDecimal, ArithmeticError) as error:
        raise MalformedFrame(f"a field is no number: {error!s:.80}") from error
    if not 0 < low <= min(opened, close) <= max(opened, close) <= high or not volume >= 0:
        raise MalformedFrame("its prices contradict each other, or one is not positive")
    return RecordedCandle(from_milliseconds(open_ms), opened, high, low, close, volume)


def _open_ms(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise MalformedFrame("its open time is no whole number")
    open_ms = int(text)
    if open_ms >= MILLISECONDS_MAX:
        open_ms, rest = divmod(open_ms, 1000)
        if rest:
            raise MalformedFrame("its open time is not on the minute")
    if not 0 < open_ms < MILLISECONDS_MAX or open_ms % Interval.M1.milliseconds:
        raise MalformedFrame("its open time is not on the minute")
    return open_ms
