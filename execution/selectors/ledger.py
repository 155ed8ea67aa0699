"""What was earned, paid and moved: results, fees, the equity curve, the balances that should be."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Max, Min, Q, Sum
from django.db.models.functions import Extract, Floor

from execution.models import (
    Account,
    AccountBalance,
    BalanceMovement,
    EquityPoint,
    Fill,
    Lot,
    LotClosing,
    Position,
    current_ledger,
)
from execution.selectors.protection import (
    ENVIRONMENT,
)
from market import selectors as market
from market.models import Instrument
from risk import selectors as risk
from risk.contracts import LimitsMissing
from tradingbot.core.decimals import ZERO

LOTS_MAX = 200
CURVE_POINTS_MAX = 600
CURVE_PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
STANDARD_FEE_RATE = Decimal("0.001")


def this_ledger() -> Q:
    """Rows since the last reset of the environment that was accepted."""
    return Q(environment=ENVIRONMENT, ledger=current_ledger())


def realised_since(start: datetime) -> Decimal:
    """Realised PnL in quote, net of fees, of fills since `start`."""
    closings = LotClosing.objects.filter(environment=ENVIRONMENT, at__gte=start)
    return closings.aggregate(total=Sum("realised_pnl_quote"))["total"] or ZERO


def carried_gain_quote(midnight: datetime) -> Decimal:
    """The unrealised gain that stood at `midnight`, by the equity curve of the day before it; 0 for a loss."""
    points = EquityPoint.objects.filter(
        environment=ENVIRONMENT, at__lte=midnight, at__gt=midnight - timedelta(days=1)
    )
    account = Account.objects.filter(environment=ENVIRONMENT).first()
    if account is None or account.baseline_at is None:
        return ZERO
    point = points.filter(at__gte=account.baseline_at).order_by("-at").first()
    return ZERO if point is None else max(ZERO, point.unrealised_pnl_quote)


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
    """What deposits and withdrawals brought since the baseline, at the bid; None while one has no price.

    Of assets that equity counts: one that nothing here trades (an airdrop) is no part of either.
    """
    total = ZERO
    instruments = Instrument.objects.filter(environment=ENVIRONMENT)
    counted = [settings.QUOTE_ASSET, *instruments.values_list("base_asset", flat=True)]
    moved = BalanceMovement.objects.filter(this_ledger(), asset__in=counted).values("asset")
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
