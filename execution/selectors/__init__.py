"""What execution knows, read only: the portfolio for the gate, the account for the advisor, work to do."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db.models import Count, F, Max, Min, Q, Sum
from django.db.models.functions import Extract, Floor

from execution.contracts import ENTRY_KINDS, PROTECTIVE_ROLES, OrderStatus, Outcome, Role
from execution.models import (
    Account,
    AccountBalance,
    BalanceMovement,
    Divergence,
    EquityPoint,
    Fill,
    Lot,
    LotClosing,
    Order,
    Position,
    ReconciliationRequest,
    ReconciliationRun,
    current_ledger,
)
from execution.selectors.health import health
from execution.selectors.killing import is_residue, kill_preview, open_entries, sellable_positions
from execution.selectors.losses import Losses, recent_losses
from execution.selectors.protection import (
    ENVIRONMENT,
    coins_locked,
    filters_of,
    guards,
    live_orders,
    open_counts,
    orders_of,
    why_not_sellable,
)
from market import selectors as market
from market.contracts import ChartMark, Quote
from market.models import FeedSession, Instrument
from proposals.contracts import APPROVED_STATUSES, AdvisorAccount, HeldPosition, ProposalStatus
from proposals.models import Proposal
from risk import selectors as risk
from risk.contracts import Health, Holding, LimitsMissing, Portfolio
from tradingbot.core.decimals import ZERO, plain

RECONCILED_WITHIN = timedelta(seconds=150)
CLOCK_MEASURED_WITHIN = timedelta(seconds=120)
MARKS_MAX = 200
LOTS_MAX = 200
CURVE_POINTS_MAX = 600
CURVE_PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
STANDARD_FEE_RATE = Decimal("0.001")

__all__ = [
    "ENVIRONMENT",
    "Losses",
    "filters_of",
    "guards",
    "is_residue",
    "kill_preview",
    "live_orders",
    "open_counts",
    "open_entries",
    "orders_of",
    "recent_losses",
    "sellable_positions",
    "why_not_sellable",
]


def this_ledger() -> Q:
    """Rows since the last reset of the environment that was accepted."""
    return Q(environment=ENVIRONMENT, ledger=current_ledger())


def quotes_of(symbols: Iterable[str]) -> dict[str, Quote]:
    """Latest quotes of the symbols that have one."""
    found = {symbol: market.latest_quote(symbol) for symbol in symbols}
    return {symbol: quote for symbol, quote in found.items() if quote is not None}


def portfolio(*, now: datetime, excluding: UUID | None = None) -> Portfolio:
    """The account as the gate sees it, without the proposal `excluding`; what is unknown is None.

    Reservations are live orders and proposals that wait or are approved, each at its worst (invariant 4).
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
    positions = [p for p in held if not is_residue(p, quotes.get(p.symbol))]
    orders = list(Order.objects.filter(live_orders()))
    waiting = _waiting(excluding)
    reserved_quote, reserved_base = _reservations(orders, waiting)
    reconciled, note = reconciliation_state(now)
    account = Account.objects.filter(environment=ENVIRONMENT).first()
    quote_balance = balances.get(settings.QUOTE_ASSET)
    equity = _equity(balances, instruments, quotes) if balances else None
    losses = recent_losses()
    sent = Order.objects.filter(
        environment=ENVIRONMENT, sent_at__isnull=False, role=Role.ORDER, intent__kind__in=ENTRY_KINDS
    )
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
        realised_today_quote=realised_since(now.replace(hour=0, minute=0, second=0, microsecond=0)),
        unrealised_quote=_unrealised(held, quotes),
        orders_last_minute=sent.filter(sent_at__gt=now - timedelta(minutes=1)).count(),
        orders_last_hour=sent.filter(sent_at__gt=now - timedelta(hours=1)).count(),
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


def realised_since(start: datetime) -> Decimal:
    """Realised PnL in quote, net of fees, of fills since `start`."""
    closings = LotClosing.objects.filter(environment=ENVIRONMENT, at__gte=start)
    return closings.aggregate(total=Sum("realised_pnl_quote"))["total"] or ZERO


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """What all positions of the environment have realised and paid in fees so far, in quote."""

    realised_quote: Decimal
    fees_quote: Decimal


