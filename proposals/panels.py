"""Panels of proposals: the queue, the lists, the gate's verdict, the record of the decision."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from market.models import Quote
from proposals import rules, selectors, services
from proposals.contracts import REQUEST_WAITS_SECONDS_MAX, ProposalStatus, Side
from proposals.models import Proposal, Strategy
from proposals.rules import scoring
from proposals.rules.budgets import Budget, Used
from proposals.selectors import budgets, scoreboard
from tradingbot.core import clock
from tradingbot.core.panels import UnknownPanel, panel
from tradingbot.core.permissions import Deed, may

QUEUE_SHOWN = 100
NEXT_SHOWN = 5
RECENT_SHOWN = 10
REQUESTS_SHOWN = 20
PAGE_ROWS = 50
PAGES_MAX = 200
DECIDED = (ProposalStatus.APPROVED, ProposalStatus.REJECTED, ProposalStatus.EXPIRED)
# What the list of all proposals can be narrowed to, in the order of the links.
FILTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "all": ("All", ()),
    "waiting": ("Waiting", (ProposalStatus.PENDING_APPROVAL,)),
    "approved": ("Approved", (ProposalStatus.APPROVED, ProposalStatus.AUTO_APPROVED)),
    "refused": ("Refused by the gate", (ProposalStatus.RISK_REJECTED,)),
    "rejected": ("Rejected", (ProposalStatus.REJECTED,)),
    "expired": ("Expired", (ProposalStatus.EXPIRED,)),
    "shadow": ("Shadow", ()),
    "no-trade": ("No trade", (ProposalStatus.NO_TRADE,)),
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pending proposal with how far the price went since; `drift_pct` is None without a quote."""

    proposal: Proposal
    drift_pct: Decimal | None
    denied: int
    held: int


def _waiting(limit: int) -> tuple[list[Waiting], int]:
    rows = selectors.pending(clock.now())
    quotes = {q.symbol: q for q in Quote.objects.filter(environment=settings.TRADING_ENVIRONMENT)}
    return [_with_drift(row, quotes.get(row.symbol)) for row in rows[:limit]], len(rows)


def _with_drift(row: Proposal, quote: Quote | None) -> Waiting:
    drift = None
    if quote is not None and row.reference_price:
        drift = ((quote.bid + quote.ask) / 2 - row.reference_price) / row.reference_price * 100
    verdicts = [rule.get("verdict") for rule in row.verdict]
    return Waiting(row, drift, verdicts.count("deny"), verdicts.count("hold"))


@panel("queue", template="proposals/queue.html", topics={"proposal", "quote"})
def queue(user: Any, argument: str) -> dict[str, Any]:
    """What waits for a person, soonest expiry first."""
    rows, count = _waiting(QUEUE_SHOWN)
    return {"rows": rows, "count": count, "shown": QUEUE_SHOWN}


@panel("queue.next", template="proposals/queue_next.html", topics={"proposal"})
def queue_next(user: Any, argument: str) -> dict[str, Any]:
    """The next to expire, for the overview."""
    rows, count = _waiting(NEXT_SHOWN)
    return {"rows": rows, "count": count}


@panel("queue.decided", template="proposals/decided.html", topics={"proposal"})
def decided(user: Any, argument: str) -> dict[str, Any]:
    """Lately decided or expired."""
    rows = selectors.proposals().filter(shadow=False, status__in=DECIDED).order_by("-created_at")
    return {"rows": rows[:25], "title": "Decided and expired"}


@panel("proposals.recent", template="proposals/recent.html", topics={"proposal"})
def recent(user: Any, argument: str) -> dict[str, Any]:
    """The last proposals of any fate, for the overview; shadows are not the desk's."""
    return {"rows": selectors.proposals().filter(shadow=False).order_by("-created_at")[:RECENT_SHOWN]}


@panel("proposals", template="proposals/list.html", topics={"proposal"})
def all_proposals(user: Any, argument: str) -> dict[str, Any]:
    """`proposals:<filter>:<page>`: all proposals, newest first, with the reason of those that went no further."""
    name, _, page_text = argument.partition(":")
    page = int(page_text) if page_text.isdecimal() else 1
    if name not in FILTERS or not 1 <= page <= PAGES_MAX:
        raise UnknownPanel("there is no such list of proposals")
    statuses = FILTERS[name][1]
    rows: QuerySet[Proposal] = selectors.proposals().select_related("decision").order_by("-created_at")
    rows = rows.filter(status__in=statuses) if statuses else rows
    rows = rows.filter(shadow=True) if name == "shadow" else rows
    found = list(rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS + 1])
    return {
        "rows": found[:PAGE_ROWS],
        "filter": name,
        "filters": [(key, label) for key, (label, _) in FILTERS.items()],
        "page": page,
        "older": page + 1 if len(found) > PAGE_ROWS else None,
        "newer": page - 1 if page > 1 else None,
    }


