"""Decimal parsing and rounding. Money never passes through float (invariant 5)."""

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,18})?")
ZERO = Decimal(0)


class MalformedDecimal(ValueError):
    """The text is not a plain decimal number."""


def parse_decimal(text: str) -> Decimal:
    """`text` as Decimal; only plain ASCII notation (no exponent, NaN, sign `+`, blanks, group marks)."""
    if not isinstance(text, str) or not PLAIN_DECIMAL.fullmatch(text):
        raise MalformedDecimal(f"{text!r:.60} is not a plain decimal number")
    return Decimal(text)


def floor_to_step(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` not above `value`; a step of 0 means no rounding."""
    if step == 0:
        return value
    return (value / step).to_integral_value(rounding=ROUND_FLOOR) * step


def ceil_to_step(value: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of `step` not below `value`; a step of 0 means no rounding."""
    if step == 0:
        return value
    return (value / step).to_integral_value(rounding=ROUND_CEILING) * step


def is_multiple(value: Decimal, step: Decimal) -> bool:
    """Whether `value` lies on the grid of `step` (a step of 0 switches the rule off)."""
    return step == 0 or value % step == 0


def plain(value: Decimal) -> str:
    """`value` without exponent and without trailing zeros: the form sent to the exchange and hashed."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text
