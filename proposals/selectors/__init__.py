"""What others may read of proposing: what is due, what waits, what was decided."""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from market import selectors as market_selectors
from market.contracts import Candle, Interval
from market.selectors.candles import last_open_times
from proposals.contracts import (
    APPROVED_STATUSES,
    REQUEST_WAITS_SECONDS_MAX,
    Action,
    ProposalStatus,
    QuantisedOrder,
)
from proposals.models import AdvisorBreaker, Decision, DecisionRequest, Proposal, Strategy
from tradingbot.core.permissions import Deed, who_may

HOUR = timedelta(hours=1)
# A decision without an end is a killed worker's after the call's own deadline and this much more.
INTERRUPTED_AFTER_SECONDS = 30


def proposals() -> QuerySet[Proposal]:
    """The proposals of this environment."""
    return Proposal.objects.filter(environment=settings.TRADING_ENVIRONMENT)


def decisions() -> QuerySet[Decision]:
    """The decisions of this environment."""
    return Decision.objects.filter(environment=settings.TRADING_ENVIRONMENT)


def decision_of(row_id: UUID) -> Decision | None:
    """The decision with that id, or the one of the proposal with that id."""
    rows = decisions().select_related("snapshot", "strategy")
    return rows.filter(Q(pk=row_id) | Q(proposal__pk=row_id)).first()


# --- when to ask -----------------------------------------------------------------------------------------
def due_decisions(now: datetime) -> list[tuple[Strategy, str]]:
    """Each enabled strategy with a symbol to decide on now: a new closed candle, or a person who asked."""
    asked = set(waiting_requests(now).values_list("strategy_id", "symbol"))
    return [
        (strategy, symbol)
        for strategy in Strategy.objects.filter(enabled=True).order_by("shadow", "pk")
        for symbol in _with_new_candle(strategy, {name for pk, name in asked if pk == strategy.pk})
        if candle_to_decide(strategy, symbol, now) is not None
        or ((strategy.pk, symbol) in asked and candle_on_demand(strategy, symbol, now) is not None)
    ]


def _with_new_candle(strategy: Strategy, asked: Collection[str]) -> list[str]:
    """The symbols worth a closer look, in two queries: this runs several times a second and mostly for nothing."""
    newest = last_open_times(strategy.symbols, Interval(strategy.interval))
    decided = set(
        decisions()
        .filter(strategy=strategy, on_demand=False, symbol__in=newest, candle_open_time__in=newest.values())
        .values_list("symbol", "candle_open_time")
    )
    return [s for s in strategy.symbols if s in asked or (s in newest and (s, newest[s]) not in decided)]


def candle_to_decide(strategy: Strategy, symbol: str, now: datetime) -> Candle | None:
    """The latest closed candle, if nothing speaks against deciding on it.

    None: no candle yet, decided already, another decision on the symbol under way or too recent (whatever
    its strategy). A shadow strategy holds up no other, and waits only for shadows: for the one that is under
    way, whatever its symbol.
    """
    if strategy.shadow and under_way(strategy, symbol, now).exists():
        return None
    candle = market_selectors.last_closed(symbol, Interval(strategy.interval))
    if candle is None or _is_decided(strategy, symbol, candle):
        return None
    recent = (
        decisions()
        .filter(symbol=symbol, **({"strategy": strategy} if strategy.shadow else {"shadow": False}))
        .order_by("-started_at")
        .values_list("strategy_id", "candle_open_time", "started_at", "finished_at")
    )
    for strategy_id, candle_open_time, started_at, finished_at in recent[:20]:
        if strategy_id == strategy.pk and candle_open_time == candle.open_time:
            return None
        if (now - started_at).total_seconds() < strategy.min_seconds_between:
            return None
        if finished_at is None and started_at > interrupted_before(now):
            return None
    return candle


def _is_decided(strategy: Strategy, symbol: str, candle: Candle) -> bool:
    """In turn, however many decisions on the symbol came since: those of shorter intervals are many."""
    in_turn = decisions().filter(strategy=strategy, symbol=symbol, on_demand=False)
    return in_turn.filter(candle_open_time=candle.open_time).exists()


def candle_on_demand(strategy: Strategy, symbol: str, now: datetime) -> Candle | None:
    """The latest closed candle for a decision out of turn; None while there is none or another is under way."""
    if under_way(strategy, symbol, now).exists():
        return None
    return market_selectors.last_closed(symbol, Interval(strategy.interval))


def under_way(strategy: Strategy, symbol: str, now: datetime) -> QuerySet[Decision]:
    """Decisions that `strategy` must wait for: begun, not finished, and the worker may still live.

    Those on `symbol`; for a shadow strategy all of shadows, so that they take one thread of the worker at most.
    """
    begun = decisions().filter(finished_at=None, started_at__gt=interrupted_before(now))
    return begun.filter(shadow=True) if strategy.shadow else begun.filter(symbol=symbol, shadow=False)


