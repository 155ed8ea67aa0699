"""Figures and the table they are printed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

SAMPLES_MIN = 100


class CouldNotMeasure(Exception):
    """A figure has no honest value; the text says why. The run ends with a non-zero exit code."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table. `baseline` names what `baseline_p50` (same unit) was measured on."""

    name: str
    n: int
    p50: float
    p95: float | None
    unit: str
    baseline: str = ""
    baseline_p50: float | None = None


def figure(
    name: str,
    values: Sequence[float],
    unit: str = "ms",
    *,
    least: int = SAMPLES_MIN,
    baseline: tuple[str, Sequence[float]] | None = None,
) -> Figure:
    """The figure of measured `values`; CouldNotMeasure when they are fewer than `least`."""
    if len(values) < least:
        raise CouldNotMeasure(f"{name}: {len(values)} samples, {least} are needed")
    return Figure(
        name,
        len(values),
        percentile(values, 50),
        percentile(values, 95) if len(values) >= 20 else None,
        unit,
        baseline[0] if baseline else "",
        percentile(baseline[1], 50) if baseline else None,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile: always a value that was measured."""
    ascending = sorted(values)
    return ascending[ceil(len(ascending) * percent / 100) - 1]


def print_table(figures: Sequence[Figure]) -> None:
    """The rows as a Markdown table, so that they can be pasted as they are."""
    rows = [("figure", "n", "p50", "p95", "unit", "baseline (its p50)", "ratio")]
    for row in figures:
        baseline = ratio = ""
        if row.baseline_p50 is not None:
            baseline = f"{row.baseline} ({_shown(row.baseline_p50)} {row.unit})"
            ratio = _shown_ratio(row.p50 / row.baseline_p50) if row.baseline_p50 > 0 else ""
        p95 = "" if row.p95 is None else _shown(row.p95)
        rows.append((row.name, str(row.n), _shown(row.p50), p95, row.unit, baseline, ratio))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _shown_ratio(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"
