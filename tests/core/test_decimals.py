"""Decimal parsing and rounding over generated amounts."""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.core.decimals import (
    MalformedDecimal,
    ceil_to_step,
    floor_to_step,
    is_multiple,
    parse_decimal,
    plain,
    wide_context,
)

AMOUNTS = st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,18})?", fullmatch=True).map(Decimal)
STEPS = st.one_of(
    st.integers(0, 16).map(lambda places: Decimal(1).scaleb(-places)),
    st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,16})?", fullmatch=True).map(Decimal).filter(bool),
)


@given(AMOUNTS, STEPS)
def test_floor_is_the_largest_multiple_not_above(value: Decimal, step: Decimal) -> None:
    floored = floor_to_step(value, step)

    assert floored <= value
    assert is_multiple(floored, step)
    assert wide_context().subtract(value, floored) < step


@given(AMOUNTS, STEPS)
def test_ceil_is_the_smallest_multiple_not_below(value: Decimal, step: Decimal) -> None:
    ceiled = ceil_to_step(value, step)

    assert ceiled >= value
    assert is_multiple(ceiled, step)
    assert wide_context().subtract(ceiled, value) < step


@given(AMOUNTS)
def test_a_step_of_zero_does_not_round(value: Decimal) -> None:
    assert floor_to_step(value, Decimal(0)) == ceil_to_step(value, Decimal(0)) == value
    assert is_multiple(value, Decimal(0))


def test_a_long_amount_is_not_rounded_above_itself() -> None:
    """With the default context of 28 digits it came out as 100000000000000000000."""
    value = Decimal("99999999999999999999.999999999999999999")

    assert floor_to_step(value, Decimal(1)) == Decimal("99999999999999999999")


@given(AMOUNTS)
def test_plain_text_is_read_back_as_the_same_number(value: Decimal) -> None:
    assert parse_decimal(plain(value)) == value


@given(AMOUNTS)
def test_plain_text_has_one_form_per_number(value: Decimal) -> None:
    same = wide_context().multiply(value, Decimal("1.000"))

    assert plain(same) == plain(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "+1",
        "1e3",
        "1E-3",
        "NaN",
        "Infinity",
        "1,000",
        ".5",
        "5.",
        "١",
        "0x1",
        "1_000",
        "--1",
        "1\n",
    ],
)
def test_anything_but_a_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(MalformedDecimal):
        parse_decimal(text)


@pytest.mark.parametrize("value", [None, 1, 1.5, Decimal(1), b"1"])
def test_anything_but_text_is_refused(value: object) -> None:
    with pytest.raises(MalformedDecimal):
        parse_decimal(value)  # type: ignore[arg-type]


@given(st.text(max_size=12))
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(MalformedDecimal):
        assert parse_decimal(text).is_finite()
