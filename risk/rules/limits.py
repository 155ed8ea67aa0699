"""What limits may be: sane by themselves, never beyond the ceilings of the settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from risk.contracts import Limits
from tradingbot.core.decimals import parse_decimal, plain

SYMBOL = re.compile(r"[A-Z0-9]{5,20}")
SYMBOLS_MAX = 50


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and most of a limit. `looser` says which way lets more through: "up" or "down"."""

    least: str
    most: str
    looser: str
    whole: bool = False


BOUNDS: dict[str, Bounds] = {
    "approval_threshold_quote": Bounds("0", "100000", "up"),
    "two_person_threshold_quote": Bounds("0", "1000000", "up"),
    "order_notional_max_quote": Bounds("0", "1000000", "up"),
    "symbol_exposure_max_pct": Bounds("0", "100", "up"),
    "gross_exposure_max_pct": Bounds("0", "100", "up"),
    "open_positions_max": Bounds("0", "100", "up", whole=True),
    "open_orders_max": Bounds("0", "200", "up", whole=True),
    "daily_loss_max_pct": Bounds("0", "100", "up"),
    "spread_max_bps": Bounds("0", "1000", "up"),
    "price_collar_pct": Bounds("0", "10", "up"),
    "price_drift_max_pct": Bounds("0", "10", "up"),
    "quote_age_max_seconds": Bounds("0.1", "60", "up"),
    "orders_per_minute_max": Bounds("0", "300", "up", whole=True),
    "orders_per_hour_max": Bounds("0", "3600", "up", whole=True),
    "confidence_min_pct": Bounds("0", "100", "down", whole=True),
    "reward_to_risk_min": Bounds("0", "20", "down"),
    "risk_per_trade_max_pct": Bounds("0", "100", "up"),
    "fee_rate": Bounds("0", "0.05", "down"),
    "approval_ttl_seconds": Bounds("10", "3600", "up", whole=True),
    "auto_ttl_seconds": Bounds("5", "600", "up", whole=True),
    "volatility_max_pct": Bounds("0", "100", "up"),
    "drawdown_max_pct": Bounds("0", "100", "up"),
    "loss_streak_max": Bounds("1", "100", "up", whole=True),
    "loss_streak_pause_seconds": Bounds("0", "604800", "down", whole=True),
    "cool_down_seconds": Bounds("0", "86400", "down", whole=True),
}
LIMIT_NAMES = tuple(field.name for field in fields(Limits) if field.name != "version")
# NUMERIC(38, 16) would round what is finer without a word.
FRACTION_DIGITS_MAX = 16


def limit_errors(values: Mapping[str, Any], ceilings: Mapping[str, Decimal]) -> dict[str, str]:
    """What is wrong with `values` (all limits by name), by name; empty when they may come into force."""
    errors = {name: "is not a limit" for name in values if name not in LIMIT_NAMES}
    for name in LIMIT_NAMES:
        if name not in values:
            errors[name] = "is missing"
        elif problem := _problem(name, values[name], ceilings.get(name)):
            errors[name] = problem
    return errors


def under_ceilings(values: Mapping[str, Any], ceilings: Mapping[str, Decimal]) -> dict[str, Any]:
    """`values` with what passes its ceiling taken down to it. More is looser for each limit that has one."""
    return {n: min(value, ceilings[n]) if n in ceilings else value for n, value in values.items()}


def _problem(name: str, value: Any, ceiling: Decimal | None) -> str:
    if name == "allowed_symbols":
        return _symbols_problem(value)
    bounds = BOUNDS[name]
    if bounds.whole and (not isinstance(value, int) or isinstance(value, bool)):
        return "must be a whole number"
    if not bounds.whole and (not isinstance(value, Decimal) or not value.is_finite()):
        return "must be a plain decimal number such as 50 or 0.25"
    if not Decimal(bounds.least) <= value <= Decimal(bounds.most):
        return f"must be from {bounds.least} to {bounds.most}"
    if isinstance(value, Decimal) and value != round(value, FRACTION_DIGITS_MAX):
        return f"may have {FRACTION_DIGITS_MAX} places after the point at most"
    if ceiling is not None and value > ceiling:
        return f"may not pass the ceiling of the settings, {plain(ceiling)}"
    return ""


def _symbols_problem(value: Any) -> str:
    if not isinstance(value, list | tuple) or len(value) > SYMBOLS_MAX:
        return f"must be a list of at most {SYMBOLS_MAX} symbols"
    for symbol in value:
        if not isinstance(symbol, str) or not SYMBOL.fullmatch(symbol):
            return f"{symbol!r:.40} is not a symbol such as BTCUSDT"
    return "names a symbol twice" if len(set(value)) != len(value) else ""


def loosened(before: Limits, after: Limits) -> tuple[str, ...]:
    """The limits that let more through in `after` than in `before`."""
    names = [name for name, bounds in BOUNDS.items() if _is_looser(name, bounds, before, after)]
    if set(after.allowed_symbols) - set(before.allowed_symbols):
        names.append("allowed_symbols")
    return tuple(names)


def as_text(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` (all limits by name) as JSON can hold them: decimals as plain text."""
    return {name: plain(v) if isinstance(v, Decimal) else v for name, v in values.items()}


def from_text(values: Mapping[str, Any]) -> dict[str, Any]:
    """The limits that `as_text` wrote."""
    found = dict(values)
    for name, bounds in BOUNDS.items():
        if not bounds.whole and isinstance(found.get(name), str):
            found[name] = parse_decimal(found[name])
    return found


def _is_looser(name: str, bounds: Bounds, before: Limits, after: Limits) -> bool:
    old, new = getattr(before, name), getattr(after, name)
    return bool(new > old if bounds.looser == "up" else new < old)
