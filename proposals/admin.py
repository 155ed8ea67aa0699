"""The Django admin of proposing: strategies can be changed, the record of decisions only read."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db import models
from django.http import HttpRequest

from proposals import rules, services
from proposals.contracts import AdvisorUnavailable
from proposals.models import AdvisorBreaker, Decision, ModelPrice, Proposal, Strategy
from tradingbot.core import clock
from tradingbot.core.admin import ReadOnlyAdmin
from tradingbot.core.form_fields import PlainIntegerField


class StrategyForm(forms.ModelForm):
    """Refuses symbols without market data and prompt versions without files."""

    class Meta:
        model = Strategy
        exclude: tuple[str, ...] = ()

    def clean_symbols(self) -> list[str]:
        """Symbols in capital letters, each once, each streamed."""
        try:
            return rules.parse_symbols(self.cleaned_data["symbols"], streamed=settings.SYMBOLS)
        except rules.MalformedSymbols as error:
            raise forms.ValidationError(str(error)) from error

    def clean_prompt_version(self) -> str:
        """A version whose files exist."""
        version: str = self.cleaned_data["prompt_version"]
        try:
            services.load_prompt(version)
        except AdvisorUnavailable as error:
            raise forms.ValidationError(error.detail) from error
        return version


@admin.register(Strategy)
class StrategyAdmin(admin.ModelAdmin):
    """Strategies are switched off, not deleted: decisions refer to them."""

    form = StrategyForm
    formfield_overrides = {
        # Both are named: the admin has a widget of its own for each.
        kind: {"form_class": PlainIntegerField, "widget": AdminTextInputWidget}
        for kind in (models.IntegerField, models.BigIntegerField)
    }
    list_display = ("name", "enabled", "shadow", "interval", "symbols", "model", "prompt_version")

    def save_model(self, request: HttpRequest, obj: Strategy, form: Any, change: bool) -> None:
        """Through the service, which leaves the audit record."""
        services.save_strategy(strategy=obj, actor=request.user.get_username(), now=clock.now())

    def has_delete_permission(self, request: HttpRequest, obj: Strategy | None = None) -> bool:
        """Never."""
        return False


@admin.register(ModelPrice)
class ModelPriceAdmin(admin.ModelAdmin):
    """What models cost, for budgets and the scoreboard."""

    list_display = ("model", "prompt_usd_per_million", "completion_usd_per_million")

    def save_model(self, request: HttpRequest, obj: ModelPrice, form: Any, change: bool) -> None:
        """Through the service, which leaves the audit record."""
        services.save_price(price=obj, actor=request.user.get_username(), now=clock.now())

    def get_readonly_fields(self, request: HttpRequest, obj: ModelPrice | None = None) -> tuple[str, ...]:
        """Another model is another row."""
        return ("model",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: ModelPrice | None = None) -> bool:
        """Never: a price is corrected."""
        return False


@admin.register(Decision)
class DecisionAdmin(ReadOnlyAdmin):
    """The calls of the advisor, whole."""

    list_display = ("started_at", "symbol", "strategy", "outcome", "model_answered", "latency_ms")
    list_filter = ("outcome", "symbol", "strategy")
    list_select_related = ("strategy",)
    ordering = ("-started_at",)
    show_full_result_count = False


@admin.register(Proposal)
class ProposalAdmin(ReadOnlyAdmin):
    """The proposals with their fate. Approving happens on the page that shows what is approved."""

    list_display = ("created_at", "action", "symbol", "status", "notional_quote", "decided_by", "expires_at")
    list_filter = ("status", "shadow", "action", "symbol")
    ordering = ("-created_at",)
    show_full_result_count = False


@admin.register(AdvisorBreaker)
class AdvisorBreakerAdmin(ReadOnlyAdmin):
    """The advisor's circuit breakers."""

    list_display = ("name", "state", "failures", "trips", "open_until", "changed_at")
