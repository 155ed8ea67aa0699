"""Approval with the checks that only the right side of the house can make (invariant 13)."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from market import selectors as market
from proposals import services as proposals
from proposals.contracts import DecisionRefused, Side
from proposals.models import Proposal
from risk import selectors as risk
from tradingbot.core.decimals import plain


def approve_proposal(*, proposal_id: UUID, version: int, digest: str, actor: str, now: datetime) -> Proposal:
    """Approve what the operator saw: same version and digest, limits unchanged, price within its band.

    Consent only; the gate binds again when the proposal is claimed. Raises DecisionRefused with NOT_ARMED,
    LIMITS_CHANGED, NO_PRICE or PRICE_MOVED, or with the codes of `proposals.services.approve_proposal`.
    """
    with transaction.atomic():
        proposal = Proposal.objects.filter(pk=proposal_id).first()
        if proposal is not None and proposal.status == "pending_approval":
            _check(proposal, now)
        return proposals.approve_proposal(
            proposal_id=proposal_id, version=version, digest=digest, actor=actor, now=now
        )


def _check(proposal: Proposal, now: datetime) -> None:
    armed, reasons = risk.trading_armed(now, leaving=proposal.side == Side.SELL)
    if not armed:
        raise DecisionRefused(
            "NOT_ARMED", f"Nothing was approved: {'; '.join(reasons)}. Arm trading first, or reject it."
        )
    limits = risk.current_limits()
    if proposal.limits_version != limits.version:
        raise DecisionRefused(
            "LIMITS_CHANGED",
            f"Nothing was approved: the limits changed (version {proposal.limits_version} was shown, "
            f"{limits.version} is in force). The next proposal is judged by the new ones.",
        )
    quote = market.latest_quote(proposal.symbol)
    if quote is None or not proposal.reference_price:
        raise DecisionRefused("NO_PRICE", "Nothing was approved: there is no live price to compare with.")
    drift_pct = abs(quote.mid - proposal.reference_price) / proposal.reference_price * 100
    if drift_pct > limits.price_drift_max_pct:
        raise DecisionRefused(
            "PRICE_MOVED",
            f"Nothing was approved: the price moved {drift_pct:.2f} % since the proposal "
            f"(at most {plain(limits.price_drift_max_pct)} %).",
        )