def requests() -> QuerySet[DecisionRequest]:
    """What people asked for in this environment."""
    return DecisionRequest.objects.filter(environment=settings.TRADING_ENVIRONMENT)


def waiting_requests(now: datetime) -> QuerySet[DecisionRequest]:
    """Requests that no decision has taken up and that have not lapsed."""
    since = now - timedelta(seconds=REQUEST_WAITS_SECONDS_MAX)
    return requests().filter(decision=None, lapsed_at=None, requested_at__gt=since)


def requests_of_the_hour(strategy: Strategy, now: datetime) -> int:
    """Decisions out of turn that were asked of `strategy` in the last hour; who joined another's not counted."""
    return requests().filter(strategy=strategy, merged=False, requested_at__gt=now - HOUR).count()


def requesters_of(proposal: Proposal) -> list[str]:
    """Who asked for the decision that the proposal came of; empty for one that came by itself."""
    asked = DecisionRequest.objects.filter(decision_id=proposal.decision_id).order_by("requested_at", "pk")
    return list(dict.fromkeys(asked.values_list("requested_by", flat=True)))


def only_requesters(proposal: Proposal, people: Collection[str]) -> bool:
    """Whether nobody but those who asked for the decision is among `people`, which then cannot approve it."""
    asked = requesters_of(proposal)
    return bool(asked) and not set(people) - set(asked)


def interrupted_before(now: datetime) -> datetime:
    """A decision begun before this instant and not finished belongs to a worker that died."""
    return now - timedelta(seconds=settings.ADVISOR_TIMEOUT_SECONDS + INTERRUPTED_AFTER_SECONDS)


def recent_proposals(strategy: Strategy, symbol: str, limit: int) -> list[Proposal]:
    """The last proposals of `symbol`, newest first, that `strategy` may know of: a shadow's are only its own."""
    known = {"shadow": True, "decision__strategy": strategy} if strategy.shadow else {"shadow": False}
    rows = proposals().filter(symbol=symbol, **known).select_related("score")
    return list(rows.order_by("-created_at")[:limit])


def breakers(*, shadow: bool = False) -> list[AdvisorBreaker]:
    """The breaker of every advisor that trades, or of those in shadow, by name."""
    return list(AdvisorBreaker.objects.filter(shadow=shadow).order_by("name"))


# --- what waits for whom ---------------------------------------------------------------------------------
def proposals_to_assess(limit: int) -> list[UUID]:
    """Proposals that the gate has not seen, oldest first, shadows after all others."""
    waiting = proposals().filter(status=ProposalStatus.PROPOSED)
    return list(waiting.order_by("shadow", "created_at", "pk").values_list("pk", flat=True)[:limit])


def proposals_to_score(limit: int) -> list[Proposal]:
    """BUY and SELL proposals whose reckoning has not begun, oldest first; whatever becomes of them."""
    known = Q(action=Action.BUY) | Q(action=Action.SELL, held__isnull=False)
    ideas = proposals().filter(known, score=None).exclude(decision__snapshot=None)
    assessed = ideas.exclude(status__in=[ProposalStatus.PROPOSED, ProposalStatus.VALIDATED])
    return list(assessed.select_related("decision__snapshot").order_by("created_at", "pk")[:limit])


def approved_unclaimed(limit: int, now: datetime) -> list[UUID]:
    """Approved proposals that may still be ordered, oldest first."""
    approved = proposals().filter(status__in=APPROVED_STATUSES, claimed_at=None, expires_at__gt=now)
    return list(approved.order_by("created_at", "pk").values_list("pk", flat=True)[:limit])


def pending(now: datetime) -> list[Proposal]:
    """Proposals that wait for a person, the most urgent first."""
    return list(
        proposals()
        .filter(status=ProposalStatus.PENDING_APPROVAL, expires_at__gt=now)
        .select_related("decision__strategy")
        .order_by("expires_at", "pk")
    )


def people_for(proposal: Proposal) -> list[str]:
    """Whose approval of the proposal as it stands (this version, this digest) counts, in their order."""
    votes = proposal.votes.filter(version=proposal.version, digest=proposal.digest).order_by("at", "pk")
    return who_may(votes.values_list("actor", flat=True), Deed.APPROVE)


def approvers_of(proposal: Proposal) -> list[str]:
    """Everybody who approved the order of the row, whatever its version became since."""
    votes = proposal.votes.filter(digest=proposal.digest).order_by("at", "pk")
    return list(dict.fromkeys(votes.values_list("actor", flat=True)))


# --- what a row says -------------------------------------------------------------------------------------
def order_of(proposal: Proposal) -> QuantisedOrder:
    """The order of a proposal that passed the gate, as its row holds it; ValueError when the row holds none."""
    fields = {name: getattr(proposal, name) for name in QuantisedOrder.model_fields}
    return QuantisedOrder.model_validate(fields | {"time_in_force": proposal.time_in_force or None})
