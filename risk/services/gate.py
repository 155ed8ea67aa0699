"""The gate at work: advice when a proposal arrives, the binding word when it is claimed."""

import json
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string
from pydantic import BaseModel

from market import selectors as market_selectors
from market.contracts import UnknownInstrument
from proposals import selectors as proposals_selectors
from proposals import services as proposals_services
from proposals.contracts import DecisionRefused, ProposalStatus, QuantisedOrder
from proposals.models import Proposal
from risk import rules, selectors
from risk.contracts import (
    GateInput,
    Limits,
    LimitsMissing,
    NotAssessable,
    NotAuthorised,
    Portfolio,
    Verdict,
)
from risk.models import Assessment, TradingControl
from tradingbot.core import audit
from tradingbot.core.decimals import MalformedDecimal, parse_decimal


def assess_proposal(
    *, proposal_id: UUID, portfolio: Portfolio, now: datetime, actor: str = "gate"
) -> Verdict:
    """Judge a new proposal and hand the verdict to proposals, which refuses, queues or approves it.

    Raises NotAssessable when the proposal is no longer `proposed`.
    """
    with transaction.atomic():
        proposal = Proposal.objects.select_for_update().get(pk=proposal_id)
        if proposal.status != ProposalStatus.PROPOSED:
            raise NotAssessable(f"proposal {proposal_id} is {proposal.status} already")
        gate = _gather(proposal, portfolio, now, binding=False, **_wishes(proposal))
        verdict = rules.evaluate(gate)
        _store(proposal, gate, verdict)
        limits = gate.limits
        people = rules.people_needed(verdict, limits, gate.autonomy) if limits else 1
        proposals_services.record_verdict(
            proposal_id=proposal_id,
            order=verdict.order,
            verdict=[result.as_dict() for result in verdict.results],
            limits_version=verdict.limits_version,
            needs_person=people > 0,
            approvals_required=max(people, 1),
            approval_ttl_seconds=limits.approval_ttl_seconds if limits else 0,
            auto_ttl_seconds=limits.auto_ttl_seconds if limits else 0,
            actor=actor,
            now=now,
        )
    return verdict


def authorise_order(
    *,
    proposal: Proposal,
    order: QuantisedOrder,
    portfolio: Portfolio,
    now: datetime,
    replaces: bool = False,
) -> Verdict:
    """The binding run, inside the transaction that claims the proposal: passes or raises NotAuthorised.

    `replaces`: an operator puts the rest of the approved order at another price, so that it differs from what
    was approved by his word; the caller has seen to it that it is no larger and no dearer.

    Locks the switch's row until that transaction ends, so that a halt comes before the claim or after its
    commit. The assessment is stored in either case, provided that the caller catches the refusal inside its
    transaction.
    """
    list(TradingControl.objects.select_for_update().filter(pk=settings.TRADING_ENVIRONMENT))
    approved = order if replaces else proposals_selectors.order_of(proposal)
    approvals = proposal.approvals_required if proposal.status == ProposalStatus.APPROVED else 0
    if replaces:
        approvals = max(approvals, 1)
    gate = _binding(proposal, portfolio, now, order=order, approved=approved, approvals=approvals)
    verdict = rules.evaluate(gate)
    _store(proposal, gate, verdict)
    if verdict.denied or verdict.held:
        raise NotAuthorised(verdict)
    return verdict


def judge_now(*, proposal: Proposal, order: QuantisedOrder, portfolio: Portfolio, now: datetime) -> Verdict:
    """What the binding run would say of `order` at this instant. Nothing is locked or stored."""
    return rules.evaluate(_binding(proposal, portfolio, now, order=order, approved=order))