def find_proposal(argument: str) -> Proposal:
    """The proposal of this environment with that id, or UnknownPanel."""
    try:
        return (
            selectors.proposals()
            .select_related("decision__snapshot", "decision__strategy", "score")
            .get(pk=UUID(argument))
        )
    except (ValueError, Proposal.DoesNotExist) as error:
        raise UnknownPanel("there is no such proposal") from error


def answering(row: Proposal, user: Any) -> dict[str, Any]:
    """What the form of a decision needs: who approved so far, the token of this showing, what `user` may do."""
    now = clock.now()
    return {
        "people": selectors.people_for(row),
        "people_of": selectors.approvers_of(row),
        "requesters": selectors.requesters_of(row),
        "shown_token": services.shown_token(proposal=row, actor=user.get_username(), now=now),
        "may_decide": may(user, Deed.APPROVE),
    }


def why_not_by_you(row: Proposal, user: Any) -> list[str]:
    """Why this person cannot approve, whatever the order is."""
    if not may(user, Deed.APPROVE):
        return ["you may look, not decide: that takes the role operator"]
    name, people = user.get_username(), selectors.people_for(row)
    if name in people:
        return ["you approved it already; somebody else must approve it too"]
    if len(people) + 1 >= row.approvals_required and selectors.only_requesters(row, [*people, name]):
        return ["you asked for this decision; somebody who did not ask must approve it"]
    return []


@dataclass(frozen=True, slots=True)
class Standing:
    """A strategy with what it may use and has used."""

    strategy: Strategy
    model: str
    budget: Budget
    used: Used
    refused: tuple[str, str] | None


@panel("advisor.state", template="proposals/advisor_state.html", topics={"advisor", "proposal"})
def state(user: Any, argument: str) -> dict[str, Any]:
    """Breakers of the models, and each strategy with its budget."""
    now = clock.now()
    return {
        "breakers": [*selectors.breakers(), *selectors.breakers(shadow=True)],
        "standings": [_standing(row, now) for row in Strategy.objects.order_by("-enabled", "shadow", "name")],
        "failures_to_open": rules.FAILURES_TO_OPEN,
    }


def _standing(strategy: Strategy, now: datetime) -> Standing:
    model, budget, used = (
        budgets.model_of(strategy),
        budgets.budget_of(strategy),
        budgets.used_by(strategy, now),
    )
    return Standing(strategy, model, budget, used, rules.why_no_call(budget, used, model))


@panel("advisor.requests", template="proposals/requests.html", topics={"decision_request", "proposal"})
def asked(user: Any, argument: str) -> dict[str, Any]:
    """What people asked the advisor lately, and what came of it."""
    rows = selectors.requests().select_related("strategy", "decision__proposal").order_by("-requested_at")
    return {"rows": rows[:REQUESTS_SHOWN], "wait_seconds": REQUEST_WAITS_SECONDS_MAX}


@panel("scoreboard", template="proposals/scoreboard.html", topics={"score"})
def scores(user: Any, argument: str) -> dict[str, Any]:
    """`scoreboard:<period>`: what proposals would have brought by their own terms, and what the model cost."""
    if argument not in scoreboard.PERIODS:
        raise UnknownPanel("there is no such period")
    since = scoreboard.since_of(argument, clock.now())
    boards = [_board(side, scoreboard.scores(since, side)) for side in Side]
    bought, sold = ({line.key: line for line in board["models"]} for board in boards)
    spent = scoreboard.spent(since)
    return {
        "period": argument,
        "boards": boards,
        "models": [
            (key, bought.get(key), sold.get(key), spent.get(key)) for key in sorted({*bought, *sold, *spent})
        ],
        "watched_days": scoring.WATCHED.days,
    }


def _board(side: Side, rows: QuerySet[Any]) -> dict[str, Any]:
    return {
        "side": side,
        "sells": side is Side.SELL,
        "all": next(iter(scoreboard.lines(rows, ("environment",))), None),
        "fates": scoreboard.lines(rows, scoreboard.FATE),
        "models": scoreboard.lines(rows, scoreboard.MODEL),
        "symbols": scoreboard.lines(rows, scoreboard.SYMBOL),
        "people": scoreboard.by_person(rows),
        "bins": scoreboard.calibration(rows),
    }


@panel("proposal.record", template="proposals/record.html", topics={"proposal", "score"}, keyed_by="proposal")
def record(user: Any, argument: str) -> dict[str, Any]:
    """The model's reasons, the facts it stated, and the record of the call."""
    row = find_proposal(argument)
    answer = row.answer if isinstance(row.answer, dict) else {}
    facts = [fact for fact in answer.get("facts") or [] if isinstance(fact, dict)]
    requesters = selectors.requesters_of(row)
    return {"proposal": row, "decision": row.decision, "facts": facts, "requesters": requesters}
