"""No form of the product takes anything but plain numbers: found by asking every field, not by a list of them."""

import importlib
import inspect
from collections.abc import Iterator
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import RequestFactory

from tradingbot.core.fields import AmountField
from tradingbot.core.form_fields import PLACES_MAX, PlainDecimalField, PlainIntegerField

APPS = ("market", "proposals", "risk", "execution", "tradingbot.operations")
MALFORMED = (
    "1e5", "1E2", "NaN", "nan", "sNaN", "Infinity", "-Infinity", "inf", "0x10", "1_000", "+5", "--5",
    " 5", "5 ", "\t5", "5\n", "5\u00a0", "\u200b5", "1 000", "1\u202f000", "1,5", "1,000.00", "1.000,00",
    "\uff15", "\u0665", "\u096b", "\u2085", "\u00bd", "\u2166", "\u4e94", "5.", ".5", "5.5.5", "\u22125", "5\x00",
    "9" * 60, "five", "$5", "5%", "=5", "1/2",
)  # fmt: skip
OTHERS = (forms.ChoiceField, forms.JSONField)
NUMBERS = (forms.DecimalField, forms.IntegerField, forms.FloatField)


def app_forms() -> Iterator[type[forms.BaseForm]]:
    for app in APPS:
        if find_spec(f"{app}.forms") is None:
            continue
        module = importlib.import_module(f"{app}.forms")
        for _, found in inspect.getmembers(module, inspect.isclass):
            if issubclass(found, forms.BaseForm) and found.__module__ == module.__name__:
                yield found


def admin_forms() -> Iterator[type[forms.BaseForm]]:
    """The forms as the admin makes them, with its own changes of their fields."""
    request = RequestFactory().get("/admin/")
    request.user = User(is_superuser=True, is_staff=True, is_active=True)
    for model, model_admin in admin.site._registry.items():
        if model_admin.has_add_permission(request):
            yield model_admin.get_form(request, None, change=False)
        if model_admin.has_change_permission(request):
            yield model_admin.get_form(request, model(), change=True)


def number_fields() -> dict[str, forms.Field]:
    """Every field that takes a number and nothing else: it takes `7` and refuses `seven`."""
    return {
        f"{form.__module__}.{form.__name__}.{name}": field
        for form in (*app_forms(), *admin_forms())
        for name, field in form.base_fields.items()
        if takes(field, "7") and not takes(field, "seven") and not isinstance(field, OTHERS)
    }


def takes(field: forms.Field, text: str) -> bool:
    try:
        field.clean(text)
    except (ValidationError, ValueError, TypeError, AttributeError):
        return False
    return True


FIELDS = number_fields()
# A list of ids: divided by commas and blanks, digits of ASCII all the same.
LISTS = {"execution.forms.ReviewForm.trade_ids"}


def test_the_search_finds_the_fields_that_we_know_of() -> None:
    names = " ".join(FIELDS)

    for known in (
        "execution.forms.CloseForm.quantity", "risk.forms.ReduceForm.version", "order_notional_max_quote",
        "open_positions_max", "decisions_per_hour_max",
    ):  # fmt: skip
        assert known in names


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_number_is_plain_or_refused(name: str) -> None:
    divided = set(", \t") if name in LISTS else set()
    malformed = [text for text in MALFORMED if not divided & set(text) and not (divided and text == "9" * 60)]

    assert [text for text in malformed if takes(FIELDS[name], text) and not is_blank_id(name, text)] == []


def is_blank_id(name: str, text: str) -> bool:
    """The list of ids is stripped at its ends, as text is."""
    return name in LISTS and text.strip().isascii() and text.strip().isdigit()


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_no_number_field_is_djangos_own(name: str) -> None:
    assert not isinstance(FIELDS[name], NUMBERS)


def test_every_amount_of_a_model_gets_the_plain_field_in_forms() -> None:
    field = AmountField(null=True, blank=True).formfield()

    assert isinstance(field, PlainDecimalField)
    assert field.clean("") is None


@pytest.mark.parametrize(
    ("text", "value"), [("50", "50"), ("0.25", "0.25"), ("-3", "-3"), ("0", "0"), ("7.10", "7.10")]
)
def test_a_plain_decimal_comes_through_exactly(text: str, value: str) -> None:
    assert PlainDecimalField().clean(text) == Decimal(value)


def test_decimals_that_the_database_would_round_are_refused() -> None:
    assert takes(PlainDecimalField(), "0." + "1" * PLACES_MAX)
    assert not takes(PlainDecimalField(), "0." + "1" * (PLACES_MAX + 1))


def test_an_empty_required_number_is_refused_and_an_empty_optional_one_is_none() -> None:
    field: Any
    for field in (PlainDecimalField, PlainIntegerField):
        assert not takes(field(), "")
        assert field(required=False).clean("") is None


def test_whole_numbers_have_bounds() -> None:
    field = PlainIntegerField(min_value=1, max_value=9)

    assert [text for text in ("0", "1", "9", "10", "-1") if takes(field, text)] == ["1", "9"]
