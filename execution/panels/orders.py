"""Orders and their fate."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Min

from execution import selectors
from execution.contracts import ENTRY_KINDS, PROTECTIVE_ROLES, OrderStatus, Role, Source
from execution.models import Fill, Order
from execution.selectors import protection
from proposals import selectors as proposals
from proposals.contracts import ProposalStatus
from proposals.models import Proposal
from tradingbot.core.decimals import ZERO, plain
from tradingbot.core.panels import UnknownPanel, panel
from tradingbot.core.permissions import Deed, may

PAGE_ROWS = 50
PAGES_MAX = 200
RECENT_SHOWN = 10
STEPS_MAX = 200
REQUESTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an order's timeline; `after_ms` since the line before, None on the first."""

    at: datetime
    name: str
    detail: str
    tone: str
    after_ms: int | None = None


@panel("orders", template="execution/order_list.html", topics={"order"})
def order_list(user: Any, argument: str) -> dict[str, Any]:
    """`orders:<page>`: all orders, newest first."""
    page = int(argument) if argument.isdecimal() else 0
    if not 1 <= page <= PAGES_MAX:
        raise UnknownPanel("there is no such page of orders")
    rows = _orders().order_by("-created_at")
    found = list(rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS + 1])
    return {
        "rows": found[:PAGE_ROWS],
        "page": page,
        "older": page + 1 if len(found) > PAGE_ROWS else None,
        "newer": page - 1 if page > 1 else None,
    }


@panel("orders.recent", template="execution/orders_recent.html", topics={"order"})
def recent_orders(user: Any, argument: str) -> dict[str, Any]:
    """The last orders, for the overview."""
    return {"rows": _orders().order_by("-created_at")[:RECENT_SHOWN]}


@panel("order", template="execution/order.html", topics={"order", "position"}, keyed_by="order")
def order(user: Any, argument: str) -> dict[str, Any]:
    """One order with all that happened to it."""
    try:
        row = _orders().get(pk=UUID(argument))
    except (ValueError, Order.DoesNotExist) as error:
        raise UnknownPanel("there is no such order") from error
    return _order_context(row) | _operating(row, user)


def _operating(row: Order, user: Any) -> dict[str, Any]:
    """What a person may do with the order now, and what was asked of it."""
    requests = list(row.requests.order_by("-id")[:REQUESTS_SHOWN])
    open_there = row.status == OrderStatus.CONFIRMED and not protection.has_ended(row)
    return {
        "asked": next((request for request in requests if request.done_at is None), None),
        "answered": [request for request in requests if request.done_at is not None],
        "cancellable": open_there and row.role not in PROTECTIVE_ROLES,
        "protects": open_there and row.role in PROTECTIVE_ROLES,
        "replaceable": protection.is_replaceable(row),
        "others": [other for other in protection.entries_of(row) if other.pk != row.pk],
        "may_cancel": may(user, Deed.OPERATE),
        "may_replace": may(user, Deed.REPLACE),
    }


@panel("order.fate", template="execution/fate.html", topics={"proposal", "order"})
def fate(user: Any, argument: str) -> dict[str, Any]:
    """What became of an approved proposal: the timeline of the order that was approved, not of its legs."""
    try:
        proposal = proposals.proposals().get(pk=UUID(argument))
    except (ValueError, Proposal.DoesNotExist) as error:
        raise UnknownPanel("there is no such proposal") from error
    entries = _orders().filter(intent__proposal=proposal, intent__kind__in=ENTRY_KINDS, role=Role.ORDER)
    row = entries.order_by("-created_at").first()
    return _order_context(row) if row else {"proposal": proposal}


def _orders() -> Any:
    return Order.objects.filter(environment=selectors.ENVIRONMENT).select_related(
        "intent__proposal__decision"
    )


