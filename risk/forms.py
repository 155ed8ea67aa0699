"""Forms of risk: nothing but plain decimals, each wrong value told beside its field."""

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db import models

from proposals.forms import DecisionForm
from risk.contracts import SCOPE_NAMES, KillScope, TradingState
from risk.models import LimitsRequest, RiskLimits, TradingControl
from risk.rules.limits import BOUNDS, LIMIT_NAMES, limit_errors
from tradingbot.core.decimals import plain
from tradingbot.core.form_fields import PlainIntegerField

SHARES_PCT = (75, 50, 25)


class SymbolsField(forms.CharField):
    """Symbols as words, divided by commas or blanks."""

    def prepare_value(self, value: Any) -> Any:
        """The form shown to the person."""
        return ", ".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        """The symbols in capital letters."""
        return [word.upper() for word in (super().to_python(value) or "").replace(",", " ").split()]


class LimitsForm(forms.ModelForm):
    """A new version of the limits. Wrong values are refused whole, each beside its field."""

    class Meta:
        model = RiskLimits
        fields = (*LIMIT_NAMES, "reason")
        field_classes = {
            field.name: PlainIntegerField
            for field in RiskLimits._meta.fields
            if isinstance(field, models.IntegerField)
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in LIMIT_NAMES:
            field = self.fields.get(name)
            if field is not None:
                field.help_text = _help(name, str(field.help_text))

    def clean(self) -> dict[str, Any]:
        """Hold what could be read against the bounds and ceilings that the service will use."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        values = {name: cleaned[name] for name in LIMIT_NAMES if name in cleaned}
        for name, problem in limit_errors(values, settings.RISK_CEILINGS).items():
            if name in values:
                self.add_error(name, f"It {problem}.")
        return cleaned


def _help(name: str, said: str) -> str:
    bounds = BOUNDS.get(name)
    if bounds is None:
        return "Divided by commas, for example BTCUSDT, ETHUSDT"
    ceiling = settings.RISK_CEILINGS.get(name)
    most = bounds.most if ceiling is None else plain(min(ceiling, Decimal(bounds.most)))
    return (
        f"{said + '. ' if said and not said.endswith('.') else said + ' '}{bounds.least} to {most}.".strip()
    )


class LimitsRequestForm(forms.ModelForm):
    """The second person's answer."""

    answer = forms.ChoiceField(
        choices=[("", "choose"), ("confirm", "Confirm: in force at once"), ("decline", "Decline")],
        help_text="Only another risk manager than the one who asked can confirm.",
    )

    class Meta:
        model = LimitsRequest
        fields: tuple[str, ...] = ()


class ControlForm(forms.ModelForm):
    """The switch and why. `version` is the state that the person saw."""

    version = PlainIntegerField(widget=forms.HiddenInput)
    scope = forms.TypedChoiceField(
        choices=[(scope.value, SCOPE_NAMES[scope]) for scope in KillScope],
        coerce=KillScope,
        required=False,
        empty_value=KillScope.STOP_ENTRIES,
        help_text="When halting: how far it goes. What each would touch now stands below.",
    )
    reason = forms.CharField(
        max_length=300,
        required=False,
        widget=AdminTextInputWidget,
        help_text="Needed for REDUCING and ACTIVE. It is kept in the audit log.",
    )

    class Meta:
        model = TradingControl
        fields = ("status", "reason", "version")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["reason"] = ""
        self.initial["scope"] = KillScope.STOP_ENTRIES

    def clean(self) -> dict[str, Any]:
        """Arming without a reason is refused beside the field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("status") != TradingState.HALTED and not cleaned.get("reason", "").strip():
            self.add_error("reason", "Say why trading is armed.")
        return cleaned


class HaltForm(forms.Form):
    """A halt needs no reason; one may be given. Without a scope it stops the entries."""

    reason = forms.CharField(max_length=200, required=False)
    scope = forms.TypedChoiceField(
        choices=[(scope.value, SCOPE_NAMES[scope]) for scope in KillScope],
        coerce=KillScope,
        required=False,
        empty_value=KillScope.STOP_ENTRIES,
    )


class ReduceForm(DecisionForm):
    """Less of what was shown, and how much of it."""

    share = forms.TypedChoiceField(choices=[(pct, f"{pct} %") for pct in SHARES_PCT], coerce=int)
