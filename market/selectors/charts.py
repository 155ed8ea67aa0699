"""A candle chart: what feed.js draws, and the same for the table."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from market import rules
from market.contracts import Candle, ChartMark, Interval
from market.models import CandleHole
from market.rules import charts
from market.selectors.candles import holes_between, with_receipt
from tradingbot.core import clock
from tradingbot.core.decimals import plain

CANDLES_SHOWN = 300
ROWS_SHOWN = 40
MISSING_MAX = 600
PLACES_MIN = 2
LINES: dict[str, charts.Line] = {
    "ema_9": partial(charts.ema, period=9),
    "ema_21": partial(charts.ema, period=21),
    "rsi_14": partial(charts.rsi, period=14),
}


@dataclass(frozen=True, slots=True)
class ChartRow:
    """A candle of the table with its indicators and marks; `hole` instead when candles are missing before it."""

    candle: Candle
    received_at: datetime
    lines: tuple[float | None, ...]
    marks: tuple[ChartMark, ...]
    hole: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is shown of a symbol at one interval, oldest first."""

    rows: list[ChartRow]
    missing: list[datetime]
    holes: list[CandleHole]

    @property
    def places(self) -> int:
        """Decimal places that tell its prices apart: a coin worth 0.00001234 needs eight of them."""
        prices = (plain(price) for row in self.rows for price in (row.candle.low, row.candle.close))
        return max([PLACES_MIN, *(len(text.partition(".")[2]) for text in prices)])


def chart(symbol: str, interval: Interval) -> Chart:
    """The newest CANDLES_SHOWN closed candles of `symbol` with lines, marks and holes."""
    stored = with_receipt(symbol, interval, CANDLES_SHOWN)
    if not stored:
        return Chart([], [], [])
    candles = [candle for candle, _ in stored]
    span = rules.length(interval)
    lines = [charts.line_over(candles, span, line) for line in LINES.values()]
    marks = _marks_by_open_time(symbol, stored)
    holes = holes_between(symbol, candles[0].open_time, candles[-1].close_time)
    rows = [
        ChartRow(
            candle,
            received_at,
            tuple(line[number] for line in lines),
            tuple(marks.get(candle.open_time, ())),
            _hole_before(candles, number, holes),
        )
        for number, (candle, received_at) in enumerate(stored)
    ]
    missing = charts.missing_opens(candles, span, MISSING_MAX)
    return Chart(rows, missing, [hole for hole in holes if hole.filled_at is None])


def chart_data(found: Chart) -> dict[str, Any]:
    """The chart for the browser: times in epoch seconds, numbers as the drawing needs them."""
    rows = [(clock.to_milliseconds(row.candle.open_time) // 1000, row) for row in found.rows]
    return {
        "candles": [
            [at, *(float(n) for n in (r.candle.open, r.candle.high, r.candle.low, r.candle.close))]
            for at, r in rows
        ],
        "places": found.places,
        "missing": [clock.to_milliseconds(at) // 1000 for at in found.missing],
        "lines": {
            name: charts.segments([(at, r.lines[index]) for at, r in rows])
            for index, name in enumerate(LINES)
        },
        "marks": [
            {"time": at, "kind": mark.kind, "side": mark.side, "text": mark.text}
            for at, r in rows
            for mark in r.marks
        ],
    }


def _marks_by_open_time(
    symbol: str, stored: list[tuple[Candle, datetime]]
) -> dict[datetime, list[ChartMark]]:
    since = min(received_at for _, received_at in stored)
    marks: list[ChartMark] = import_string(settings.CHART_MARKS)(symbol, since)
    by_time: dict[datetime, list[ChartMark]] = {}
    for mark in marks:
        candle = charts.candle_of(mark.recorded_at, stored)
        if candle is not None:
            by_time.setdefault(candle.open_time, []).append(mark)
    return by_time


def _hole_before(candles: list[Candle], number: int, holes: list[CandleHole]) -> str:
    """What is missing between this candle and the one before, in words."""
    if number == 0:
        return ""
    start = candles[number - 1].close_time + timedelta(milliseconds=1)
    end = candles[number].open_time
    if start >= end:
        return ""
    known = next((h for h in holes if h.start < end and h.end > start and h.filled_at is None), None)
    why = known.get_reason_display() if known else "not stored"
    return f"no candle from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC: {why}"


def last_price(found: Chart) -> str:
    """The last close, for the chart's description."""
    return plain(found.rows[-1].candle.close) if found.rows else ""
