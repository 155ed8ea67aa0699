"""The decision on a proposal: the order in money, what moved since, what it would do, why it cannot be."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from execution import selectors
from execution.panels.account import limits_in_force
from market import selectors as market
from proposals import selectors as proposals
from proposals.contracts import ProposalStatus, Side
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
    drift = _drift(row, limits) if row.quantity is not None else None
    return {
        "proposal": row,
        "pending": pending,
        "drift": drift,
        "consequence": _consequence(row, limits) if row.quantity is not None else None,
        "reject_reasons": REJECT_REASONS,
        "off": _why_not(row, drift, limits) if pending else [],
        "key": f"{row.version}:{row.digest}:{'out' if drift is None or drift.outside else 'in'}",
    }


def _proposal(argument: str) -> Proposal:
    try:
        return proposals.proposals().select_related("decision__strategy").get(pk=UUID(argument))
    except (ValueError, Proposal.DoesNotExist) as error:
        raise UnknownPanel("there is no such proposal") from error


def _drift(row: Proposal, limits: Limits | None) -> Drift | None:
    quote = market.latest_quote(row.symbol)
    if quote is None or not row.reference_price:
        return None
    moved = quote.mid - row.reference_price
    return Drift(
        mid=quote.mid,
        quoted_at=quote.received_at,
        quote=moved,
        pct=moved * 100 / row.reference_price,
        limit_pct=limits.price_drift_max_pct if limits else None,
    )


def _consequence(row: Proposal, limits: Limits | None) -> Consequence:
    books = selectors.portfolio(now=clock.now(), excluding=row.pk)
    before = after = None
    if books.equity_quote:
        holding = books.holdings.get(row.symbol)
        held = holding.exposure_quote if holding else ZERO
        if held is not None:
            committed = held + books.reserved_quote.get(row.symbol, ZERO)
            # A sale lessens what is held by its share of it; a purchase adds its worst cost.
            mark = holding.mark_price if holding and holding.mark_price else ZERO
            change = (
                row.notional_quote + (row.fee_quote or ZERO)
                if row.side == Side.BUY
                else -min(row.quantity * mark, held)
            )
            before = committed * 100 / books.equity_quote
            after = (committed + change) * 100 / books.equity_quote
    selling = row.side == Side.SELL
    return Consequence(
        loss_at_stop_quote=_loss_at_stop(row),
        exposure_before_pct=before,
        exposure_after_pct=after,
        exposure_limit_pct=limits.symbol_exposure_max_pct if limits else None,
        proceeds_min_quote=row.quantity * row.worst_price if selling and row.worst_price else None,
    )


def _loss_at_stop(row: Proposal) -> Decimal | None:
    """What a purchase loses if it fills at its worst price and is sold at the stop, with both fees."""
    if row.side != Side.BUY or not row.stop_price or not row.worst_price or not row.notional_quote:
        return None
    fee = row.fee_quote or ZERO
    fee_at_stop = fee / row.notional_quote * row.quantity * row.stop_price
    return row.quantity * (row.worst_price - row.stop_price) + fee + fee_at_stop


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
