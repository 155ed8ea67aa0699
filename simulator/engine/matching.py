"""What a taking order would do to the book, worked out before anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.decimals import ZERO, amount, floor_to
from simulator.engine.book import Book, Level
from simulator.engine.contracts import Order, OrderRequest, SelfTradePrevention, Side
from simulator.engine.instruments import Instrument


@dataclass(slots=True, frozen=True)
class Taker:
    """An order that comes to the book. `limit` is None for one at any price; exactly one of `quantity` and
    `quote_quantity` is set."""

    account_id: int
    side: Side
    limit: Decimal | None
    quantity: Decimal | None
    quote_quantity: Decimal | None
    self_trade_prevention: SelfTradePrevention

    @classmethod
    def of_request(cls, account_id: int, request: OrderRequest) -> Taker:
        return cls(
            account_id,
            request.side,
            request.price if request.type.has_price else None,
            request.quantity,
            request.quote_quantity,
            request.self_trade_prevention,
        )

    @classmethod
    def of_order(cls, order: Order) -> Taker:
        """A stop that has triggered, or a pending leg that is placed."""
        limit = order.price if order.type.has_price else None
        return cls(
            order.account_id, order.side, limit, order.remaining, None, order.self_trade_prevention
        )  # fmt: skip


@dataclass(slots=True)
class PlannedFill:
    maker: Order | Level
    quantity: Decimal


@dataclass(slots=True)
class Plan:
    """Fills in order, own resting orders that self-trade prevention expires or cuts, whether it stops the
    taker, and whether nothing reachable was left on the book."""

    fills: list[PlannedFill] = field(default_factory=list)
    expired_makers: list[Order] = field(default_factory=list)
    decrements: list[PlannedFill] = field(default_factory=list)
    taker_expires: bool = False
    ran_out: bool = False
    quantity: Decimal = ZERO
    quote: Decimal = ZERO
    prevented: Decimal = ZERO

    @property
    def touches_book(self) -> bool:
        return bool(self.fills or self.expired_makers or self.decrements or self.taker_expires)


def plan_match(taker: Taker, instrument: Instrument, book: Book) -> Plan:
    """The fills that `taker` gets at once, best price first and oldest first within a price."""
    plan = Plan()
    for maker, available in _reachable(taker, book):
        own = isinstance(maker, Order) and maker.account_id == taker.account_id
        if own and taker.self_trade_prevention is not SelfTradePrevention.DECREMENT:
            assert isinstance(maker, Order)
            if _prevent_self_trade(taker, maker, plan):
                return plan
            continue
        wanted = min(available, _unfilled(taker, plan, maker.price, instrument))
        if wanted and own:
            plan.decrements.append(PlannedFill(maker, wanted))
            plan.prevented += wanted
        elif wanted:
            plan.fills.append(PlannedFill(maker, wanted))
            plan.quantity += wanted
            plan.quote += amount(maker.price, wanted)
        if wanted < available or plan.quantity + plan.prevented == taker.quantity:
            return plan
    plan.ran_out = True
    return plan


def limit_plan(plan: Plan, quantity: Decimal) -> None:
    """Keep only the first fills of the plan, up to `quantity` in all."""
    kept: list[PlannedFill] = []
    left = quantity
    for fill in plan.fills:
        part = min(left, fill.quantity)
        if part:
            kept.append(PlannedFill(fill.maker, part))
            left -= part
    plan.fills = kept
    plan.quantity = sum((fill.quantity for fill in kept), ZERO)
    plan.quote = sum((amount(fill.maker.price, fill.quantity) for fill in kept), ZERO)


def _unfilled(taker: Taker, plan: Plan, price: Decimal, instrument: Instrument) -> Decimal:
    """What the order still wants at `price`; an order by amount wants what the rest of the amount pays."""
    if taker.quantity is not None:
        return taker.quantity - plan.quantity - plan.prevented
    assert taker.quote_quantity is not None
    return floor_to((taker.quote_quantity - plan.quote) / price, instrument.step_size)


def _reachable(taker: Taker, book: Book) -> Iterator[tuple[Order | Level, Decimal]]:
    for maker, available in book.makers(taker.side.opposite):
        if taker.limit is not None:
            too_dear = maker.price > taker.limit if taker.side is Side.BUY else maker.price < taker.limit
            if too_dear:
                return
        yield maker, available


def _prevent_self_trade(taker: Taker, maker: Order, plan: Plan) -> bool:
    """Note what happens to both sides; True when the taker stops here."""
    mode = taker.self_trade_prevention
    if mode is not SelfTradePrevention.EXPIRE_TAKER and maker not in plan.expired_makers:
        plan.expired_makers.append(maker)
    if mode is SelfTradePrevention.EXPIRE_MAKER:
        return False
    plan.taker_expires = True
    return True
