"""Forms of execution."""

from decimal import Decimal

from django import forms

from execution.contracts import Decision, RequestKind
from tradingbot.core.form_fields import PlainDecimalField, PlainIntegerField

REASON_LENGTH_MAX = 300
WATCH = "keep_watching"
# What a page offers, by the name of the pressed button; the services decide what of it fits.
REVIEW_ANSWERS = (RequestKind.CONFIRM_FILLED, RequestKind.CONFIRM_ABSENT, WATCH)
SETTLEMENTS = (Decision.ADOPT, Decision.IGNORE, RequestKind.ADOPT_ORDER, RequestKind.CANCEL_ORDER)


class _AnswerForm(forms.Form):
    """A person's answer names the version that was on the screen, and says why."""

    version = PlainIntegerField(min_value=1)
    reason = forms.CharField(max_length=REASON_LENGTH_MAX)


class ReviewForm(_AnswerForm):
    """An answer for an order of unknown fate."""

    answer = forms.ChoiceField(choices=[(str(a), str(a)) for a in REVIEW_ANSWERS])
    trade_ids = forms.RegexField(r"^[0-9,; ]*$", max_length=2000, required=False)

    def clean_trade_ids(self) -> list[int]:
        """The ids as numbers, divided by commas or blanks."""
        text = self.cleaned_data["trade_ids"].replace(",", " ").replace(";", " ")
        if any(len(word) > 18 for word in text.split()):
            raise forms.ValidationError("A trade id has at most 18 digits.")
        return [int(word) for word in text.split()]


class CancelForm(_AnswerForm):
    """A cancel of an order of ours."""


class ReplaceForm(_AnswerForm):
    """A resting entry at another price."""

    price = PlainDecimalField()

    def clean_price(self) -> Decimal:
        """The price, exactly as it was typed."""
        return _not_negative(self.cleaned_data["price"])


class CloseForm(forms.Form):
    """A close names what the page showed as held, and says why."""

    quantity = PlainDecimalField()
    reason = forms.CharField(max_length=REASON_LENGTH_MAX)

    def clean_quantity(self) -> Decimal:
        """The quantity, exactly as it was shown."""
        return _not_negative(self.cleaned_data["quantity"])


def _not_negative(value: Decimal) -> Decimal:
    if value < 0:
        raise forms.ValidationError("Enter a number without a sign.")
    return value


class SettleForm(_AnswerForm):
    """A decision on a divergence."""

    decision = forms.ChoiceField(choices=[(str(s), str(s)) for s in SETTLEMENTS])
