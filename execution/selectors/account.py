"""The account as the gate sees it."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from execution.contracts import ENTRY_KINDS, PROTECTIVE_ROLES, OrderStatus, Role
from execution.models import (
    Account,
    AccountBalance,
    Order,
    Position,
)
from execution.selectors.comparisons import open_divergences, reconciliation_state
from execution.selectors.health import health
from execution.selectors.killing import is_dust
from execution.selectors.ledger import (
    carried_gain_quote,
    fee_rate,
    net_flow_quote,
    realised_since,
)
from execution.selectors.losses import recent_losses
from execution.selectors.protection import (
    ENVIRONMENT,
    coins_locked,
    live_orders,
    unbooked_quote,
)
from market import selectors as market
from market.contracts import Quote
from market.models import Instrument
from proposals.contracts import APPROVED_STATUSES, ProposalStatus
from proposals.models import Proposal
from risk import selectors as risk
from risk.contracts import Health, Holding, Portfolio
from tradingbot.core.decimals import ZERO

CLOCK_MEASURED_WITHIN = timedelta(seconds=120)


def quotes_of(symbols: Iterable[str]) -> dict[str, Quote]:
    """Latest quotes of the symbols that have one."""
    return market.latest_quotes(set(symbols))


def portfolio(*, now: datetime, excluding: UUID | None = None) -> Portfolio:
    """The account as the gate sees it, without the proposal `excluding`; what is unknown is None.

    Reservations are live orders and proposals that wait or are approved, each at its worst, and purchases whose
    trades are not booked yet (invariant 4).
    """
    instruments = {
        i.symbol: i.base_asset
        for i in Instrument.objects.filter(environment=ENVIRONMENT).only("symbol", "base_asset")
    }
    balances = {b.asset: b for b in AccountBalance.objects.filter(environment=ENVIRONMENT)}
    held = list(Position.objects.filter(environment=ENVIRONMENT, quantity__gt=0))
    held_assets = {asset for asset, balance in balances.items() if balance.free + balance.locked > 0}
    needed = {p.symbol for p in held} | {s for s, base in instruments.items() if base in held_assets}
    quotes = quotes_of(needed)
    filters = market.filters_by_symbol([p.symbol for p in held])
    positions = [p for p in held if not is_dust(p, quotes.get(p.symbol), filters.get(p.symbol))]
    orders = list(Order.objects.filter(live_orders()))
    waiting = _waiting(excluding)
    reserved_quote, reserved_base = _reservations(orders, waiting)
    for symbol, paid in unbooked_quote(now).items():  # neither reserved any more nor held yet
        reserved_quote[symbol] = reserved_quote.get(symbol, ZERO) + paid * (1 + fee_rate())
    reconciled, note = reconciliation_state(now)
    account = Account.objects.filter(environment=ENVIRONMENT).first()
    quote_balance = balances.get(settings.QUOTE_ASSET)
    equity = _equity(balances, instruments, quotes) if balances else None
    losses = recent_losses()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Portfolio(
        quote_asset=settings.QUOTE_ASSET,
        free_quote=None if not balances else (quote_balance.free if quote_balance else ZERO),
        free_base={
            s: _sellable_base(s, balances[base]) for s, base in instruments.items() if base in balances
        },
        equity_quote=equity,
        holdings={
            p.symbol: Holding(
                symbol=p.symbol,
                quantity=p.quantity,
                average_price=p.cost_quote / p.quantity,
                mark_price=quotes[p.symbol].bid if p.symbol in quotes else None,
            )
            for p in positions
        },
        reserved_quote=reserved_quote,
        reserved_base=reserved_base,
        open_order_count=sum(o.role not in PROTECTIVE_ROLES for o in orders),
        open_order_count_by_symbol=_counts(o.symbol for o in orders),
        unresolved_order_count=len(
            {o.intent_id for o in orders if o.status in {OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}}
        ),
        realised_today_quote=realised_since(midnight),
        unrealised_quote=_unrealised(held, quotes),
        carried_gain_quote=carried_gain_quote(midnight),
        orders_last_minute=_orders_since(now - timedelta(minutes=1)),
        orders_last_hour=_orders_since(now - timedelta(hours=1)),
        pending_by_symbol=_pending(waiting),
        blocked_symbols=blocked_symbols(orders),
        reconciled=reconciled,
        reconciliation_note=note,
        clock_offset_ms=account.clock_offset_ms
        if account and account.clock_measured_at and now - account.clock_measured_at < CLOCK_MEASURED_WITHIN
        else None,
        equity_peak_quote=equity_peak_quote(account, equity),
        loss_streak=losses.streak,
        last_loss_at=losses.last_at,
        last_loss_by_symbol=losses.last_by_symbol,
    )


def equity_peak_quote(account: Account | None, equity_quote: Decimal | None) -> Decimal | None:
    """The highest equity so far, moved by all deposits and withdrawals until now; None while it is unknown.

    `Account.equity_peak_quote` is net of them. Before the first point of the curve the present is the peak.
    """
    if account is None or equity_quote is None:
        return None
    if account.equity_peak_quote is None:
        return equity_quote
    flow = net_flow_quote()
    return None if flow is None else max(account.equity_peak_quote + flow, equity_quote)


def _sellable_base(symbol: str, balance: AccountBalance) -> Decimal:
    """What is free, and what our own protection locks, which an exit cancels before it sells."""
    if not balance.locked:
        return balance.free
    return balance.free + min(balance.locked, coins_locked(symbol))


def _orders_since(start: datetime) -> int:
    """Orders of proposals sent since `start`, and those that a worker has claimed and is about to send."""
    return (
        Order.objects.filter(environment=ENVIRONMENT, role=Role.ORDER, intent__kind__in=ENTRY_KINDS)
        .filter(Q(sent_at__gt=start) | Q(status=OrderStatus.INTENT))
        .count()
    )


def _counts(symbols: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for symbol in symbols:
        counts[symbol] += 1
    return dict(counts)


def _waiting(excluding: UUID | None) -> list[Proposal]:
    """Proposals that may become orders: pending, or approved and not claimed."""
    rows = (
        Proposal.objects.filter(environment=ENVIRONMENT, claimed_at__isnull=True)
        .filter(status__in=[ProposalStatus.PENDING_APPROVAL, *APPROVED_STATUSES])
        .only("symbol", "side", "notional_quote", "fee_quote", "quantity")
    )
    return [row for row in rows if row.pk != excluding]


def _reservations(
    orders: list[Order], waiting: list[Proposal]
) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    quote: dict[str, Decimal] = defaultdict(lambda: ZERO)
    base: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for order in orders:
        quote[order.symbol] += order.reserved_quote
        if order.role not in PROTECTIVE_ROLES:  # what protects is in nobody's way: an exit cancels it
            base[order.symbol] += order.reserved_base
    for proposal in waiting:
        if proposal.side == "BUY":
            quote[proposal.symbol] += (proposal.notional_quote or ZERO) + (proposal.fee_quote or ZERO)
        else:
            base[proposal.symbol] += proposal.quantity or ZERO
    return dict(quote), dict(base)


def _pending(waiting: list[Proposal]) -> dict[str, list[str]]:
    pending: dict[str, list[str]] = defaultdict(list)
    for proposal in waiting:
        pending[proposal.symbol].append(proposal.side)
    return dict(pending)


def _equity(
    balances: dict[str, AccountBalance], instruments: dict[str, str], quotes: dict[str, Quote]
) -> Decimal | None:
    """Quote balance plus every held base asset at the bid; None while a held asset that is traded has no price."""
    cash = balances.get(settings.QUOTE_ASSET)
    total = cash.free + cash.locked if cash else ZERO
    for symbol, base_asset in instruments.items():
        balance = balances.get(base_asset)
        if balance is None or balance.free + balance.locked == 0:
            continue
        if symbol not in quotes:
            return None
        total += (balance.free + balance.locked) * quotes[symbol].bid
    return total


def _unrealised(positions: list[Position], quotes: dict[str, Quote]) -> Decimal | None:
    if any(p.symbol not in quotes for p in positions):
        return None
    return sum((p.quantity * quotes[p.symbol].bid - p.cost_quote for p in positions), ZERO)


def blocked_symbols(orders: Iterable[Order]) -> dict[str, str]:
    """Symbols that take no new order, with the reason: an order of unknown fate, or an open divergence."""
    blocked = {
        o.symbol: f"order {o.client_order_id} is {o.status}"
        for o in orders
        if o.status in {OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}
    }
    for divergence in open_divergences():
        for symbol in [divergence.symbol] if divergence.symbol else settings.SYMBOLS:
            blocked.setdefault(symbol, f"divergence {divergence.pk} ({divergence.kind}) is open")
    return blocked


def health_of_parts(now: datetime) -> Health:
    """How the parts do now, for the level of autonomy."""
    reconciled, note = reconciliation_state(now)
    control = risk.control()
    return health(
        now=now, reconciled=reconciled, note=note, switched_at=control.changed_at if control else None
    )