@transaction.atomic
def reduce_proposal(
    *, proposal_id: UUID, version: int, digest: str, share_pct: int, actor: str, now: datetime
) -> Proposal:
    """Take a pending proposal down to `share_pct` of the size shown: a new order, judged anew, to be approved.

    Raises DecisionRefused as an approval does, NOT_SMALLER for a share that leaves nothing or takes nothing
    away, and REFUSED_BY_GATE when a rule denies the smaller order; nothing is changed then.
    """
    proposal = proposals_services.pending_as_shown(proposal_id, version, digest, now, done="changed")
    limits, filters = _limits(), _filters(proposal.symbol)
    if limits is None or filters is None:
        raise DecisionRefused("REFUSED_BY_GATE", "Not changed: limits or filters cannot be read.")
    order = rules.reduced_order(proposals_selectors.order_of(proposal), share_pct, filters)
    if order is None:
        raise DecisionRefused(
            "NOT_SMALLER", f"Not changed: {share_pct} % of it is no smaller order that the exchange takes."
        )
    portfolio = import_string(settings.GATE_PORTFOLIO)(now=now, excluding=proposal.pk)
    gate = _binding(proposal, portfolio, now, order=order, approved=order)
    verdict = rules.evaluate(gate)
    _store(proposal, gate, verdict)
    if verdict.denied:
        why = "; ".join(dict.fromkeys(rule.reason for rule in verdict.denied))
        raise DecisionRefused("REFUSED_BY_GATE", f"Not changed: the gate refuses the smaller order: {why}.")
    return proposals_services.record_reduction(
        proposal_id=proposal_id,
        version=version,
        digest=digest,
        order=order,
        verdict=[result.as_dict() for result in verdict.results],
        limits_version=verdict.limits_version,
        approvals_required=max(rules.people_needed(verdict, limits, gate.autonomy), 1),
        actor=actor,
        now=now,
    )


def _binding(
    proposal: Proposal,
    portfolio: Portfolio,
    now: datetime,
    *,
    order: QuantisedOrder,
    approved: QuantisedOrder,
    approvals: int = rules.PEOPLE_MAX,
) -> GateInput:
    """`approvals` is how many people's there are: where it is to be approved yet, as many as it may take."""
    return _gather(
        proposal,
        portfolio,
        now,
        binding=True,
        action=approved.side.value,
        order_type=approved.order_type.value,
        time_in_force=approved.time_in_force or "",
        quote_amount=None,
        position_share_pct=None,
        limit_price=approved.price,
        stop_price=approved.stop_price,
        target_price=approved.target_price,
        order=order,
        approved_order=approved,
        approvals=approvals,
    )


def _wishes(proposal: Proposal) -> dict[str, Any]:
    """What the proposal asks for; a field that cannot be read is None, which denies."""
    answer = proposal.answer if isinstance(proposal.answer, dict) else {}
    return {
        "action": proposal.action,
        "order_type": str(answer.get("order_type")),
        "time_in_force": str(answer.get("time_in_force")),
        "quote_amount": _decimal(answer.get("quote_amount")),
        "position_share_pct": answer.get("position_share_pct"),
        "limit_price": _decimal(answer.get("limit_price")),
        "stop_price": _decimal(answer.get("stop_price")),
        "target_price": _decimal(answer.get("target_price")),
    }


def _decimal(text: Any) -> Any:
    try:
        return parse_decimal(text)
    except MalformedDecimal:
        return None


def _gather(
    proposal: Proposal, portfolio: Portfolio, now: datetime, *, binding: bool, **of_order: Any
) -> GateInput:
    return GateInput(
        now=now,
        binding=binding,
        trading_enabled=settings.TRADING_ENABLED,
        trading_state=selectors.trading_state(),
        stage_allows=selectors.stage_allows(),
        limits=_limits(),
        portfolio=portfolio,
        filters=_filters(proposal.symbol),
        quote=market_selectors.latest_quote(proposal.symbol),
        recent_range=market_selectors.recent_range(proposal.symbol, rules.VOLATILITY_MINUTES),
        autonomy=selectors.autonomy(),
        feeds_stale=tuple(market_selectors.stale_feeds(now)),
        proposal_id=str(proposal.pk),
        symbol=proposal.symbol,
        confidence_pct=proposal.confidence_pct,
        **of_order,
    )


def _limits() -> Limits | None:
    try:
        return selectors.current_limits()
    except LimitsMissing:
        return None


def _filters(symbol: str) -> Any:
    try:
        return market_selectors.symbol_filters(symbol)
    except UnknownInstrument:
        return None


def _store(proposal: Proposal, gate: GateInput, verdict: Verdict) -> None:
    text = audit.canonical_json(_plain_data(gate))
    Assessment.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        proposal=proposal,
        binding=gate.binding,
        passed=not verdict.denied and not verdict.held,
        results=[result.as_dict() for result in verdict.results],
        limits_version=verdict.limits_version,
        inputs=json.loads(text),
        inputs_sha256=audit.sha256_hex(text),
        at=gate.now,
    )


def _plain_data(value: Any) -> Any:
    """Dataclasses and pydantic models as dictionaries, all the way down."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, dict):
        return {str(key): _plain_data(item) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _plain_data(getattr(value, field.name)) for field in fields(value)}
    return value
