"""What strategies used of their budgets."""

from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Q, QuerySet, Sum

from proposals.models import Decision, ModelPrice, Strategy
from proposals.rules import budgets
from proposals.rules.budgets import TOKENS_OF_AN_UNTOLD_CALL, Budget, Price, Used

HOUR = timedelta(hours=1)


def model_of(strategy: Strategy) -> str:
    """The model that the strategy asks."""
    return strategy.model or str(settings.ADVISOR_MODEL)


def price_of(model: str) -> Price | None:
    """What `model` costs; None where nobody stated it."""
    row = ModelPrice.objects.filter(model=model).first()
    return Price(row.prompt_usd_per_million, row.completion_usd_per_million) if row else None


def budget_of(strategy: Strategy) -> Budget:
    """The limits of its row."""
    return Budget(
        calls_per_hour=strategy.decisions_per_hour_max,
        tokens_per_day=strategy.tokens_per_day_max,
        cost_per_day_usd=strategy.cost_per_day_max_usd,
    )


def used_by(strategy: Strategy, now: datetime, *, but: Decision | None = None) -> Used:
    """What `strategy` used, calls under way at their worst; `but` is left out."""
    rows = Decision.objects.filter(environment=settings.TRADING_ENVIRONMENT, strategy=strategy)
    rows = rows.exclude(pk=but.pk) if but else rows
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Used(
        calls_of_the_hour=_calls(rows.filter(started_at__gt=now - HOUR)),
        tokens_of_the_day=_tokens(rows.filter(started_at__gte=midnight)),
        cost_of_the_day_usd=_cost(rows.filter(started_at__gte=midnight), price_of(model_of(strategy))),
    )


def _calls(rows: QuerySet[Decision]) -> int:
    made = rows.aggregate(found=Sum("attempts"))["found"] or 0
    return int(made + rows.filter(finished_at=None).count())


def _tokens(rows: QuerySet[Decision]) -> int:
    used = rows.aggregate(found=Sum("counted_tokens"))["found"] or 0
    return int(used + rows.filter(finished_at=None).count() * TOKENS_OF_AN_UNTOLD_CALL)


def _cost(rows: QuerySet[Decision], price: Price | None) -> Decimal | None:
    """Calls whose price was not known when they were made count at the price of now, at its dearer half."""
    if price is None:
        return None
    known = rows.aggregate(found=Sum("cost_usd"))["found"] or Decimal(0)
    unpriced = _tokens(rows.filter(Q(cost_usd=None)))
    dearer = max(price.prompt_usd, price.completion_usd)
    return Decimal(known) + budgets.cost_usd(unpriced, 0, Price(dearer, dearer))
