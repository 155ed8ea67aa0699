"""What the gate said of a proposal, and what follows: refused, approved by rule, or left to a person."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from proposals import rules
from proposals.contracts import DecisionRefused, ProposalStatus, QuantisedOrder, Side
from proposals.models import Proposal
from tradingbot.core import alerts
from tradingbot.core.decimals import ceil_to_step, floor_to_step, plain
from tradingbot.core.transitions import transition

APPROVAL_ALERT = "approval_waiting"
DENY = "deny"
CENT = Decimal("0.01")


@transaction.atomic
def record_verdict(
    *,
    proposal_id: UUID | str,
    order: QuantisedOrder | None,
    verdict: list[dict[str, Any]],
    limits_version: int,
    needs_person: bool,
    approval_ttl_seconds: int,
    auto_ttl_seconds: int,
    actor: str,
    now: datetime,
    approvals_required: int = 1,
) -> Proposal:
    """Move a proposed proposal on by the gate's `verdict` (every rule: name, verdict, observed, limit, reason).

    Any deny, or no `order`: risk_rejected. Else validated and at once auto_approved, or pending_approval when
    `needs_person`: then `approvals_required` different people must approve. It waits for its time to live, but
    never longer than the model said that it may; one that outlived its validity before the gate saw it: expired.
    One of a shadow strategy that passes ends as `shadow`, without any digest.
    Raises DecisionRefused (ALREADY_ASSESSED) when the gate has spoken before.
    """
    proposal = Proposal.objects.select_for_update().get(pk=proposal_id)
    if proposal.status != ProposalStatus.PROPOSED:
        raise DecisionRefused("ALREADY_ASSESSED", f"The proposal is {proposal.status} already.")
    if proposal.expires_at <= now:
        transition(proposal, to=ProposalStatus.EXPIRED, actor=actor, now=now, reason="not assessed in time")
        return proposal
    kept: dict[str, Any] = {
        "verdict": [storable_rule(rule) for rule in verdict],
        "limits_version": limits_version,
        "validated_at": now,
    }
    denials = [rule for rule in verdict if rule["verdict"] == DENY]
    if order is None or denials:
        _reject(proposal, order, denials, kept, actor, now)
        return proposal
    stored = rules.storable(order)
    transition(proposal, to=ProposalStatus.VALIDATED, actor=actor, now=now, **kept, **order_fields(stored))
    if proposal.shadow:
        transition(
            proposal,
            to=ProposalStatus.SHADOW,
            actor=actor,
            now=now,
            reason="a shadow strategy is never queued",
        )
        return proposal
    ttl_seconds = approval_ttl_seconds if needs_person else auto_ttl_seconds
    expires_at = min(now + timedelta(seconds=ttl_seconds), proposal.expires_at)
    digest = rules.digest_of(stored, limits_version, expires_at)
    target = ProposalStatus.PENDING_APPROVAL if needs_person else ProposalStatus.AUTO_APPROVED
    transition(
        proposal,
        to=target,
        actor=actor,
        now=now,
        payload={"digest": digest, "limits_version": limits_version, "expires_at": expires_at},
        expires_at=expires_at,
        digest=digest,
        approvals_required=approvals_required,
    )
    if needs_person:
        _ask_a_person(proposal, stored, now)
    return proposal


def storable_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule of the verdict as JSON can hold it."""
    return {name: plain(value) if isinstance(value, Decimal) else value for name, value in rule.items()}


def order_fields(order: QuantisedOrder) -> dict[str, Any]:
    """The columns of a proposal that hold `order`."""
    fields = order.model_dump()
    del fields["symbol"]
    return fields | {"time_in_force": order.time_in_force or ""}


def _reject(
    proposal: Proposal,
    order: QuantisedOrder | None,
    denials: list[dict[str, Any]],
    kept: dict[str, Any],
    actor: str,
    now: datetime,
) -> None:
    # Several rules may deny for one cause, such as an order that cannot be formed: it is said once.
    refusal = "; ".join(dict.fromkeys(str(rule.get("reason") or rule["name"]) for rule in denials))
    refusal = refusal or "The gate could make no order of it."
    stored = order_fields(rules.storable(order)) if order else {}
    transition(
        proposal,
        to=ProposalStatus.RISK_REJECTED,
        actor=actor,
        now=now,
        reason=refusal,
        refusal=refusal,
        **kept,
        **stored,
    )
    if proposal.shadow:
        return  # nothing was wanted of it
    names = ",".join(sorted(str(rule["name"]) for rule in denials))
    alerts.raise_alert(
        kind="risk_refusal",
        severity="info",
        subject=f"{Proposal.TOPIC}:{proposal.pk}",
        dedupe_key=f"risk_refusal:{proposal.symbol}:{names}",
        title=f"The gate refused {proposal.action} {proposal.symbol}",
        detail=refusal,
        now=now,
    )


def _ask_a_person(proposal: Proposal, order: QuantisedOrder, now: datetime) -> None:
    # As the card shows it: a cost is never rounded down, proceeds never up.
    if order.side == Side.BUY:
        worth = f"At most {ceil_to_step(order.notional_quote, CENT)}"
    else:
        worth = f"At least {floor_to_step(order.quantity * order.worst_price, CENT)}"
    alerts.raise_alert(
        kind=APPROVAL_ALERT,
        severity="high",
        subject=f"{Proposal.TOPIC}:{proposal.pk}",
        title=f"{order.side} {plain(order.quantity)} {proposal.symbol} waits for approval",
        detail=f"{worth} {settings.QUOTE_ASSET}. Without an answer it expires at {proposal.expires_at:%H:%M:%S} UTC.",
        now=now,
    )


def answer_alert(proposal: Proposal, now: datetime) -> None:
    """Close the alert that a proposal waits, because it waits no longer."""
    alerts.resolve_alerts(dedupe_key=f"{APPROVAL_ALERT}:{Proposal.TOPIC}:{proposal.pk}", now=now)