def ledger_totals() -> LedgerTotals:
    """The sums over all positions, closed ones included."""
    sums = Position.objects.filter(environment=ENVIRONMENT).aggregate(
        realised=Sum("realised_pnl_quote"), fees=Sum("fees_quote")
    )
    return LedgerTotals(sums["realised"] or ZERO, sums["fees"] or ZERO)


def cash_quote() -> Decimal:
    """The quote asset on the account, free and locked."""
    row = AccountBalance.objects.filter(environment=ENVIRONMENT, asset=settings.QUOTE_ASSET).first()
    return row.free + row.locked if row else ZERO


def net_flow_quote() -> Decimal | None:
    """What deposits and withdrawals brought since the baseline, at the bid; None while one has no price."""
    total = ZERO
    moved = BalanceMovement.objects.filter(this_ledger()).values("asset")
    for row in moved.annotate(total=Sum("amount")):
        if row["asset"] == settings.QUOTE_ASSET:
            total += row["total"]
        elif row["total"]:
            quote = market.latest_quote(f"{row['asset']}{settings.QUOTE_ASSET}")
            if quote is None:
                return None
            total += row["total"] * quote.bid
    return total


def fee_rate() -> Decimal:
    """The commission per side that the limits reckon with, or Binance's standard rate without limits."""
    try:
        return risk.current_limits().fee_rate
    except LimitsMissing:
        return STANDARD_FEE_RATE


def open_lots(symbol: str) -> list[Lot]:
    """What is held of `symbol`, by purchase, oldest first."""
    rows = Lot.objects.filter(environment=ENVIRONMENT, symbol=symbol, quantity_left__gt=0)
    return list(rows.order_by("at", "trade_id").select_related("fill")[:LOTS_MAX])


def equity_curve(*, since: datetime, points_max: int = CURVE_POINTS_MAX) -> list[EquityPoint]:
    """Points of the equity curve since `since`, oldest first; of each even slice of time its last one."""
    rows = EquityPoint.objects.filter(environment=ENVIRONMENT, at__gte=since)
    ends = rows.aggregate(first=Min("at"), last=Max("at"))
    if ends["first"] is None:
        return []
    slice_seconds = max(60, int((ends["last"] - ends["first"]).total_seconds() / points_max) + 1)
    bucket = Floor(Extract("at", "epoch") / slice_seconds)
    newest = rows.annotate(bucket=bucket).order_by("bucket", "-at").distinct("bucket")
    return sorted(newest, key=lambda point: point.at)


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


def open_divergences() -> list[Divergence]:
    """Open divergences, oldest first."""
    return list(
        Divergence.objects.filter(environment=ENVIRONMENT, closed_at__isnull=True).order_by("id")[:200]
    )


def last_completed_run() -> ReconciliationRun | None:
    """The newest run that is over."""
    return (
        ReconciliationRun.objects.filter(environment=ENVIRONMENT)
        .exclude(status="running")
        .order_by("-id")
        .first()
    )


def reconciliation_state(now: datetime) -> tuple[bool, str]:
    """Whether our books agree with the exchange's since the last connect, and the words for it.

    Open divergences block their symbols (`blocked_symbols`), not the account.
    """
    run = last_completed_run()
    if run is None or run.finished_at is None:
        return False, "no reconciliation has completed yet"
    age = now - run.finished_at
    if run.status == "degraded":
        return False, f"the last reconciliation was degraded: {run.note}"
    if age > RECONCILED_WITHIN:
        return False, f"the last reconciliation is {int(age.total_seconds())} s old"
    session = account_session_start()
    if session is not None and run.started_at < session:
        return False, "no reconciliation has completed since the account stream connected"
    return True, f"reconciled {int(age.total_seconds())} s ago"


def health_of_parts(now: datetime) -> Health:
    """How the parts do now, for the level of autonomy."""
    reconciled, note = reconciliation_state(now)
    control = risk.control()
    return health(
        now=now, reconciled=reconciled, note=note, switched_at=control.changed_at if control else None
    )


def account_session_start() -> datetime | None:
    """When the account stream last connected."""
    return (
        FeedSession.objects.filter(environment=ENVIRONMENT, stream="account")
        .order_by("-connected_at")
        .values_list("connected_at", flat=True)
        .first()
    )


