"""exchangeInfo's `rateLimits` -> the limits that we keep to (binance.md §2.2)."""

from dataclasses import dataclass
from typing import Any

ORDERS_MAX = 10_000_000  # more than this in ten seconds or a day is no limit, but nonsense
DAY_SECONDS = 86_400
_INTERVAL_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": DAY_SECONDS}


@dataclass(frozen=True, slots=True)
class OrderLimits:
    """How many new orders an account may place in ten seconds and in a day; None where it is not known."""

    per_10_seconds: int | None
    per_day: int | None


def weight_per_minute(rate_limits: Any) -> int | None:
    """The REQUEST_WEIGHT limit in exchangeInfo's `rateLimits`, brought to one minute; None when it has none."""
    for entry in rate_limits if isinstance(rate_limits, list) else []:
        if not isinstance(entry, dict) or entry.get("rateLimitType") != "REQUEST_WEIGHT":
            continue
        limit, count = entry.get("limit"), entry.get("intervalNum")
        if entry.get("interval") == "MINUTE" and type(limit) is int and type(count) is int and count > 0:
            return limit // count
    return None


def order_limits(rate_limits: Any) -> OrderLimits:
    """The ORDERS limits in exchangeInfo's `rateLimits`, brought to ten seconds and to a day.

    The strictest counts. One that cannot be read makes both unknown: it may have been the strictest.
    """
    short: list[int] = []
    day: list[int] = []
    for entry in rate_limits if isinstance(rate_limits, list) else []:
        if not isinstance(entry, dict) or entry.get("rateLimitType") != "ORDERS":
            continue
        limit, count = entry.get("limit"), entry.get("intervalNum")
        unit_seconds = _INTERVAL_SECONDS.get(str(entry.get("interval")))
        if unit_seconds is None or type(count) is not int or count < 1 or type(limit) is not int:
            return OrderLimits(None, None)
        seconds = unit_seconds * count
        if seconds < DAY_SECONDS:
            short.append(limit * 10 // max(10, seconds))
        else:
            day.append(limit * DAY_SECONDS // seconds)
    return OrderLimits(_strictest(short), _strictest(day))


def _strictest(limits: list[int]) -> int | None:
    strictest = min(limits, default=0)
    return strictest if 0 < strictest <= ORDERS_MAX else None
