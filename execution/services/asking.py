"""What the exchange is asked for in one comparison of the books. A failed question ends the comparison."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max

from execution import selectors
from execution.contracts import Balance, ExchangeGateway, FillReport, OrderReport
from execution.models import Account, Fill, Order, ReconciliationRun
from market.models import Instrument
from tradingbot.core.clock import now as clock_now

OVERLAP = timedelta(minutes=5)


@dataclass(slots=True)
class Records:
    """What the exchange told us in one run."""

    orders: dict[tuple[str, int], OrderReport] = field(default_factory=dict)
    absent_client_ids: set[str] = field(default_factory=set)
    listed: Sequence[OrderReport] = ()
    trades: list[tuple[str, int, FillReport]] = field(default_factory=list)
    balances: Sequence[Balance] = ()
    balances_as_of: datetime | None = None


def ask(exchange: ExchangeGateway, keep: Callable[[], None]) -> Records:
    """Orders, trades, lists and balances; `keep` renews the lease before each question. Raises QueryFailed."""
    records = Records()
    since = _since()
    for symbol in _symbols():
        keep()
        reports = list(exchange.open_orders(symbol=symbol))
        if since is not None:
            reports += exchange.orders_since(symbol=symbol, since=since)
        for report in reports:
            records.orders[symbol, report.exchange_order_id] = report
        for order_id, trade in _trades(exchange, symbol):
            records.trades.append((symbol, order_id, trade))
    _ask_for_the_rest(exchange, records, keep)
    keep()
    records.listed = exchange.open_lists()
    ask_for_balances(exchange, records)
    return records


def ask_for_balances(exchange: ExchangeGateway, records: Records) -> None:
    """Balances, as of the exchange's time before the question: an event told meanwhile is the newer one."""
    offset_ms = (
        Account.objects.filter(environment=selectors.ENVIRONMENT)
        .values_list("clock_offset_ms", flat=True)
        .first()
    )
    records.balances_as_of = clock_now() + timedelta(milliseconds=offset_ms or 0)
    records.balances = exchange.balances()


def _symbols() -> list[str]:
    """What is traded and listed here, and whatever we ever ordered."""
    instruments = Instrument.objects.filter(environment=selectors.ENVIRONMENT, symbol__in=settings.SYMBOLS)
    orders = Order.objects.filter(environment=selectors.ENVIRONMENT)
    return sorted(
        set(instruments.values_list("symbol", flat=True))
        | set(orders.values_list("symbol", flat=True).distinct())
    )


def _since() -> datetime | None:
    """Where the last agreement was, with an overlap; None before the first run."""
    baseline = (
        Account.objects.filter(environment=selectors.ENVIRONMENT)
        .values_list("baseline_at", flat=True)
        .first()
    )
    if baseline is None:
        return None
    agreed = (
        ReconciliationRun.objects.filter(environment=selectors.ENVIRONMENT, status="clean")
        .order_by("-id")
        .values_list("started_at", flat=True)
        .first()
    )
    return max(baseline, agreed - OVERLAP) if agreed else baseline


def _trades(exchange: ExchangeGateway, symbol: str) -> Sequence[tuple[int, FillReport]]:
    account = Account.objects.filter(environment=selectors.ENVIRONMENT).first()
    if account is None or account.baseline_at is None:
        return ()
    fills = Fill.objects.filter(environment=selectors.ENVIRONMENT, ledger=account.ledger, symbol=symbol)
    settled = fills.filter(recorded_at__lt=_since() or account.baseline_at).aggregate(last=Max("trade_id"))[
        "last"
    ]
    if settled is None:
        return exchange.trades(symbol=symbol, from_trade_id=None, since=account.baseline_at)
    return exchange.trades(symbol=symbol, from_trade_id=settled + 1, since=None)


def _ask_for_the_rest(exchange: ExchangeGateway, records: Records, keep: Callable[[], None]) -> None:
    """Our live orders that no list named are asked for by id; only -2013 counts as absent."""
    listed = {report.client_order_id for report in records.orders.values()}
    for order in Order.objects.filter(selectors.live_orders(), sent_at__isnull=False).order_by(
        "sent_at", "pk"
    ):
        if order.client_order_id in listed:
            continue
        keep()
        report = exchange.find_order(symbol=order.symbol, client_order_id=order.client_order_id)
        if report is None:
            records.absent_client_ids.add(order.client_order_id)
        else:
            records.orders[order.symbol, report.exchange_order_id] = report
