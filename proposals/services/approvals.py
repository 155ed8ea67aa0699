"""A person's answer to a proposal, and the claim of an approved one by execution.

Each locks the row first, so that of two answers exactly one counts and the other is told who and when; the
guards of the update say the same once more to the database.
"""

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from proposals import rules, selectors
from proposals.contracts import APPROVED_STATUSES, DecisionRefused, ProposalStatus
from proposals.models import ApprovalVote, Proposal
from proposals.services.verdicts import answer_alert
from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.permissions import Deed, who_may
from tradingbot.core.transitions import transition

REASON_LENGTH_MAX = 300
CANCEL_BATCH = 500
_DONE = {
    ProposalStatus.APPROVED: "Approved",
    ProposalStatus.REJECTED: "Rejected",
}


@transaction.atomic
def approve_proposal(
    *, proposal_id: UUID | str, version: int, digest: str, actor: str, now: datetime
) -> Proposal:
    """Approve exactly what was shown: `version` and `digest` are those of the page.

    Each approval is a vote; while more people are required the proposal stays pending. Raises
    DecisionRefused: ALREADY_DECIDED, ALREADY_VOTED, OWN_REQUEST, EXPIRED, STALE_PAGE, NOT_PENDING. The
    expiry stays as it was: it is part of the digest.
    """
    proposal = pending_as_shown(proposal_id, version, digest, now, done="approved")
    people = _vote(proposal, actor, now)
    if len(people) < proposal.approvals_required:
        announce(Proposal.TOPIC, proposal.pk, event="vote")
        return proposal
    transition(
        proposal,
        to=ProposalStatus.APPROVED,
        actor=actor,
        now=now,
        guard=Q(digest=digest, expires_at__gt=now),
        payload={"digest": digest, "approved_by": people},
        decided_at=now,
        decided_by=actor,
    )
    answer_alert(proposal, now)
    return proposal


def _vote(proposal: Proposal, actor: str, now: datetime) -> list[str]:
    """Add the vote of `actor`; everybody who approved this version and digest, in their order."""
    people = selectors.people_for(proposal)
    if actor in people:
        raise DecisionRefused(
            "ALREADY_VOTED",
            f"You approved this already. It takes {proposal.approvals_required} different people: "
            "somebody else must approve it too.",
        )
    if len(people) + 1 >= proposal.approvals_required and selectors.only_requesters(
        proposal, [*people, actor]
    ):
        raise DecisionRefused(
            "OWN_REQUEST",
            "Not approved: you asked for this decision, and who asks cannot be its only approver. Somebody who "
            "did not ask must approve it.",
        )
    ApprovalVote.objects.create(
        proposal=proposal, version=proposal.version, digest=proposal.digest, actor=actor, at=now
    )
    if proposal.approvals_required == 1:
        return [actor]  # its audit row is that of the approval
    audit.record(
        action="proposal.vote",
        subject=f"{Proposal.TOPIC}:{proposal.pk}",
        actor=actor,
        now=now,
        version=proposal.version,
        digest=proposal.digest,
        vote=len(people) + 1,
        required=proposal.approvals_required,
    )
    return [*people, actor]


@transaction.atomic
def reject_proposal(
    *, proposal_id: UUID | str, version: int, digest: str, actor: str, reason: str, now: datetime
) -> Proposal:
    """Reject exactly what was shown, for a `reason`; raises DecisionRefused as above, or REASON_MISSING."""
    reason = rules.clean_text(reason, REASON_LENGTH_MAX)
    if not reason:
        raise DecisionRefused("REASON_MISSING", "Say in a few words why it is rejected. Nothing was decided.")
    proposal = pending_as_shown(proposal_id, version, digest, now, done="rejected")
    transition(
        proposal,
        to=ProposalStatus.REJECTED,
        actor=actor,
        now=now,
        reason=reason,
        guard=Q(digest=digest, expires_at__gt=now),
        decided_at=now,
        decided_by=actor,
        decision_reason=reason,
    )
    answer_alert(proposal, now)
    return proposal


@transaction.atomic
def cancel_pending(*, actor: str, reason: str, now: datetime) -> int:
    """End everything that waits for approval or for its order (a halt does); how many that were."""
    rows = list(
        selectors.proposals()
        .select_for_update()
        .filter(status__in=[ProposalStatus.PENDING_APPROVAL, *APPROVED_STATUSES], claimed_at=None)
        .order_by("pk")[:CANCEL_BATCH]
    )
    for proposal in rows:
        transition(
            proposal,
            to=ProposalStatus.EXPIRED,
            actor=actor,
            now=now,
            reason=reason,
            guard=Q(claimed_at=None),
            decided_at=now,
            decided_by=actor,
            decision_reason=rules.clean_text(reason, REASON_LENGTH_MAX),
        )
        answer_alert(proposal, now)
    return len(rows)


