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
class Step:
    """A fill of `quantity`, or, where `prevention` is set, a match with the taker's own account that it prevents:
    what it takes from both sides (0: nothing)."""

    maker: Order | Level
    quantity: Decimal
    prevention: SelfTradePrevention | None = None
    taker_loses: Decimal = ZERO
    maker_loses: Decimal = ZERO


@dataclass(slots=True)
class Plan:
    """What happens, in order, and whether nothing reachable was left on the book. `quantity` and `quote` are
    of the fills, `prevented` is what the taker loses to self-trade prevention."""

    steps: list[Step] = field(default_factory=list)
    ran_out: bool = False
    quantity: Decimal = ZERO
    quote: Decimal = ZERO
    prevented: Decimal = ZERO

    @property
    def touches_book(self) -> bool:
        return bool(self.steps)


def plan_match(taker: Taker, instrument: Instrument, book: Book) -> Plan:
    """What `taker` meets at once, best price first and oldest first within a price."""
    plan = Plan()
    expired: set[int] = set()
    for maker, available in _reachable(taker, book):
        unfilled = _unfilled(taker, plan, maker.price, instrument)
        if not unfilled:
            return plan
        if isinstance(maker, Order) and maker.account_id == taker.account_id:
            # An expired iceberg comes again with its hidden slices.
            if maker.order_id in expired:
                continue
            step = _prevented(taker, maker, min(available, unfilled), unfilled)
            if step.prevention is SelfTradePrevention.EXPIRE_MAKER:
                expired.add(maker.order_id)
            plan.prevented += step.taker_loses
        else:
            step = Step(maker, min(available, unfilled))
            plan.quantity += step.quantity
            plan.quote += amount(maker.price, step.quantity)
        plan.steps.append(step)
        if step.quantity + step.taker_loses == unfilled:
            return plan
    plan.ran_out = True
    return plan


def _prevented(taker: Taker, maker: Order, quantity: Decimal, unfilled: Decimal) -> Step:
    """A match of an account with itself, as the taker's mode has it (binance.md §8)."""
    match mode := taker.self_trade_prevention:
        case SelfTradePrevention.EXPIRE_MAKER:
            losses = (ZERO, maker.remaining)
        case SelfTradePrevention.EXPIRE_TAKER:
            losses = (unfilled, ZERO)
        case SelfTradePrevention.EXPIRE_BOTH:
            losses = (unfilled, maker.remaining)
        case _:
            losses = (quantity, quantity)
    return Step(maker, ZERO, mode, *losses)


def limit_plan(plan: Plan, quantity: Decimal) -> None:
    """Keep only the first steps of the plan, up to fills of `quantity` in all."""
    kept: list[Step] = []
    left = quantity
    for step in plan.steps:
        if not left:
            break
        if step.prevention is None:
            step = Step(step.maker, min(left, step.quantity))
            left -= step.quantity
        kept.append(step)
    plan.steps = kept
    plan.quantity = quantity - left
    plan.quote = sum((amount(step.maker.price, step.quantity) for step in kept), ZERO)


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
