"""What a taking order would do to the book, worked out before anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.decimals import ZERO, amount, floor_to
from simulator.engine.book import Book, Level
from simulator.engine.contracts import Order, OrderRequest, OrderType, SelfTradePrevention, Side
from simulator.engine.instruments import Instrument


@dataclass(slots=True)
class PlannedFill:
    maker: Order | Level
    quantity: Decimal


@dataclass(slots=True)
class Plan:
    """Fills in order, own resting orders that self-trade prevention expires, whether it stops the taker,
    and whether nothing reachable was left on the book."""

    fills: list[PlannedFill] = field(default_factory=list)
    expired_makers: list[Order] = field(default_factory=list)
    taker_expires: bool = False
    ran_out: bool = False
    quantity: Decimal = ZERO
    quote: Decimal = ZERO


def plan_match(request: OrderRequest, account_id: int, instrument: Instrument, book: Book) -> Plan:
    """The fills that `request` gets at once, best price first and oldest first within a price."""
    plan = Plan()
    for maker in _reachable(request, book):
        if isinstance(maker, Order) and maker.account_id == account_id:
            if _prevent_self_trade(request, maker, plan):
                return plan
            continue
        available = maker.remaining if isinstance(maker, Order) else maker.quantity
        wanted = min(available, _unfilled(request, plan, maker.price, instrument))
        if wanted:
            plan.fills.append(PlannedFill(maker, wanted))
            plan.quantity += wanted
            plan.quote += amount(maker.price, wanted)
        if wanted < available or plan.quantity == request.quantity:
            return plan
    plan.ran_out = True
    return plan


def _unfilled(request: OrderRequest, plan: Plan, price: Decimal, instrument: Instrument) -> Decimal:
    """What the order still wants at `price`; an order by amount wants what the rest of the amount pays."""
    if request.quantity is not None:
        return request.quantity - plan.quantity
    assert request.quote_quantity is not None
    return floor_to((request.quote_quantity - plan.quote) / price, instrument.step_size)


def _reachable(request: OrderRequest, book: Book) -> Iterator[Order | Level]:
    limit = None if request.type is OrderType.MARKET else request.price
    for maker in book.makers(request.side.opposite):
        if limit is not None and (maker.price > limit if request.side is Side.BUY else maker.price < limit):
            return
        yield maker


def _prevent_self_trade(request: OrderRequest, maker: Order, plan: Plan) -> bool:
    """Note what happens to both sides; True when the taker stops here."""
    mode = request.self_trade_prevention
    if mode is not SelfTradePrevention.EXPIRE_TAKER:
        plan.expired_makers.append(maker)
    if mode is SelfTradePrevention.EXPIRE_MAKER:
        return False
    plan.taker_expires = True
    return True