def claim_for_execution(*, proposal_id: UUID | str, digest: str, now: datetime, actor: str) -> Proposal:
    """Take an approved proposal for its one order, inside the caller's transaction (invariant 2).

    The digest is recomputed from the row, so that a row changed behind the services' back is refused.
    Raises DecisionRefused: SHADOW, ALREADY_CLAIMED, EXPIRED, NOT_APPROVED, DIGEST_MISMATCH, VOTES_MISSING.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("claim_for_execution belongs into the transaction that commits the intent")
    proposal = selectors.proposals().select_for_update().get(pk=proposal_id)
    if proposal.shadow:
        raise DecisionRefused("SHADOW", "A proposal of a shadow strategy is never ordered.")
    if proposal.claimed_at is not None:
        raise DecisionRefused("ALREADY_CLAIMED", f"Claimed at {proposal.claimed_at:%H:%M:%S} UTC.")
    if proposal.status == ProposalStatus.EXPIRED or proposal.expires_at <= now:
        raise DecisionRefused("EXPIRED", _how_it_ended(proposal))
    if proposal.status not in APPROVED_STATUSES:
        raise DecisionRefused("NOT_APPROVED", f"The proposal is {proposal.status}, not approved.")
    if not digest == proposal.digest == _digest_of_row(proposal):
        raise DecisionRefused("DIGEST_MISMATCH", "The order is not the one that was approved.")
    if proposal.status == ProposalStatus.APPROVED:
        _check_people(proposal)
    claimed = Proposal.objects.filter(
        pk=proposal.pk,
        environment=settings.TRADING_ENVIRONMENT,
        status__in=APPROVED_STATUSES,
        claimed_at=None,
        expires_at__gt=now,
        digest=digest,
    ).update(claimed_at=now, version=F("version") + 1)
    if claimed != 1:
        raise DecisionRefused("ALREADY_CLAIMED", "Another worker claimed the proposal first.")
    proposal.claimed_at, proposal.version = now, proposal.version + 1
    audit.record(
        action="proposal.claimed",
        subject=f"{Proposal.TOPIC}:{proposal.pk}",
        actor=actor,
        now=now,
        digest=digest,
        version=proposal.version,
    )
    announce(Proposal.TOPIC, proposal.pk, event="claimed")
    return proposal


def _check_people(proposal: Proposal) -> None:
    """The votes once more: for a row made approved behind the services' back, and for people who lost the right."""
    people = who_may(selectors.approvers_of(proposal), Deed.APPROVE)
    if len(people) < proposal.approvals_required:
        raise DecisionRefused(
            "VOTES_MISSING", "Too few different people who may approve have approved this order."
        )
    if selectors.only_requesters(proposal, people):
        raise DecisionRefused("VOTES_MISSING", "Nobody but who asked for the decision approved this order.")


def _digest_of_row(proposal: Proposal) -> str:
    """Empty, which equals no digest, when the row holds no whole order."""
    try:
        order = selectors.order_of(proposal)
    except ValueError:
        return ""
    return rules.digest_of(order, proposal.limits_version or 0, proposal.expires_at)


def pending_as_shown(
    proposal_id: UUID | str, version: int, digest: str, now: datetime, *, done: str
) -> Proposal:
    """The row, locked, if it can be decided now and is the order that the person saw; else DecisionRefused."""
    proposal = selectors.proposals().select_for_update().get(pk=proposal_id)
    status = ProposalStatus(proposal.status)
    if status in _DONE:
        raise DecisionRefused(
            "ALREADY_DECIDED",
            f"{_DONE[status]} by {_who(proposal)} at {proposal.decided_at:%H:%M:%S} UTC. "
            f"Nothing more was {done}.",
        )
    pending = status == ProposalStatus.PENDING_APPROVAL
    if status == ProposalStatus.EXPIRED or (pending and proposal.expires_at <= now):
        raise DecisionRefused("EXPIRED", f"{_how_it_ended(proposal)} Nothing was {done}.")
    if not pending:
        raise DecisionRefused(
            "NOT_PENDING", f"The proposal is {proposal.status}: it does not wait for approval."
        )
    if (proposal.version, proposal.digest) != (version, digest):
        raise DecisionRefused(
            "STALE_PAGE", f"The proposal changed since the page was shown. Nothing was {done}; read it again."
        )
    return proposal


def _who(proposal: Proposal) -> str:
    """Everybody whose approval counted, or who rejected."""
    if proposal.status != ProposalStatus.APPROVED:
        return proposal.decided_by
    return " and ".join(selectors.approvers_of(proposal)) or proposal.decided_by


def _how_it_ended(proposal: Proposal) -> str:
    """By its time, or before it by somebody (`cancel_pending`)."""
    if proposal.status == ProposalStatus.EXPIRED and proposal.decided_at and proposal.decision_reason:
        return (
            f"The proposal was cancelled by {proposal.decided_by} at {proposal.decided_at:%H:%M:%S} UTC "
            f"({proposal.decision_reason})."
        )
    return f"The proposal expired at {proposal.expires_at:%H:%M:%S} UTC."
