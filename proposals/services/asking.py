"""A person asks for a decision out of turn: merged with one that waits or is under way, capped per hour."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from proposals import selectors
from proposals.contracts import REQUEST_WAITS_SECONDS_MAX, DecisionRefused
from proposals.models import Decision, DecisionRequest, Strategy
from proposals.services.advice import one_at_a_time
from tradingbot.core import audit
from tradingbot.core.announce import announce


@transaction.atomic
def ask_decision(*, strategy_id: int, symbol: str, actor: str, now: datetime) -> DecisionRequest:
    """Record that `actor` wants a decision of the strategy on `symbol` now; a worker takes it up.

    Whoever asks again, or while another's question waits or is being answered, gets that one. Raises
    DecisionRefused: NO_STRATEGY, SYMBOL_NOT_IN_STRATEGY, ASKED_TOO_OFTEN.
    """
    strategy = _strategy(strategy_id, symbol)
    one_at_a_time(strategy, symbol)
    _lapse(selectors.requests().filter(strategy=strategy, symbol=symbol), now)
    waiting = selectors.waiting_requests(now).filter(strategy=strategy, symbol=symbol)
    own = waiting.filter(requested_by=actor).first()
    if own is not None:
        return own
    decision = _under_way(strategy, symbol, now)
    merged = decision is not None or waiting.exists()
    if not merged:
        _check_cap(strategy, now)
    request = DecisionRequest.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        strategy=strategy,
        symbol=symbol,
        requested_by=actor,
        requested_at=now,
        merged=merged,
        decision=decision,
    )
    audit.record(
        action="decision.asked",
        subject=f"{DecisionRequest.TOPIC}:{request.pk}",
        actor=actor,
        now=now,
        strategy=strategy.name,
        symbol=symbol,
        merged=merged,
        decision=str(decision.pk) if decision else None,
    )
    announce(DecisionRequest.TOPIC, request.pk, event="asked")
    return request


def _strategy(strategy_id: int, symbol: str) -> Strategy:
    strategy = Strategy.objects.filter(pk=strategy_id, enabled=True).first()
    if strategy is None:
        raise DecisionRefused("NO_STRATEGY", "Not asked: the strategy is switched off or does not exist.")
    if symbol not in strategy.symbols:
        raise DecisionRefused(
            "SYMBOL_NOT_IN_STRATEGY", f"Not asked: {strategy.name} does not decide on {symbol:.32}."
        )
    return strategy


def _check_cap(strategy: Strategy, now: datetime) -> None:
    """Under the lock of the strategy's row: of questions on two symbols at once the second counts the first."""
    cap = Strategy.objects.select_for_update(no_key=True).get(pk=strategy.pk).requests_per_hour_max
    if selectors.requests_of_the_hour(strategy, now) >= cap:
        raise DecisionRefused(
            "ASKED_TOO_OFTEN",
            f"Not asked: {strategy.name} takes {cap} questions an hour, and they are used up. It still decides "
            "when a candle closes.",
        )


def _under_way(strategy: Strategy, symbol: str, now: datetime) -> Decision | None:
    """The strategy's decision on `symbol` that is being made; locked, so that it cannot end meanwhile."""
    rows = selectors.under_way(strategy, symbol, now).filter(strategy=strategy, symbol=symbol)
    return rows.select_for_update().order_by("-started_at").first()


def lapse_requests(*, now: datetime) -> int:
    """End requests that no worker took up in time; how many."""
    return _lapse(selectors.requests(), now)


def _lapse(rows: QuerySet[DecisionRequest], now: datetime) -> int:
    since = now - timedelta(seconds=REQUEST_WAITS_SECONDS_MAX)
    overdue = rows.filter(decision=None, lapsed_at=None, requested_at__lte=since)
    lapsed = overdue.update(lapsed_at=now)
    if lapsed:
        announce(DecisionRequest.TOPIC, "lapsed")
    return lapsed
