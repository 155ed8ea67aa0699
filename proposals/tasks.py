"""The advisor's and the queue's work, found by sweeps. Running any of them twice is harmless."""

from typing import Any

from celery import shared_task

from proposals import selectors, services
from proposals.models import Strategy
from tradingbot.core import clock

NUDGE_EXPIRES_SECONDS = 10


@shared_task
def advise_due(**_: Any) -> int:
    """Hand each decision that is due to a task of its own: a slow model holds up one symbol only."""
    due = selectors.due_decisions(clock.now())
    for strategy, symbol in due:
        advise_one.apply_async(
            kwargs={"strategy_id": strategy.pk, "symbol": symbol},
            expires=NUDGE_EXPIRES_SECONDS,
            retry=False,
        )
    return len(due)


@shared_task
def advise_one(*, strategy_id: int, symbol: str, **_: Any) -> None:
    """Decide on the latest closed candle of one symbol for one strategy."""
    strategy = Strategy.objects.filter(pk=strategy_id, enabled=True).first()
    if strategy is not None:
        services.advise(strategy=strategy, symbol=symbol, now=clock.now())


@shared_task
def expire_overdue(**_: Any) -> int:
    """End what is past its time."""
    return services.expire_overdue(now=clock.now())


@shared_task
def score_proposals(**_: Any) -> int:
    """Reckon what past proposals to buy would have brought."""
    return services.score_proposals(now=clock.now())