def reconciliation_is_due() -> str | None:
    """Why a reconciliation is wanted now (a request, a new account session, none yet), or None."""
    request = ReconciliationRequest.objects.filter(environment=ENVIRONMENT, run__isnull=True).first()
    if request is not None:
        return request.trigger
    # Only a run that came to its end counts: the worker of one that did not may be dead.
    newest = last_completed_run()
    session = account_session_start()
    if newest is None:
        return "start"
    if session is not None and newest.started_at < session:
        return "reconnect"
    return None


def advisor_account(symbol: str, now: datetime) -> AdvisorAccount:
    """What the advisor is told of the account (`settings.ADVISOR_ACCOUNT`)."""
    books = portfolio(now=now)
    position = Position.objects.filter(environment=ENVIRONMENT, symbol=symbol, quantity__gt=0).first()
    if position is not None and is_residue(position, market.latest_quote(symbol)):
        position = None
    limits = risk.current_limits()
    gross = sum((h.exposure_quote or ZERO for h in books.holdings.values()), ZERO) + sum(
        books.reserved_quote.values(), ZERO
    )
    remaining = {"order_notional_quote": plain(limits.order_notional_max_quote)}
    if books.equity_quote is not None:
        room = books.equity_quote * limits.gross_exposure_max_pct / 100 - gross
        remaining["exposure_quote"] = plain(max(ZERO, room).quantize(Decimal("0.01")))
    return AdvisorAccount(
        free_quote=books.free_quote,
        free_base=books.free_base.get(symbol),
        position=None
        if position is None
        else HeldPosition(
            quantity=position.quantity,
            average_price=position.cost_quote / position.quantity,
            stop_price=position.stop_price,
            target_price=position.target_price,
            opened_at=position.opened_at,
        ),
        limits_remaining=remaining,
    )


def expected_balances() -> dict[str, Decimal]:
    """What each asset's total should be: baseline, plus the effects of our fills, plus foreign movements.

    Invariant 6. Summed by the database, exactly, in NUMERIC.
    """
    account = Account.objects.get(environment=ENVIRONMENT)
    expected: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for asset, text in account.baseline.items():
        expected[asset] += Decimal(text)
    assets = {
        i.symbol: (i.base_asset, i.quote_asset) for i in Instrument.objects.filter(environment=ENVIRONMENT)
    }
    fills = Fill.objects.filter(environment=ENVIRONMENT, ledger=account.ledger)
    for traded in fills.values("symbol", "side").annotate(base=Sum("quantity"), quote=Sum("quote_quantity")):
        base_asset, quote_asset = assets[traded["symbol"]]
        sign = 1 if traded["side"] == "BUY" else -1
        expected[base_asset] += sign * traded["base"]
        expected[quote_asset] -= sign * traded["quote"]
    for paid in fills.values("commission_asset").annotate(total=Sum("commission")):
        if paid["total"]:
            expected[paid["commission_asset"]] -= paid["total"]
    movements = BalanceMovement.objects.filter(environment=ENVIRONMENT, ledger=account.ledger)
    for moved in movements.values("asset").annotate(total=Sum("amount")):
        expected[moved["asset"]] += moved["total"]
    return dict(expected)


def order_counts() -> dict[str, int]:
    """How many orders are in each status, for reports."""
    rows = Order.objects.filter(environment=ENVIRONMENT).values("status").annotate(n=Count("pk"))
    return {row["status"]: row["n"] for row in rows}


def chart_marks(symbol: str, since: datetime) -> list[ChartMark]:
    """Our orders and fills of `symbol` recorded since `since` (`settings.CHART_MARKS`), oldest first."""
    orders = Order.objects.filter(environment=ENVIRONMENT, symbol=symbol, created_at__gte=since)
    fills = Fill.objects.filter(
        environment=ENVIRONMENT, symbol=symbol, recorded_at__gte=since, order__isnull=False
    )
    marks = [
        _mark("order", row.side, row.price, row.quantity, row.created_at, row.pk)
        for row in orders.order_by("-created_at")[:MARKS_MAX]
    ] + [
        _mark("fill", row.side, row.price, row.quantity, row.recorded_at, row.order_id)
        for row in fills.order_by("-recorded_at")[:MARKS_MAX]
    ]
    return sorted(marks, key=lambda mark: mark.recorded_at)


