"""Less of what waits: a smaller order in the place of the one shown, to be approved by its own digest."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from proposals import rules, selectors
from proposals.contracts import DecisionRefused, ProposalStatus, QuantisedOrder
from proposals.models import Proposal
from proposals.services.approvals import pending_as_shown
from proposals.services.verdicts import order_fields, storable_rule
from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.decimals import plain


@transaction.atomic
def record_reduction(
    *,
    proposal_id: UUID | str,
    version: int,
    digest: str,
    order: QuantisedOrder,
    verdict: list[dict[str, Any]],
    limits_version: int,
    approvals_required: int,
    actor: str,
    now: datetime,
) -> Proposal:
    """Put a smaller `order`, judged anew, in the place of the one shown; it stays pending, with a new digest.

    Votes for the larger order no longer count, the expiry stays. Raises DecisionRefused as an approval does,
    or NOT_SMALLER: an approval may lower the size and nothing else.
    """
    proposal = pending_as_shown(proposal_id, version, digest, now, done="changed")
    before, after = selectors.order_of(proposal), rules.storable(order)
    if not rules.is_less_of(after, before):
        raise DecisionRefused("NOT_SMALLER", "Not changed: the order would not be a smaller one of the same.")
    new_digest = rules.digest_of(after, limits_version, proposal.expires_at)
    reduction = {
        "by": actor,
        "at": now.isoformat(),
        "from_quantity": plain(before.quantity),
        "from_notional_quote": plain(before.notional_quote),
    }
    changed = Proposal.objects.filter(
        pk=proposal.pk,
        status=ProposalStatus.PENDING_APPROVAL,
        version=version,
        digest=digest,
        expires_at__gt=now,
    ).update(
        version=F("version") + 1,
        verdict=[storable_rule(rule) for rule in verdict],
        limits_version=limits_version,
        validated_at=now,
        digest=new_digest,
        approvals_required=approvals_required,
        reduction=reduction,
        **order_fields(after),
    )
    if changed != 1:
        raise DecisionRefused("STALE_PAGE", "The proposal changed meanwhile. Nothing was changed here.")
    audit.record(
        action="proposal.reduced",
        subject=f"{Proposal.TOPIC}:{proposal.pk}",
        actor=actor,
        now=now,
        before=digest,
        digest=new_digest,
        version=version + 1,
        limits_version=limits_version,
        from_quantity=plain(before.quantity),
        quantity=plain(after.quantity),
    )
    announce(Proposal.TOPIC, proposal.pk, event="reduced")
    proposal.refresh_from_db()
    return proposal
