"""Decimal parsing and rounding. Money never passes through float (invariant 5)."""

import re
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Context, Decimal

PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,18})?")
ZERO = Decimal(0)
# Wide enough that a quotient of two amounts (at most 38 digits each) never rounds onto the next whole number,
# as the default 28 digits do: 99999999999999999999.9999999999 / 1 would come out above itself.
WIDE_DIGITS = 90


def wide_context() -> Context:
    """The context for money: room for products and quotients of amounts, and what is cut is cut downwards."""
    return Context(prec=WIDE_DIGITS, rounding=ROUND_DOWN)


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
    return _round_to_step(value, step, ROUND_FLOOR)


def ceil_to_step(value: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of `step` not below `value`; a step of 0 means no rounding."""
    if step == 0:
        return value
    return _round_to_step(value, step, ROUND_CEILING)


def _round_to_step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    wide = wide_context()
    steps = wide.divide(value, step).to_integral_value(rounding=rounding, context=wide)
    return wide.multiply(steps, step)


def is_multiple(value: Decimal, step: Decimal) -> bool:
    """Whether `value` lies on the grid of `step` (a step of 0 switches the rule off)."""
    return step == 0 or wide_context().remainder(value, step) == 0


def plain(value: Decimal) -> str:
    """`value` without exponent and without trailing zeros: the form sent to the exchange and hashed."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text
