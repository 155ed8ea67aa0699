"""How the parts do, for the level of autonomy: from stored rows only."""

from datetime import datetime, timedelta
from math import ceil

from django.db.models import Q, QuerySet

from execution.contracts import ENTRY_KINDS, IntentKind, OrderStatus, Role
from execution.models import Order
from execution.selectors.protection import ENVIRONMENT
from market import selectors as market
from proposals import selectors as proposals
from proposals.contracts import ProposalStatus
from risk.contracts import Health

WINDOW = timedelta(hours=1)
BREAKERS_WITHIN = timedelta(hours=1)  # an older one belongs to a model that is asked no more
REJECTED_SEEN_MAX = 20
SAMPLE_MAX = 500


def health(*, now: datetime, reconciled: bool, note: str, switched_at: datetime | None) -> Health:
    """What the watch judges; `reconciled` and `note` are of the comparison with the exchange."""
    sent = Order.objects.filter(
        environment=ENVIRONMENT, role=Role.ORDER, intent__kind__in=ENTRY_KINDS, sent_at__isnull=False
    )
    lately = sent.filter(sent_at__gt=now - WINDOW)
    took_ms = _took_ms(now)
    return Health(
        stale_feeds=market.stale_feeds(now),
        reconciled=reconciled,
        reconciliation_note=note,
        unresolved_orders=Order.objects.filter(
            environment=ENVIRONMENT, status__in=[OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW]
        )
        .values("intent_id")
        .distinct()
        .count(),
        rejected_in_a_row=_rejected_in_a_row(
            lately.filter(sent_at__gt=switched_at) if switched_at is not None else lately
        ),
        open_breakers=tuple(
            breaker.name
            for breaker in proposals.breakers()
            if breaker.state != "closed" and breaker.changed_at and now - breaker.changed_at < BREAKERS_WITHIN
        ),
        orders_last_hour=lately.count(),
        orders_failed_last_hour=lately.filter(
            Q(status=OrderStatus.REJECTED) | Q(unknown_since__isnull=False)
        ).count(),
        speed_samples=len(took_ms),
        proposal_to_execution_p95_ms=took_ms[ceil(len(took_ms) * 0.95) - 1] if took_ms else None,
    )


def _rejected_in_a_row(orders: QuerySet[Order]) -> int:
    """How many of the newest orders, back to the first that was not, the exchange refused."""
    statuses = list(orders.order_by("-sent_at", "-pk").values_list("status", flat=True)[:REJECTED_SEEN_MAX])
    others = (number for number, status in enumerate(statuses) if status != OrderStatus.REJECTED)
    return next(others, len(statuses))


def _took_ms(now: datetime) -> list[int]:
    """Milliseconds from proposal to acknowledgement of the last automatic approvals, ascending."""
    rows = (
        Order.objects.filter(
            environment=ENVIRONMENT,
            role=Role.ORDER,
            acknowledged_at__gt=now - WINDOW,
            intent__kind=IntentKind.PROPOSAL,
            intent__proposal__status=ProposalStatus.AUTO_APPROVED,
        )
        .order_by("-acknowledged_at")
        .values_list("intent__proposal__created_at", "acknowledged_at")[:SAMPLE_MAX]
    )
    return sorted((end - start) // timedelta(milliseconds=1) for start, end in rows if end)
