"""What a seed came to, read from the bot's own tables and the auditor's count, and the lines that tell it."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from execution import selectors as execution_selectors
from execution.contracts import OrderStatus
from execution.models import Divergence, ExecutionIntent, OperatorRequest, Order, ProtectionGap
from market.models import AccountEvent
from tradingbot.core import audit
from tradingbot.core.models import AuditRecord

BY_PROBE = {"GET order": "REST by id", "GET orderList": "REST by list", "scan": "all orders and trades"}
FIGURES = re.compile(r"\[[^]]*\]|-?\d+(\.\d+)?")
BY_SOURCE = {"rest": "an answer to a cancel", "poll": "reconciliation"}


@dataclass(slots=True)
class Report:
    """What one seed came to. `unknowns` counts orders of unknown fate by what ended it, `reviews` those that
    were handed to a person by why."""

    seed: int
    market_days: float = 0.0
    steps: int = 0
    orders: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    duplicates: int = 0
    lost: int = 0
    unexplained: int = 0
    reviews: Counter[str] = field(default_factory=Counter)
    unknowns: Counter[str] = field(default_factory=Counter)
    divergences_settled: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    seconds_unprotected: float = 0.0
    lists: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    wall_seconds: float = field(default=0.0, compare=False)


def unprotected(now: datetime) -> tuple[int, float]:
    """How often something was held without a stop on the exchange, and for how many seconds altogether."""
    gaps = list(ProtectionGap.objects.values_list("started_at", "ended_at"))
    return len(gaps), sum(((end or now) - start).total_seconds() for start, end in gaps)


def lists_by_kind() -> Counter[str]:
    """Order lists that were committed, by their kind."""
    return Counter(ExecutionIntent.objects.exclude(list_kind="").values_list("list_kind", flat=True))


def asked() -> Counter[str]:
    """What people asked a worker to carry out, by its kind and whether it came to that."""
    rows = OperatorRequest.objects.values_list("kind", "succeeded")
    return Counter(f"{kind} {'done' if succeeded else 'not done'}" for kind, succeeded in rows)


def settled_divergences() -> Counter[str]:
    """Divergences that are closed, by kind and outcome."""
    rows = Divergence.objects.filter(closed_at__isnull=False).values_list("kind", "outcome")
    return Counter(f"{kind} {outcome}" for kind, outcome in rows)


def open_divergences() -> int:
    """What is left open."""
    return len(execution_selectors.open_divergences())


def reviews() -> Counter[str]:
    """How often an order was handed to a person, by the reason without its figures."""
    bodies = AuditRecord.objects.filter(action=f"{Order.TOPIC}.{OrderStatus.MANUAL_REVIEW}").values_list(
        "body", flat=True
    )
    return Counter(FIGURES.sub("…", json.loads(body)["payload"]["reason"]) for body in bodies)


def unknowns() -> Counter[str]:
    """Orders whose fate was unknown for a time, by the step that ended it."""
    return Counter(_end_of(order) for order in Order.objects.exclude(unknown_since=None).order_by("pk"))


def _end_of(order: Order) -> str:
    links = audit.history(f"{Order.TOPIC}:{order.pk}")
    moves = [link for link in links if link["action"].startswith(f"{Order.TOPIC}.")]
    unknown = f"{Order.TOPIC}.{OrderStatus.UNKNOWN}"
    first = next(index for index, link in enumerate(moves) if link["action"] == unknown)
    ends = [
        link
        for link in moves[first + 1 :]
        if link["action"].removeprefix(f"{Order.TOPIC}.") in {OrderStatus.CONFIRMED, OrderStatus.NOT_PLACED}
    ]
    if not ends:
        return "still open"
    return _step(order, moves[first]["at"], ends[0])


def _step(order: Order, since: datetime, end: dict[str, Any]) -> str:
    """Which step of the saga brought the end; only the first evidence counts."""
    if end["action"].endswith(OrderStatus.NOT_PLACED):
        if end["actor"] == "saga":
            return "conclusive absence"
        return "reset accepted" if "reset" in end["payload"]["reason"] else "person: absent"
    if order.requests.filter(done_at=end["at"], succeeded=True).exists():
        return "person: filled"
    if end["payload"]["source"] == "stream":
        stored = AccountEvent.objects.filter(
            payload__c=order.client_order_id, received_at__lte=since
        ).exists()
        return "stored events" if stored else "user stream"
    found = order.probes.filter(answer="found", at=end["at"]).order_by("-pk").first()
    if found is not None:
        return BY_PROBE.get(found.method, found.method)
    sibling = Order.objects.filter(intent=order.intent, probes__answer="found", probes__at=end["at"]).exists()
    return "REST by list" if sibling else BY_SOURCE[end["payload"]["source"]]


# --- lines ----------------------------------------------------------------------------------------------


def line_of(report: Report) -> str:
    """One seed in a line."""
    return (
        f"seed {report.seed}: {report.market_days:.1f} days, {report.orders} orders, "
        f"{report.faults.total()} faults, {report.crashes} crashes, {dict(report.statuses)}, "
        f"{report.unknowns.total()} unknown for a time, {report.reviews.total()} reviews, "
        f"{report.seconds_unprotected:.0f} s unprotected, {report.wall_seconds:.0f} s"
    )


def summary(reports: Sequence[Report], *, seeds: int, failed: int, wall_seconds: float) -> list[str]:
    """What all seeds came to; the last line is the one that scripts read."""
    faults, statuses = _sum(r.faults for r in reports), _sum(r.statuses for r in reports)
    days, orders = sum(r.market_days for r in reports), sum(r.orders for r in reports)
    duplicates, lost = sum(r.duplicates for r in reports), sum(r.lost for r in reports)
    left, reviewed = sum(r.unexplained for r in reports), _sum(r.reviews for r in reports)
    return [
        f"days: {days:.1f} in {sum(r.steps for r in reports)} steps; orders: {orders}, by state {_told(statuses)}",
        f"faults by kind: {_told(faults)}; processes that died: {sum(r.crashes for r in reports)}",
        f"unknown for a time, by what ended it: {_told(_sum(r.unknowns for r in reports))}",
        f"handed to a person: {_told(reviewed)}; duplicates: {duplicates}; lost: {lost}; divergences left: {left}",
        f"divergences settled: {_told(_sum(r.divergences_settled for r in reports))}",
        f"order lists: {_told(_sum(r.lists for r in reports))}; without protection: "
        f"{sum(r.gaps for r in reports)} times, {sum(r.seconds_unprotected for r in reports):.0f} s",
        f"asked for by people: {_told(_sum(r.asked for r in reports))}",
        f"wall time: {wall_seconds:.0f} s, of the seeds {sum(r.wall_seconds for r in reports):.0f} s",
        f"rehearsal: seeds={seeds} market_days={days:.1f} orders={orders} faults={faults.total()} "
        f"duplicates={duplicates} lost={lost} unexplained={left + failed} manual_review={reviewed.total()}",
    ]


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counters, Counter())


def _told(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"
