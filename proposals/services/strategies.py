"""Changing when the advisor is asked. The change and its audit record are one."""

from datetime import datetime

from django.db import transaction

from proposals.models import ModelPrice, Strategy
from tradingbot.core import alerts, audit

_FIELDS = (
    "name",
    "enabled",
    "shadow",
    "symbols",
    "interval",
    "model",
    "api",
    "prompt_version",
    "decisions_per_hour_max",
    "min_seconds_between",
    "requests_per_hour_max",
    "tokens_per_day_max",
    "cost_per_day_max_usd",
)


def budget_alert_key(strategy: Strategy) -> str:
    """Of the alert that its budget is spent: closed by its next decision that may ask, or by switching it off."""
    return f"advisor_budget:{strategy.pk}"


@transaction.atomic
def save_strategy(*, strategy: Strategy, actor: str, now: datetime) -> Strategy:
    """Write a new or changed strategy, whose fields the caller has validated."""
    before = Strategy.objects.filter(pk=strategy.pk).values(*_FIELDS).first()
    strategy.save()
    if not strategy.enabled:
        alerts.resolve_alerts(dedupe_key=budget_alert_key(strategy), now=now)
    audit.record(
        action="strategy.saved",
        subject=f"strategy:{strategy.pk}",
        actor=actor,
        now=now,
        before=before,
        after={name: getattr(strategy, name) for name in _FIELDS},
    )
    return strategy


@transaction.atomic
def save_price(*, price: ModelPrice, actor: str, now: datetime) -> ModelPrice:
    """Write what a model costs."""
    fields = ("prompt_usd_per_million", "completion_usd_per_million")
    before = ModelPrice.objects.filter(pk=price.pk).values(*fields).first()
    price.save()
    audit.record(
        action="model_price.saved",
        subject=f"model_price:{price.pk}",
        actor=actor,
        now=now,
        before=before,
        after={name: getattr(price, name) for name in fields},
    )
    return price
