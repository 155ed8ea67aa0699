"""What protects what is held: the legs on the exchange, what they cover, what is in an exit's way.

An order's own record is the only witness: a leg counts as live when the exchange said so and said nothing later.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import DecimalField, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce

from execution.contracts import (
    ENTRY_KINDS,
    PROTECTIVE_ROLES,
    TERMINAL,
    UNRESOLVED,
    ExchangeStatus,
    OrderStatus,
    Role,
)
from execution.models import ExecutionIntent, Fill, Order, Position, current_ledger
from execution.rules import lists
from market import selectors as market
from market.contracts import SymbolFilters, UnknownInstrument
from tradingbot.core.decimals import ZERO, floor_to_step

ENVIRONMENT = settings.TRADING_ENVIRONMENT.value
ON_THE_BOOK = frozenset({ExchangeStatus.NEW, ExchangeStatus.PARTIALLY_FILLED})
ROLE_RANK = {Role.ORDER: 0, Role.CLOSE: 0, Role.STOP: 1, Role.TARGET: 2}
# Fills of an order that ended longer ago than this were compared by many reconciliations.
BOOKS_WITHIN = timedelta(days=1)
# Every completed comparison books them, and nothing is opened while none has completed for a few minutes.
TOLD_WITHIN = timedelta(minutes=15)


def live_orders() -> Q:
    """Orders that may still cost something: unresolved, or confirmed and not at their end on the exchange.

    One whose end a person settled (`closed_at`) is not live: its environment was reset, or the exchange lost it.
    """
    return Q(environment=ENVIRONMENT) & (
        Q(status__in=UNRESOLVED)
        | (Q(status=OrderStatus.CONFIRMED, closed_at__isnull=True) & ~Q(exchange_status__in=TERMINAL))
    )


def is_on_book(order: Order | None) -> bool:
    """Whether the exchange has the order on its book, or waiting for its trigger."""
    return (
        order is not None
        and order.status == OrderStatus.CONFIRMED
        and order.closed_at is None
        and order.exchange_status in ON_THE_BOOK
    )


def has_ended(order: Order) -> bool:
    """Whether nothing more can come of the order."""
    if order.status == OrderStatus.CONFIRMED:
        return order.closed_at is not None or order.exchange_status in TERMINAL
    return order.status not in UNRESOLVED


@dataclass(slots=True)
class Guard:
    """The legs of one intent that protect, or will; `working` leads them when they belong to an entry.

    `bid` is the last one seen, read only where a stop has a limit.
    """

    intent: ExecutionIntent
    stop: Order | None = None
    target: Order | None = None
    working: Order | None = None
    legs: list[Order] = field(default_factory=list)
    bid: Decimal | None = None

    @property
    def is_run_over(self) -> bool:
        """Whether the price went through its stop and past the limit that it sells at: it rests and covers nothing."""
        limit = self.stop.price if self.stop else None
        return is_on_book(self.stop) and limit is not None and self.bid is not None and self.bid < limit

    @property
    def is_live(self) -> bool:
        """Whether its stop stands on the exchange and would sell."""
        return is_on_book(self.stop) and not self.is_run_over

    @property
    def quantity(self) -> Decimal:
        """What its stop would still sell, in base."""
        return self.stop.quantity - self.stop.executed_quantity if self.stop and self.is_live else ZERO

    @property
    def is_unresolved(self) -> bool:
        """Whether the fate of a leg is not known."""
        return any(leg.status in UNRESOLVED for leg in self.legs)

    @property
    def is_pending(self) -> bool:
        """Whether a leg waits for the working leg."""
        return any(
            leg.exchange_status == ExchangeStatus.PENDING_NEW and not has_ended(leg) for leg in self.legs
        )

    @property
    def wants_reading(self) -> bool:
        """Whether its pending legs must have been placed, or ended, by now: ask the exchange."""
        return self.is_pending and (self.working is None or has_ended(self.working))

    @property
    def is_stopless(self) -> bool:
        """Whether a target holds the coins and no stop does."""
        return is_on_book(self.target) and not (self.is_live or self.is_unresolved or self.is_pending)

    @property
    def holds_coins(self) -> bool:
        """Whether it locks what an exit would sell, or may: as long as this is not known to be over."""
        if is_on_book(self.stop) or is_on_book(self.target) or self.wants_reading:
            return True
        waits_for_entry = self.working is not None and not has_ended(self.working)
        return self.is_unresolved and not (waits_for_entry and not self.working_has_filled)

    @property
    def working_has_filled(self) -> bool:
        """Whether the entry that leads it has bought anything yet."""
        return self.working is not None and self.working.executed_quantity > 0


def orders_of(intent: ExecutionIntent) -> list[Order]:
    """All orders of an intent, the first one first."""
    found = list(Order.objects.filter(intent=intent).select_related("intent"))
    return sorted(found, key=lambda order: ROLE_RANK[Role(order.role)])


def guards(symbol: str) -> list[Guard]:
    """Whatever protects `symbol`, or may come to, oldest first."""
    live = Order.objects.filter(live_orders(), symbol=symbol, role__in=PROTECTIVE_ROLES)
    intents: set[UUID] = set(live.values_list("intent_id", flat=True))
    found: dict[UUID, Guard] = {}
    rows = Order.objects.filter(intent_id__in=intents).select_related("intent")
    for order in rows.order_by("intent__created_at", "intent_id", "pk"):
        guard = found.setdefault(order.intent_id, Guard(order.intent))
        if order.role == Role.STOP:
            guard.stop = order
        elif order.role == Role.TARGET:
            guard.target = order
        else:
            guard.working = order
        if order.role in PROTECTIVE_ROLES:
            guard.legs.append(order)
    if any(guard.stop and guard.stop.price is not None for guard in found.values()):
        quote = market.latest_quote(symbol)
        for guard in found.values():
            guard.bid = quote.bid if quote else None
    return list(found.values())


def is_replaceable(order: Order) -> bool:
    """Whether it is an entry at a limit that rests on the exchange, approved by one person or by the rules."""
    return (
        order.status == OrderStatus.CONFIRMED
        and not has_ended(order)
        and order.role == Role.ORDER
        and order.side == "BUY"
        and order.intent.kind in ENTRY_KINDS
        and order.intent.order_type == "LIMIT"
        and order.intent.time_in_force == "GTC"
        and order.intent.proposal.approvals_required < 2
    )


def entries_of(order: Order) -> list[Order]:
    """Whatever was placed for the approval of `order`: the first order, and what replaced it, in that sequence."""
    return list(
        Order.objects.filter(
            intent__proposal=order.intent.proposal_id, intent__kind__in=ENTRY_KINDS, role=Role.ORDER
        ).order_by("created_at")
    )


def exits_under_way(symbol: str) -> list[Order]:
    """Sales that an exit made and that may still execute."""
    return list(
        Order.objects.filter(
            live_orders(), symbol=symbol, side="SELL", role__in=[Role.ORDER, Role.CLOSE]
        ).order_by("created_at")
    )


@dataclass(frozen=True, slots=True)
class Cover:
    """How a position stands: what is held in whole steps, what stops cover, what is left exposed (in base).

    `since` is the exchange's time from which all of the cover stood. Dust, which the exchange takes no order
    for, is never exposed.
    """

    held: Decimal
    covered: Decimal
    exposed: Decimal
    since: datetime | None


def cover(position: Position, found: list[Guard]) -> Cover:
    """What the guards `found` cover of a position."""
    live = [guard for guard in found if guard.is_live]
    covered = sum((guard.quantity for guard in live), ZERO)
    filters = filters_of(position.symbol)
    step = max(filters.quantity_step, filters.market_quantity_step) if filters else ZERO
    held = floor_to_step(position.quantity, step)
    exposed = floor_to_step(max(ZERO, position.quantity - covered), step)
    if filters and not _is_tradable(exposed, position, filters):
        exposed = ZERO
    times = [guard.stop.live_at for guard in live if guard.stop and guard.stop.live_at]
    return Cover(held, covered, exposed, max(times) if times else None)


def _is_tradable(quantity: Decimal, position: Position, filters: SymbolFilters) -> bool:
    """Whether the exchange would take a stop for it: what it would not is dust."""
    if quantity < max(filters.quantity_min, filters.market_quantity_min) or quantity <= 0:
        return False
    price = position.stop_price
    if price is None:
        quote = market.latest_quote(position.symbol)
        price = quote.bid if quote else None
    return price is None or quantity * price >= filters.notional_min * lists.NOTIONAL_HEAD_ROOM


def filters_of(symbol: str) -> SymbolFilters | None:
    """The exchange's filters, or None when they were never read."""
    try:
        return market.symbol_filters(symbol)
    except UnknownInstrument:
        return None


