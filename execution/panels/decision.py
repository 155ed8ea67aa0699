"""The decision on a proposal: the order in money, what moved since, what it would do, why it cannot be."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from execution import selectors
from execution.panels.account import limits_in_force
from market import selectors as market
from proposals import panels as proposals_panels
from proposals import selectors as proposals
from proposals.contracts import ProposalStatus, QuantisedOrder, Side
from proposals.forms import REJECT_REASONS
from proposals.models import Proposal
from risk import selectors as risk
from risk.contracts import Limits
from tradingbot.core import clock
from tradingbot.core.decimals import ZERO, plain
from tradingbot.core.panels import UnknownPanel, panel


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the mid price went since the proposal, against the band in which an approval is taken."""

    mid: Decimal
    quoted_at: datetime
    quote: Decimal
    pct: Decimal
    limit_pct: Decimal | None

    @property
    def outside(self) -> bool:
        """Whether an approval would be refused for it."""
        return self.limit_pct is None or abs(self.pct) > self.limit_pct

    @property
    def wide(self) -> bool:
        """Whether more than half of the band is used up."""
        return self.limit_pct is None or abs(self.pct) * 2 > self.limit_pct


@dataclass(frozen=True, slots=True)
class Consequence:
    """What the order would do, in quote asset; None is unknown."""

    loss_at_stop_quote: Decimal | None
    exposure_before_pct: Decimal | None
    exposure_after_pct: Decimal | None
    exposure_limit_pct: Decimal | None
    proceeds_min_quote: Decimal | None

    @property
    def beyond_limit(self) -> bool:
        """Whether the symbol's share would pass its limit; the gate decides when it is ordered."""
        after, limit = self.exposure_after_pct, self.exposure_limit_pct
        return after is not None and limit is not None and after > limit


@panel(
    "decision",
    template="execution/decision.html",
    topics={"proposal", "quote", "control", "limits", "feed"},
    keyed_by="proposal",
)
def decision(user: Any, argument: str) -> dict[str, Any]:
    """The order in money, what moved since, the time left, and the two buttons or why they are off."""
    row = _proposal(argument)
    limits = limits_in_force()
    pending = row.status == ProposalStatus.PENDING_APPROVAL and row.expires_at > clock.now()
    order = _order(row)
    drift = _drift(order, limits) if order else None
    return {
        "proposal": row,
        "pending": pending,
        "drift": drift,
        "consequence": _consequence(row.pk, order, limits) if order else None,
        "reject_reasons": REJECT_REASONS,
        "off": proposals_panels.why_not_by_you(row, user) + _why_not(row, drift, limits) if pending else [],
        **proposals_panels.answering(row, user),
        "key": f"{row.version}:{row.digest}:{'out' if drift is None or drift.outside else 'in'}",
    }


def _proposal(argument: str) -> Proposal:
    try:
        return proposals.proposals().select_related("decision__strategy").get(pk=UUID(argument))
    except (ValueError, Proposal.DoesNotExist) as error:
        raise UnknownPanel("there is no such proposal") from error


def _order(row: Proposal) -> QuantisedOrder | None:
    """The order that the gate formed, or None when it formed none."""
    try:
        return proposals.order_of(row)
    except ValueError:
        return None


def _drift(order: QuantisedOrder, limits: Limits | None) -> Drift | None:
    quote = market.latest_quote(order.symbol)
    if quote is None or not order.reference_price:
        return None
    moved = quote.mid - order.reference_price
    return Drift(
        mid=quote.mid,
        quoted_at=quote.received_at,
        quote=moved,
        pct=moved * 100 / order.reference_price,
        limit_pct=limits.price_drift_max_pct if limits else None,
    )


def _consequence(proposal_id: UUID, order: QuantisedOrder, limits: Limits | None) -> Consequence:
    before, after = _exposure_pct(proposal_id, order)
    return Consequence(
        loss_at_stop_quote=_loss_at_stop(order),
        exposure_before_pct=before,
        exposure_after_pct=after,
        exposure_limit_pct=limits.symbol_exposure_max_pct if limits else None,
        proceeds_min_quote=order.quantity * order.worst_price if order.side is Side.SELL else None,
    )


def _exposure_pct(proposal_id: UUID, order: QuantisedOrder) -> tuple[Decimal | None, Decimal | None]:
    """The symbol's share of equity before and after, reservations at their worst; None is unknown."""
    books = selectors.portfolio(now=clock.now(), excluding=proposal_id)
    holding = books.holdings.get(order.symbol)
    held = holding.exposure_quote if holding else ZERO
    if not books.equity_quote or held is None:
        return None, None
    before = held + books.reserved_quote.get(order.symbol, ZERO)
    # A purchase adds its worst cost; a sale takes its share of what is held.
    mark = holding.mark_price if holding and holding.mark_price else ZERO
    change = (
        order.notional_quote + order.fee_quote
        if order.side is Side.BUY
        else -min(order.quantity * mark, held)
    )
    return before * 100 / books.equity_quote, (before + change) * 100 / books.equity_quote


def _loss_at_stop(order: QuantisedOrder) -> Decimal | None:
    """What a purchase loses if it fills at its worst price and is sold at the stop, with both fees."""
    if order.side is not Side.BUY or not order.stop_price or not order.notional_quote:
        return None
    fee_at_stop = order.fee_quote / order.notional_quote * order.quantity * order.stop_price
    return order.quantity * (order.worst_price - order.stop_price) + order.fee_quote + fee_at_stop


def _why_not(row: Proposal, drift: Drift | None, limits: Limits | None) -> list[str]:
    """Why an approval would be refused now, in the words that the button's place shows."""
    armed, reasons = risk.trading_armed(clock.now(), leaving=row.side == "SELL")
    why = [] if armed else list(reasons)
    if limits is not None and row.limits_version != limits.version:
        why.append(
            f"the limits changed: version {row.limits_version} judged this, {limits.version} is in force"
        )
    if drift is None:
        why.append(f"there is no live price of {row.symbol} to compare with")
    elif drift.outside and drift.limit_pct is not None:
        why.append(f"the price moved beyond the {plain(drift.limit_pct)} % that an approval allows")
    return why
