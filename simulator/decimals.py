"""Numbers of the exchange: Decimal for money, integers of 1e-8 ("units") for the tape."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

UNITS_PER_ONE = 10**8
ZERO = Decimal(0)
SMALLEST = Decimal("0.00000001")


def money_text(value: Decimal) -> str:
    """Eight decimals, as Binance prints every amount and price."""
    return f"{value:.8f}"


def units_text(units: int) -> str:
    """Eight decimals of a non-negative count of 1e-8."""
    return f"{units // UNITS_PER_ONE}.{units % UNITS_PER_ONE:08d}"


def to_units(value: Decimal) -> int:
    """Exact count of 1e-8 in `value`; raises ValueError when there are more than eight decimals."""
    scaled = value.scaleb(8)
    units = int(scaled)
    if units != scaled:
        raise ValueError(f"{value} has more than 8 decimals")
    return units


def from_units(units: int) -> Decimal:
    return Decimal(units).scaleb(-8)


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """Largest multiple of `step` that is not above `value` (value >= 0)."""
    return value // step * step


def amount(price: Decimal, quantity: Decimal) -> Decimal:
    """price * quantity with eight decimals. Exact: a symbol's tick and step have at most eight together."""
    return (price * quantity).quantize(SMALLEST)


def round_down_to_smallest(value: Decimal) -> Decimal:
    """Cut to eight decimals. Commissions are cut, not rounded: the exchange never takes a part of 1e-8."""
    return value.quantize(SMALLEST, rounding=ROUND_DOWN)


def decimals_of(value: Decimal) -> int:
    """Decimals written in `value`, trailing zeros not counted."""
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)
