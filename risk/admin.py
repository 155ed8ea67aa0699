"""The back office of risk: the kill switch and the limits are changed here, assessments only read.

Who may is asked of the one table (tradingbot.core.permissions); looser limits wait for a second person.
"""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html_join

from risk import selectors, services
from risk.contracts import SCOPE_NAMES, ControlRefused, KillScope, LimitsRequestStatus, TradingState
from risk.forms import (
    ControlForm,
    LimitsForm,
    LimitsRequestForm,
    SymbolsField,
)
from risk.models import Assessment, Kill, LimitsRequest, RiskLimits, TradingControl
from risk.rules.limits import LIMIT_NAMES
from tradingbot.core import clock
from tradingbot.core.admin import ReadOnlyAdmin
from tradingbot.core.decimals import plain
from tradingbot.core.fields import AmountField
from tradingbot.core.form_fields import PlainIntegerField
from tradingbot.core.permissions import Deed, may


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


class _Loosening(Exception):
    """The new limits let more through than those in force: they are asked for, not brought into force."""

    def __init__(self, values: dict[str, Any], reason: str) -> None:
        super().__init__(reason)
        self.values, self.reason = values, reason


@admin.register(RiskLimits)
class RiskLimitsAdmin(_CallsService):
    """Versions are read; a change is a new version, filled in with the one in force."""

    form = LimitsForm
    formfield_overrides = {
        models.IntegerField: {"form_class": PlainIntegerField, "widget": AdminTextInputWidget},
        AmountField: {"widget": AdminTextInputWidget},
    }
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
        (
            "What and who decides",
            {"fields": ("allowed_symbols", "approval_threshold_quote", "two_person_threshold_quote")},
        ),
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
                )
            },
        ),
        (
            "Losses",
            {
                "fields": (
                    "daily_loss_max_pct",
                    "drawdown_max_pct",
                    "loss_streak_max",
                    "loss_streak_pause_seconds",
                    "cool_down_seconds",
                )
            },
        ),
        (
            "Price",
            {
                "fields": (
                    "spread_max_bps",
                    "volatility_max_pct",
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

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whoever may set limits."""
        return may(request.user, Deed.SET_LIMITS)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: rows are versions."""
        return False

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """As above; what loosens a limit becomes a request that another risk manager confirms."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except _Loosening as wanted:
            row = services.request_limits(
                values=wanted.values,
                actor=request.user.get_username(),
                reason=wanted.reason,
                now=clock.now(),
            )
            looser = ", ".join(change["name"] for change in row.changes if change["looser"])
            others = ", ".join(change["name"] for change in row.changes if not change["looser"])
            sentence = f"Not in force yet: {looser} would be looser. A second risk manager has to confirm."
            if others:
                sentence += f" Until then the rest ({others}) is not in force either: "
                sentence += "to tighten at once, save it alone."
            messages.warning(request, sentence)
            return HttpResponseRedirect(reverse("admin:risk_limitsrequest_change", args=[row.pk]))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The version in force."""
        row = selectors.limits_history().first()
        return {name: getattr(row, name) for name in LIMIT_NAMES} if row else {}

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Symbols as words."""
        if db_field.name == "allowed_symbols":
            return SymbolsField(widget=AdminTextInputWidget, required=False)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: RiskLimits, form: Any, change: bool) -> None:
        """Through the service, which numbers the version."""
        values = {name: form.cleaned_data[name] for name in LIMIT_NAMES}
        if selectors.looser_than_in_force(values):
            raise _Loosening(values, form.cleaned_data["reason"])
        row = services.save_limits(
            values=values,
            actor=request.user.get_username(),
            reason=form.cleaned_data["reason"],
            now=clock.now(),
        )
        for name in (field.attname for field in row._meta.concrete_fields):
            setattr(obj, name, getattr(row, name))
        obj._state.adding = False


@admin.register(LimitsRequest)
class LimitsRequestAdmin(_CallsService):
    """Looser limits that wait for a second risk manager."""

    form = LimitsRequestForm
    list_display = ("requested_at", "requested_by", "status", "looser", "reason", "answered_by")
    fields = ("status", "requested_by", "requested_at", "reason", "differences", "answered_by", "answer")
    readonly_fields = ("status", "requested_by", "requested_at", "reason", "differences", "answered_by")

    @admin.display(description="looser")
    def looser(self, row: LimitsRequest) -> str:
        """The limits that let more through."""
        return ", ".join(change["name"] for change in row.changes if change["looser"])

    @admin.display(description="against version in force")
    def differences(self, row: LimitsRequest) -> str:
        """Each change, then and wanted."""
        lines = [
            (c["name"], c["before"], c["after"], "looser" if c["looser"] else "tighter or equal")
            for c in row.changes
        ]
        return format_html_join("", "<div>{}: {} → {} ({})</div>", lines)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LimitsRequest]:
        """This environment's, newest first."""
        return selectors.limits_requests()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: a request is made by saving looser limits."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: LimitsRequest | None = None) -> bool:
        """Whoever may confirm, while it waits."""
        waits = obj is None or obj.status == LimitsRequestStatus.WAITING
        return waits and may(request.user, Deed.CONFIRM_LIMITS)

    def save_model(self, request: HttpRequest, obj: LimitsRequest, form: Any, change: bool) -> None:
        """Through the service, which refuses the one who asked."""
        services.answer_request(
            request_id=obj.pk,
            confirm=form.cleaned_data["answer"] == "confirm",
            actor=request.user.get_username(),
            now=clock.now(),
        )


@admin.register(TradingControl)
class TradingControlAdmin(_CallsService):
    """The kill switch of this environment."""

    form = ControlForm
    list_display = ("environment", "status", "changed_at", "changed_by", "reason")
    fields = ("status", "scope", "reason", "armed", "touches", "changed_at", "changed_by", "version")
    readonly_fields = ("armed", "touches", "changed_at", "changed_by")

    @admin.display(description="orders now")
    def armed(self, row: TradingControl) -> str:
        """Whether an entry could be ordered now, and why not."""
        armed, reasons = selectors.trading_armed(clock.now())
        return "approved proposals are ordered" if armed else "nothing new is opened: " + "; ".join(reasons)

    @admin.display(description="a halt would touch")
    def touches(self, row: TradingControl) -> str:
        """What each scope would touch now."""
        found = selectors.kill_preview(clock.now())
        worth = found.positions_quote
        lines = [
            (SCOPE_NAMES[KillScope.STOP_ENTRIES], f"{found.waiting} waiting proposals end"),
            (
                SCOPE_NAMES[KillScope.CANCEL_ENTRIES],
                f"and {len(found.entries)} open entries for up to {plain(found.entries_quote)}",
            ),
            (
                SCOPE_NAMES[KillScope.FLATTEN],
                f"and {len(found.positions)} positions worth {'unknown' if worth is None else plain(worth)}",
            ),
        ]
        return format_html_join("", "<div>{}: {}</div>", lines)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TradingControl]:
        """This environment's only: another one's switch would do nothing here."""
        return super().get_queryset(request).filter(pk=settings.TRADING_ENVIRONMENT)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: each environment has its one switch."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: TradingControl | None = None) -> bool:
        """Whoever may arm and disarm."""
        return may(request.user, Deed.SWITCH)

    def save_model(self, request: HttpRequest, obj: TradingControl, form: Any, change: bool) -> None:
        """Through the services; halting is never refused for being late."""
        state = TradingState(form.cleaned_data["status"])
        actor, reason = request.user.get_username(), form.cleaned_data["reason"]
        if state is TradingState.HALTED:
            scope = form.cleaned_data["scope"]
            if scope is KillScope.FLATTEN and not may(request.user, Deed.OPERATE):
                raise ControlRefused("Selling what is held takes the role operator or risk manager.")
            services.halt(actor=actor, reason=reason, now=clock.now(), scope=scope)
        else:
            seen = form.cleaned_data["version"]
            services.set_trading_state(state=state, actor=actor, reason=reason, now=clock.now(), version=seen)


@admin.register(Kill)
class KillAdmin(ReadOnlyAdmin):
    """Every kill with its scope and the measured time to effect."""

    list_display = ("asked_at", "scope", "actor", "status", "switched_ms", "effective_ms", "reason")
    list_filter = ("scope", "status")
    ordering = ("-id",)


@admin.register(Assessment)
class AssessmentAdmin(ReadOnlyAdmin):
    """Each run of the gate with all rules and what it saw."""

    list_display = ("at", "proposal", "binding", "passed", "limits_version")
    list_filter = ("binding", "passed")
    ordering = ("-id",)
    list_select_related = ("proposal",)
    show_full_result_count = False
