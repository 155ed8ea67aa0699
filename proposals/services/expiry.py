"""The sweep over time: proposals past their expiry, decisions whose worker died, breakers nobody probes."""

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from proposals import selectors
from proposals.contracts import APPROVED_STATUSES, ProposalStatus
from proposals.models import Decision
from proposals.services.advice import ATTEMPTS_MAX, close_without_trade, count_use
from proposals.services.asking import lapse_requests
from proposals.services.breaker import close_unasked
from proposals.services.verdicts import answer_alert
from tradingbot.core.transitions import transition

BATCH = 100
ACTOR = "expiry"
_REASONS = {
    ProposalStatus.PROPOSED: "the gate did not assess it in time",
    ProposalStatus.PENDING_APPROVAL: "nobody answered in time",
    ProposalStatus.AUTO_APPROVED: "it was not ordered in time",
    ProposalStatus.APPROVED: "it was not ordered in time",
}


def expire_overdue(*, now: datetime) -> int:
    """Expire proposals past their time, close interrupted decisions and breakers of models that are asked no more;
    how many rows ended.

    Rows that another process holds are left for the next sweep. An expiry is never an approval, and an
    interrupted decision is never asked again.
    """
    ended = _expire_proposals(now) + _close_interrupted(now) + lapse_requests(now=now)
    return ended + close_unasked(now=now)


@transaction.atomic
def _expire_proposals(now: datetime) -> int:
    waiting = [ProposalStatus.PROPOSED, ProposalStatus.PENDING_APPROVAL, *APPROVED_STATUSES]
    rows = list(
        selectors.proposals()
        .select_for_update(skip_locked=True)
        .filter(status__in=waiting, claimed_at=None, expires_at__lte=now)
        .order_by("expires_at", "pk")[:BATCH]
    )
    for proposal in rows:
        transition(
            proposal,
            to=ProposalStatus.EXPIRED,
            actor=ACTOR,
            now=now,
            reason=_REASONS[ProposalStatus(proposal.status)],
            guard=Q(claimed_at=None),
        )
        answer_alert(proposal, now)
    return len(rows)


@transaction.atomic
def _close_interrupted(now: datetime) -> int:
    rows = list(
        Decision.objects.select_for_update(skip_locked=True)
        .filter(
            environment=settings.TRADING_ENVIRONMENT,
            finished_at=None,
            started_at__lte=selectors.interrupted_before(now),
        )
        .order_by("started_at")[:BATCH]
    )
    for decision in rows:
        # A request may have left before its worker died: then it may have been sent twice.
        decision.attempts = ATTEMPTS_MAX if decision.request_sha256 else 0
        count_use(decision, untold=decision.attempts)
        close_without_trade(
            decision=decision,
            code="INTERRUPTED",
            detail="the worker stopped before the answer was stored",
            actor=ACTOR,
            now=now,
        )
    return len(rows)