def unbooked_orders(symbol: str, now: datetime) -> list[Order]:
    """Orders that executed more than their booked fills come to: their trades are still to be told."""
    return list(_unbooked(now - BOOKS_WITHIN).filter(symbol=symbol))


def unbooked_quote(now: datetime) -> dict[str, Decimal]:
    """What was paid by symbol, without fees, for purchases whose trades are still to be told."""
    paid: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for order in _unbooked(now - TOLD_WITHIN).filter(side="BUY"):
        share = 1 - order.booked / order.executed_quantity
        paid[order.symbol] += order.cumulative_quote * share
    return dict(paid)


def _unbooked(since: datetime) -> QuerySet[Order, Any]:
    booked = Coalesce(
        Sum("fills__quantity"), Value(ZERO), output_field=DecimalField(max_digits=38, decimal_places=16)
    )
    recent = Order.objects.filter(
        Q(closed_at__isnull=True) | Q(closed_at__gt=since),
        environment=ENVIRONMENT,
        ledger=current_ledger(),
        executed_quantity__gt=0,
    )
    return recent.annotate(booked=booked).filter(booked__lt=F("executed_quantity"))


def why_not_sellable(symbol: str, quantity: Decimal, now: datetime) -> str:
    """Why `quantity` must not be sold by our own books, whatever the account holds; empty when it may be.

    Coins that came from elsewhere are not ours to sell, so the exchange's balance alone is no permission.
    """
    position = Position.objects.filter(environment=ENVIRONMENT, symbol=symbol).first()
    held = position.quantity if position else ZERO
    leaving = sum((o.quantity - o.executed_quantity for o in exits_under_way(symbol)), ZERO)
    if unbooked_orders(symbol, now):
        return f"trades of {symbol} are still to be booked"
    if quantity > held - leaving:
        return f"it would sell {quantity:f}, {held - leaving:f} is held"
    return ""


def coins_locked(symbol: str) -> Decimal:
    """What of the base asset our own protection locks on the exchange: an exit frees it by a cancel."""
    locked = ZERO
    for guard in guards(symbol):
        on_book = [leg.quantity - leg.executed_quantity for leg in guard.legs if is_on_book(leg)]
        locked += max(on_book, default=ZERO)
    return locked


def open_counts(symbol: str) -> dict[str, int]:
    """Open orders, stops and lists of a symbol, for the exchange's limits on them."""
    rows = list(
        Order.objects.filter(live_orders(), symbol=symbol).values_list("role", "intent__list_client_order_id")
    )
    return {
        "open_orders": len(rows),
        "open_stops": sum(role == Role.STOP for role, _ in rows),
        "open_lists": len({name for _, name in rows if name}),
    }


def latest_entry(symbol: str) -> ExecutionIntent | None:
    """The intent of our last purchase of `symbol`: its approval is what protecting and closing act on."""
    fill = (
        Fill.objects.filter(environment=ENVIRONMENT, symbol=symbol, side="BUY", order__isnull=False)
        .select_related("order__intent__proposal")
        .order_by("-at", "-trade_id")
        .first()
    )
    return fill.order.intent if fill and fill.order else None