def _order_context(row: Order) -> dict[str, Any]:
    fills = list(row.fills.order_by("at", "trade_id")[:STEPS_MAX])
    return {
        "order": row,
        "intent": row.intent,
        "proposal": row.intent.proposal,
        "fills": fills,
        "fees_quote": sum((fill.commission_quote for fill in fills), ZERO),
        "average_price": row.cumulative_quote / row.executed_quantity if row.executed_quantity else None,
        "probes": row.probes.order_by("at", "id")[:STEPS_MAX],
        "events": list(row.events.order_by("recorded_at", "id")[:STEPS_MAX]),
        "steps": timeline(row, fills),
    }


def timeline(row: Order, fills: list[Fill]) -> list[Step]:
    """All that happened to an order, in sequence: from the proposal to the last fill.

    Times are ours until it was sent, then the exchange's, whatever came to us first; where the two clocks differ
    nothing of the exchange's stands before the request.
    """
    proposal, intent = row.intent.proposal, row.intent
    steps = [
        Step(
            proposal.created_at, "proposed", f"by {proposal.decision.model_answered or 'the advisor'}", "idle"
        ),
        *_approval_steps(proposal),
        Step(intent.created_at, "claimed", "intent and reservation recorded", "idle"),
    ]
    for test in row.tests.order_by("at", "id")[:STEPS_MAX]:
        tone, words = ("good", "passed, nothing placed") if test.passed else ("bad", test.detail)
        steps.append(Step(test.at, "order/test", words, tone))
    if row.sent_at:
        steps.append(Step(row.sent_at, "submitted", f"sent once as {row.client_order_id}", "idle"))
    steps.sort(key=lambda step: step.at)
    steps += _exchange_steps(row, fills, after=steps[-1].at)
    return [
        Step(s.at, s.name, s.detail, s.tone, max(0, _ms_between(steps[i - 1].at, s.at)) if i else None)
        for i, s in enumerate(steps)
    ]


def _ms_between(start: datetime, end: datetime) -> int:
    return round((end - start).total_seconds() * 1000)


def _exchange_steps(row: Order, fills: list[Fill], *, after: datetime) -> list[Step]:
    """What followed the request, by the exchange's time; of one instant first the acknowledgement, last the end."""
    found: list[tuple[datetime, Step]] = []
    if row.acknowledged_at:
        told = row.events.exclude(source=Source.LOCAL).aggregate(first=Min("at"))["first"]
        at = min([told or row.acknowledged_at, *(fill.at for fill in fills)])
        found.append((at, Step(at, "ack", f"exchange order {row.exchange_order_id}", "good")))
    if row.unknown_since:
        step = Step(row.unknown_since, "unknown", "no certain answer; asking the exchange", "warn")
        found.append((row.unknown_since, step))
    for fill in fills:
        fee = f"fee {plain(fill.commission)} {fill.commission_asset}"
        sentence = f"{plain(fill.quantity)} at {plain(fill.price)}, {fee}"
        found.append((fill.at, Step(fill.at, "fill", sentence, "good")))
    if row.closed_at:
        end = Step(row.closed_at, (row.exchange_status or row.status).lower(), row.reason, "idle")
        found.append((max(row.closed_at, *(at for at, _ in found), after), end))
    found.sort(
        key=lambda pair: max(pair[0], after)
    )  # stable, so that one instant keeps the sequence of above
    return [step for _, step in found]


def _approval_steps(proposal: Proposal) -> list[Step]:
    steps = []
    if proposal.validated_at:
        steps.append(
            Step(proposal.validated_at, "validated", f"limits version {proposal.limits_version}", "good")
        )
    if proposal.decided_at:
        name = "rejected" if proposal.status == ProposalStatus.REJECTED else "approved"
        steps.append(Step(proposal.decided_at, name, f"by {proposal.decided_by}", "good"))
    elif proposal.status == ProposalStatus.AUTO_APPROVED and proposal.validated_at:
        steps.append(Step(proposal.validated_at, "approved", "automatically, below the threshold", "good"))
    return steps