def _mark(
    kind: str,
    side: str,
    price: Decimal | None,
    quantity: Decimal,
    recorded_at: datetime,
    order_id: UUID | None,
) -> ChartMark:
    text = f"{kind} {side} {plain(quantity)}" + ("" if price is None else f" at {plain(price)}")
    return ChartMark(kind, side, price, quantity, recorded_at, str(order_id), text)


DIVERGENCES_MAX = 10_000
FIGURES_WINDOW = timedelta(hours=48)
# Between two completed comparisons; a longer gap is time in which nobody looked.
COMPARED_EVERY_MAX = timedelta(minutes=5)
# A difference that went away sooner was a message on its way (two polls).
UNEXPLAINED_AFTER = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class DivergenceFigures:
    """`reconciliation_divergences = 0 for 48 h`: what was opened and how well it was looked for.

    `opened` counts what no record of the exchange explained at once; `posted` what one did. `agreed_since` is
    the instant from which there was none and comparisons never paused for long; None while one is open.
    """

    window: timedelta
    opened: int
    open_now: int
    posted: int
    runs: int
    degraded: int
    longest_gap: timedelta | None
    agreed_since: datetime | None
    agreed_for: timedelta

    @property
    def met(self) -> bool:
        """Whether the goal is reached now."""
        return self.agreed_for >= self.window

    @property
    def agreed_hours(self) -> Decimal:
        """Hours without a divergence, rounded down to a tenth, at most the window."""
        hours = Decimal(min(self.agreed_for, self.window) // timedelta(minutes=6)) / 10
        return hours.quantize(Decimal("0.1"))


def divergence_figures(now: datetime) -> DivergenceFigures:
    """The figures of the last 48 h, from stored rows."""
    start = now - FIGURES_WINDOW
    rows = Divergence.objects.filter(environment=ENVIRONMENT)
    passing = Q(outcome=Outcome.GONE, closed_at__lt=F("first_seen_at") + UNEXPLAINED_AFTER)
    unexplained = rows.exclude(outcome=Outcome.POSTED).exclude(passing)
    open_now = rows.filter(closed_at__isnull=True).count()
    runs = ReconciliationRun.objects.filter(environment=ENVIRONMENT, finished_at__gte=start)
    # From a little before the window: its first comparison may lie just outside.
    ended = (
        ReconciliationRun.objects.filter(environment=ENVIRONMENT, finished_at__gte=start - COMPARED_EVERY_MAX)
        .exclude(status__in=["degraded", "running"])
        .order_by("-finished_at")
    )
    gap, covered_since = _coverage(
        [run.finished_at for run in ended.only("finished_at") if run.finished_at], now
    )
    closed = unexplained.aggregate(last=Max("closed_at"))["last"]
    since = None if open_now or covered_since is None else max(covered_since, closed or covered_since)
    return DivergenceFigures(
        window=FIGURES_WINDOW,
        opened=unexplained.filter(first_seen_at__gte=start).count(),
        open_now=open_now,
        posted=rows.filter(outcome=Outcome.POSTED, first_seen_at__gte=start).count(),
        runs=runs.count(),
        degraded=runs.filter(status="degraded").count(),
        longest_gap=gap,
        agreed_since=since,
        agreed_for=now - since if since else timedelta(0),
    )


def _coverage(ended: list[datetime], now: datetime) -> tuple[timedelta | None, datetime | None]:
    """The longest time between two comparisons, and since when none was too long; `ended` is newest first."""
    longest, since, unbroken = None, None, True
    newer = now
    for at in ended:
        longest = max(longest or timedelta(0), newer - at)
        unbroken = unbroken and newer - at <= COMPARED_EVERY_MAX
        if unbroken:
            since = at
        newer = at
    return longest, since


def all_divergences() -> list[Divergence]:
    """Every divergence on record, the newest first, as far as one file may hold."""
    return list(Divergence.objects.filter(environment=ENVIRONMENT).order_by("-id")[:DIVERGENCES_MAX])
