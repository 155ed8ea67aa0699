"""What a kill touches: entries on the exchange, what is held, what waits."""

from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from execution.contracts import ENTRY_KINDS, Role
from execution.models import Order, Position
from execution.selectors import protection
from execution.selectors.protection import ENVIRONMENT, filters_of, guards, live_orders
from market import selectors as market
from market.contracts import Quote, SymbolFilters
from proposals import selectors as proposals
from proposals.contracts import APPROVED_STATUSES, ProposalStatus
from risk.contracts import KillPreview, TouchedOrder, TouchedPosition
from tradingbot.core.decimals import floor_to_step


def open_entries() -> list[Order]:
    """Purchases that a proposal came to and that may still fill, at whatever price by now; of lists the working leg."""
    rows = Order.objects.filter(
        live_orders(), role=Role.ORDER, side="BUY", intent__kind__in=ENTRY_KINDS
    ).select_related("intent")
    return [order for order in rows.order_by("created_at", "pk") if not protection.has_ended(order)]


def kill_preview(*, now: datetime) -> KillPreview:
    """What a kill would touch now (`settings.KILL_PREVIEW`)."""
    waiting = proposals.proposals().filter(
        Q(status=ProposalStatus.PENDING_APPROVAL) | Q(status__in=APPROVED_STATUSES), claimed_at=None
    )
    return KillPreview(
        waiting=waiting.count(),
        entries=tuple(_touched(order) for order in open_entries()),
        positions=tuple(
            TouchedPosition(
                symbol=position.symbol,
                quantity=position.quantity,
                worth_quote=_worth(position),
                protections=sum(guard.is_live for guard in guards(position.symbol)),
            )
            for position in sellable_positions()
        ),
    )


def sellable_positions() -> list[Position]:
    """What is held and large enough for the exchange to sell, by symbol."""
    held = Position.objects.filter(environment=ENVIRONMENT, quantity__gt=0).order_by("symbol")
    return [position for position in held if not is_residue(position, market.latest_quote(position.symbol))]


def is_residue(position: Position, quote: Quote | None) -> bool:
    """`is_dust` by the filters as last read."""
    return is_dust(position, quote, filters_of(position.symbol))


def is_dust(position: Position, quote: Quote | None, filters: SymbolFilters | None) -> bool:
    """Whether a position is dust: less than one step, or worth less than the exchange lets one sell.

    It stays on the books and in the equity, yet is nothing that one could exit. Without a price or filters
    it is taken for a position.
    """
    if filters is None:
        return False
    sellable = floor_to_step(position.quantity, max(filters.quantity_step, filters.market_quantity_step))
    if sellable < max(filters.quantity_min, filters.market_quantity_min) or sellable == 0:
        return True
    return quote is not None and sellable * quote.bid < filters.notional_min


def _touched(order: Order) -> TouchedOrder:
    return TouchedOrder(
        order_id=str(order.pk),
        symbol=order.symbol,
        side=order.side,
        quantity=order.quantity,
        price=order.price,
        executed_quantity=order.executed_quantity,
        open_quote=order.reserved_quote,
    )


def _worth(position: Position) -> Decimal | None:
    quote = market.latest_quote(position.symbol)
    return None if quote is None else position.quantity * quote.bid
