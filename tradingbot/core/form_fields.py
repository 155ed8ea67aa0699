"""Number fields of all forms: plain ASCII notation or nothing.

Django's own take `1e5`, `NaN`, digits of any script, blanks around and `1_000`; what a person typed would then
not be what is done.
"""

from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator

from tradingbot.core.decimals import MalformedDecimal, parse_decimal, plain

PLACES_MAX = 16  # what the database keeps; more would be rounded behind the person's back
WHOLE_DIGITS_MAX = 9


class PlainDecimalField(forms.CharField):
    """A plain decimal number: no exponent, no comma, no sign `+`, no blanks; shown without trailing zeros."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"strip": False, "max_length": 40} | kwargs)

    def prepare_value(self, value: Any) -> Any:
        """The form shown to the person."""
        return plain(value) if isinstance(value, Decimal) else value

    def to_python(self, value: Any) -> Any:
        """The number, or a form error."""
        text = super().to_python(value) or ""
        if text in self.empty_values:
            return None
        try:
            found = parse_decimal(text)
        except MalformedDecimal:
            raise ValidationError("Enter a plain decimal number such as 50 or 0.25.") from None
        if len(text.partition(".")[2]) > PLACES_MAX:
            raise ValidationError(f"Enter at most {PLACES_MAX} decimals.")
        return found

    def run_validators(self, value: Any) -> None:
        """Those of text do not fit a number."""


class PlainIntegerField(forms.CharField):
    """A whole number in ASCII digits, within bounds."""

    def __init__(self, *, min_value: int | None = None, max_value: int | None = None, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)
        self.validators = [
            *([MinValueValidator(min_value)] if min_value is not None else []),
            *([MaxValueValidator(max_value)] if max_value is not None else []),
        ]

    def to_python(self, value: Any) -> Any:
        """The number, or a form error."""
        text = super().to_python(value) or ""
        if text in self.empty_values:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > WHOLE_DIGITS_MAX:
            raise ValidationError("Enter a whole number such as 5.")
        return int(text)
