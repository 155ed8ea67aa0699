"""Lots and the equity curve: what the fills came to."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings

from execution import selectors
from execution.models import EquityPoint, Lot
from tradingbot.core import clock
from tradingbot.core.decimals import ZERO
from tradingbot.core.panels import UnknownPanel, panel

WIDTH, HEIGHT = 600, 120
HOLE = timedelta(minutes=3)  # further apart than this (or than three slices) the line breaks
SLICES = 600
TABLE_ROWS = 12


@dataclass(frozen=True, slots=True)
class HeldLot:
    """A lot with its price of purchase, fees included."""

    lot: Lot
    price: Decimal


@panel("lots", template="execution/lots.html", topics={"position"})
def lots(user: Any, argument: str) -> dict[str, Any]:
    """What is held, purchase by purchase, oldest first: the first is the next to be sold."""
    rows = [lot for symbol in settings.SYMBOLS for lot in selectors.open_lots(symbol)]
    return {"rows": [HeldLot(lot, lot.cost_quote / lot.quantity) for lot in rows]}


@panel("equity", template="execution/equity.html", topics={"equity"})
def equity(user: Any, argument: str) -> dict[str, Any]:
    """The equity curve of a period, less deposits, with the deepest fall from a peak in it."""
    if argument not in selectors.CURVE_PERIODS:
        raise UnknownPanel(f"no equity curve of {argument!r:.20}")
    period = selectors.CURVE_PERIODS[argument]
    points = selectors.equity_curve(since=clock.now() - period, points_max=SLICES)
    made = [point.equity_quote - point.net_flow_quote for point in points]
    return {
        "period": argument,
        "points": points,
        "lines": _lines(points, made, period) if len(points) > 1 else [],
        "lowest": min(made, default=None),
        "highest": max(made, default=None),
        "last": points[-1] if points else None,
        "change": made[-1] - made[0] if made else None,
        "drawdown_pct": _drawdown_pct(made),
        "table": points[: -TABLE_ROWS - 1 : -1],
        "width": WIDTH,
        "height": HEIGHT,
    }


def _drawdown_pct(made: list[Decimal]) -> Decimal | None:
    """The deepest fall below an earlier peak, in percent of that peak."""
    if not made:
        return None
    peak, deepest = made[0], ZERO
    for value in made:
        peak = max(peak, value)
        if peak > 0:
            deepest = max(deepest, (peak - value) * 100 / peak)
    return deepest


def _lines(points: list[EquityPoint], made: list[Decimal], period: timedelta) -> list[str]:
    """`points` attributes of SVG polylines; a hole in the curve breaks the line."""
    first, last = points[0].at, points[-1].at
    span = (last - first).total_seconds() or 1.0
    low, high = min(made), max(made)
    height = high - low or Decimal(1)
    longest = max(HOLE, 3 * period / SLICES)
    lines: list[list[str]] = [[]]
    before = first
    for point, value in zip(points, made, strict=True):
        if point.at - before > longest:
            lines.append([])
        before = point.at
        x = (point.at - first).total_seconds() / span * WIDTH
        y = float((high - value) / height) * (HEIGHT - 8) + 4
        lines[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(line) for line in lines]
