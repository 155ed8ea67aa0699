"""The back office of risk: the kill switch and the limits are changed here, assessments only read.

Only superusers and the group `risk_manager` hold the permissions (tradingbot.operations.roles).
"""

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from risk import selectors, services
from risk.contracts import ControlRefused, TradingState
from risk.models import Assessment, RiskLimits, TradingControl
from risk.rules.limits import BOUNDS, LIMIT_NAMES, limit_errors
from tradingbot.core import clock
from tradingbot.core.admin import ReadOnlyAdmin
from tradingbot.core.decimals import MalformedDecimal, parse_decimal, plain

WHOLE_DIGITS_MAX = 9


class PlainDecimalField(forms.CharField):
    """A plain decimal number: no exponent, no comma, no sign `+`; shown without trailing zeros."""

    def prepare_value(self, value: Any) -> Any:
        """The form shown to the person."""
        return plain(value) if isinstance(value, Decimal) else value

    def to_python(self, value: Any) -> Any:
        """The number, or a form error."""
        text = super().to_python(value) or ""
        if text in self.empty_values:
            return None
        try:
            return parse_decimal(text)
        except MalformedDecimal:
            raise ValidationError("Enter a plain decimal number such as 50 or 0.25.") from None


class PlainIntegerField(forms.CharField):
    """A whole number in ASCII digits."""

    def to_python(self, value: Any) -> Any:
        """The number, or a form error."""
        text = super().to_python(value) or ""
        if text in self.empty_values:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > WHOLE_DIGITS_MAX:
            raise ValidationError("Enter a whole number such as 5.")
        return int(text)


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


class _CallsService(admin.ModelAdmin):
    """Saves through a service; a refusal rolls everything back and is told on the page."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The form, or the form again with what the service refused."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except ControlRefused as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(request.get_full_path())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False


@admin.register(RiskLimits)
class RiskLimitsAdmin(_CallsService):
    """Versions are read; a change is a new version, filled in with the one in force."""

    form = LimitsForm
    list_display = (
        "version",
        "threshold",
        "order_maximum",
        "symbols",
        "created_by",
        "reason",
        "created_at",
    )
    fieldsets = (
        ("What and who decides", {"fields": ("allowed_symbols", "approval_threshold_quote")}),
        (
            "Size",
            {
                "fields": (
                    "order_notional_max_quote",
                    "symbol_exposure_max_pct",
                    "gross_exposure_max_pct",
                    "open_positions_max",
                    "open_orders_max",
                    "risk_per_trade_max_pct",
                    "daily_loss_max_pct",
                )
            },
        ),
        (
            "Price",
            {
                "fields": (
                    "spread_max_bps",
                    "price_collar_pct",
                    "price_drift_max_pct",
                    "quote_age_max_seconds",
                    "reward_to_risk_min",
                    "confidence_min_pct",
                    "fee_rate",
                )
            },
        ),
        (
            "Pace",
            {
                "fields": (
                    "orders_per_minute_max",
                    "orders_per_hour_max",
                    "approval_ttl_seconds",
                    "auto_ttl_seconds",
                )
            },
        ),
        ("Why", {"fields": ("reason",)}),
    )

    @admin.display(description="person decides from")
    def threshold(self, row: RiskLimits) -> str:
        """The approval threshold, readable."""
        return plain(row.approval_threshold_quote)

    @admin.display(description="one order at most")
    def order_maximum(self, row: RiskLimits) -> str:
        """The largest order, readable."""
        return plain(row.order_notional_max_quote)

    @admin.display(description="symbols")
    def symbols(self, row: RiskLimits) -> str:
        """The allowed symbols, readable."""
        return ", ".join(row.allowed_symbols)

    def get_queryset(self, request: HttpRequest) -> QuerySet[RiskLimits]:
        """This environment's, the version in force first."""
        return selectors.limits_history()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: rows are versions."""
        return False

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The version in force."""
        row = selectors.limits_history().first()
        return {name: getattr(row, name) for name in LIMIT_NAMES} if row else {}

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Numbers as plain text, symbols as words."""
        if db_field.name == "allowed_symbols":
            return SymbolsField(widget=AdminTextInputWidget, required=False)
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        plain_fields = {forms.DecimalField: PlainDecimalField, forms.IntegerField: PlainIntegerField}
        plain_field = plain_fields.get(type(field))
        if field is None or plain_field is None:
            return field
        return plain_field(label=field.label, help_text=field.help_text, widget=AdminTextInputWidget)

    def save_model(self, request: HttpRequest, obj: RiskLimits, form: Any, change: bool) -> None:
        """Through the service, which numbers the version."""
        row = services.save_limits(
            values={name: form.cleaned_data[name] for name in LIMIT_NAMES},
            actor=request.user.get_username(),
            reason=form.cleaned_data["reason"],
            now=clock.now(),
        )
        for name in (field.attname for field in row._meta.concrete_fields):
            setattr(obj, name, getattr(row, name))
        obj._state.adding = False


class ControlForm(forms.ModelForm):
    """The switch and why. `version` is the state that the person saw."""

    version = forms.IntegerField(widget=forms.HiddenInput)
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

    def clean(self) -> dict[str, Any]:
        """Arming without a reason is refused beside the field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("status") != TradingState.HALTED and not cleaned.get("reason", "").strip():
            self.add_error("reason", "Say why trading is armed.")
        return cleaned


@admin.register(TradingControl)
class TradingControlAdmin(_CallsService):
    """The kill switch of this environment."""

    form = ControlForm
    list_display = ("environment", "status", "changed_at", "changed_by", "reason")
    fields = ("status", "reason", "armed", "changed_at", "changed_by", "version")
    readonly_fields = ("armed", "changed_at", "changed_by")

    @admin.display(description="orders now")
    def armed(self, row: TradingControl) -> str:
        """Whether an entry could be ordered now, and why not."""
        armed, reasons = selectors.trading_armed(clock.now())
        return "approved proposals are ordered" if armed else "nothing new is opened: " + "; ".join(reasons)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TradingControl]:
        """This environment's only: another one's switch would do nothing here."""
        return super().get_queryset(request).filter(pk=settings.TRADING_ENVIRONMENT)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: each environment has its one switch."""
        return False

    def save_model(self, request: HttpRequest, obj: TradingControl, form: Any, change: bool) -> None:
        """Through the services; halting is never refused for being late."""
        state = TradingState(form.cleaned_data["status"])
        actor, reason = request.user.get_username(), form.cleaned_data["reason"]
        if state is TradingState.HALTED:
            services.halt(actor=actor, reason=reason, now=clock.now())
        else:
            seen = form.cleaned_data["version"]
            services.set_trading_state(state=state, actor=actor, reason=reason, now=clock.now(), version=seen)


@admin.register(Assessment)
class AssessmentAdmin(ReadOnlyAdmin):
    """Each run of the gate with all rules and what it saw."""

    list_display = ("at", "proposal", "binding", "passed", "limits_version")
    list_filter = ("binding", "passed")
    ordering = ("-id",)
    list_select_related = ("proposal",)
    show_full_result_count = False
