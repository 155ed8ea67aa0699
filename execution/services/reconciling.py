"""Reconciliation: the exchange's books against ours. It posts only what exchange records prove.

Questions first, without a transaction; a failed one makes the run degraded and changes nothing (invariant 7).
Then one transaction compares and posts. It never invents a fill (invariant 9).
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from execution import selectors
from execution.contracts import (
    CONCLUDED_WITHOUT,
    TERMINAL,
    Balance,
    DivergenceKind,
    ExchangeGateway,
    ExchangeStatus,
    FillReport,
    OrderReport,
    OrderStatus,
    QueryFailed,
)
from execution.models import (
    Account,
    AccountBalance,
    Fill,
    Order,
    ReconciliationRequest,
    ReconciliationRun,
    current_ledger,
)
from execution.rules import is_further
from execution.services.findings import Finding, store_findings
from execution.services.folding import apply_report, lock_books, post_fill, store_balance
from execution.services.resetting import find_reset
from execution.services.watching import watch_position
from market.models import Instrument
from market.selectors import unfolded_account_events
from tradingbot.core import audit, leases
from tradingbot.core.alerts import raise_alert, resolve_alerts
from tradingbot.core.announce import announce
from tradingbot.core.clock import now as clock_now
from tradingbot.core.decimals import ZERO, plain

logger = logging.getLogger(__name__)
# Renewed before each question. A worker that dies holds the others up no longer than that.
LEASE_SECONDS = settings.EXCHANGE_TIMEOUT_SECONDS + 10
OVERLAP = timedelta(minutes=5)
# A difference younger than this may be a message on its way (reference/reliability.md §5, "divergence").
SETTLE = timedelta(seconds=5)
BALANCE_ATTEMPTS = 4
BALANCE_WAIT_SECONDS = 1.0


@dataclass(slots=True)
class Records:
    """What the exchange told us in one run."""

    orders: dict[tuple[str, int], OrderReport] = field(default_factory=dict)
    absent_client_ids: set[str] = field(default_factory=set)
    listed: Sequence[OrderReport] = ()
    trades: list[tuple[str, int, FillReport]] = field(default_factory=list)
    balances: Sequence[Balance] = ()
    balances_as_of: datetime | None = None


def request_reconciliation(*, trigger: str, now: datetime) -> None:
    """Ask for a run soon; the request is a row, so that it outlives Redis and this process."""
    with transaction.atomic():
        request = ReconciliationRequest.objects.create(
            environment=selectors.ENVIRONMENT, trigger=trigger[:24], requested_at=now
        )
        announce("reconciliation_request", request.pk)


def reconcile(
    *,
    exchange: ExchangeGateway,
    trigger: str,
    holder: str,
    now: datetime,
    wait: Callable[[float], None] = time.sleep,
) -> ReconciliationRun | None:
    """Compare once; the finished run, or None when another worker is at it.

    `wait` is called between two looks at the balances while fills are on their way.
    """
    if not _keep_lease(holder):
        return None

    def keep() -> None:
        if not _keep_lease(holder):
            raise QueryFailed("it took too long and another worker took it over")

    try:
        run = _open_run(trigger, now)
        try:
            records = _ask(exchange, keep)
            return _compare(run, records, exchange, wait, keep)
        except QueryFailed as error:
            return _finish(run, status="degraded", note=f"A query failed, so nothing was concluded: {error}")
    finally:
        leases.release(f"reconcile:{selectors.ENVIRONMENT}", holder=holder)


def _keep_lease(holder: str) -> bool:
    lease = f"reconcile:{selectors.ENVIRONMENT}"
    return leases.acquire(lease, holder=holder, seconds=LEASE_SECONDS) is not None


def _open_run(trigger: str, now: datetime) -> ReconciliationRun:
    with transaction.atomic():
        ReconciliationRun.objects.filter(environment=selectors.ENVIRONMENT, status="running").update(
            status="degraded", finished_at=now, note="The worker was lost during the run."
        )
        run = ReconciliationRun.objects.create(
            environment=selectors.ENVIRONMENT, trigger=trigger[:24], started_at=now
        )
        ReconciliationRequest.objects.filter(environment=selectors.ENVIRONMENT, run__isnull=True).update(
            run=run
        )
    return run


# --- asking ---------------------------------------------------------------------------------------------


def _ask(exchange: ExchangeGateway, keep: Callable[[], None]) -> Records:
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
    _ask_for_balances(exchange, records)
    return records


def _ask_for_balances(exchange: ExchangeGateway, records: Records) -> None:
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


# --- comparing ------------------------------------------------------------------------------------------


def _compare(
    run: ReconciliationRun,
    records: Records,
    exchange: ExchangeGateway,
    wait: Callable[[float], None],
    keep: Callable[[], None],
) -> ReconciliationRun:
    now = clock_now()
    reset = find_reset(
        exchange=exchange,
        absent_client_ids=records.absent_client_ids,
        balances=records.balances,
        keep=keep,
        now=now,
    )
    if reset is not None:
        return _stop_at_reset(run, reset)
    with transaction.atomic():
        _set_baseline(records.balances, now)
        lock_books()
        findings = _compare_orders(records, now)
        posted, fill_findings = _compare_trades(records, now)
        findings += fill_findings
    balance_findings, note = _compare_balances(records, exchange, wait, keep)
    findings += balance_findings
    with transaction.atomic():
        _store_balances(records)
        store_findings(run, findings, clock_now())
        run.orders_compared = len(records.orders)
        run.fills_compared = len(records.trades)
        run.fills_posted = posted
        run.balances_compared = len(records.balances)
    still_open = selectors.open_divergences()
    run.divergence_count = len(still_open)
    if still_open:
        note = f"{len(still_open)} open: {', '.join(sorted({d.kind for d in still_open}))}. {note}".strip()
    return _finish(run, status="divergent" if still_open else "clean", note=note)


def _stop_at_reset(run: ReconciliationRun, reset: Finding) -> ReconciliationRun:
    """One divergence of its own kind; nothing else is compared or posted until a person accepts it."""
    with transaction.atomic():
        store_findings(run, [reset], clock_now())
        run.divergence_count = len(selectors.open_divergences())
    return _finish(
        run, status="divergent", note="The exchange's environment was reset; nothing else was compared."
    )


def _set_baseline(balances: Sequence[Balance], now: datetime) -> None:
    """The first agreement: what the account held before the bot's first fill."""
    account, _ = Account.objects.select_for_update().get_or_create(environment=selectors.ENVIRONMENT)
    if account.baseline_at is not None:
        return
    account.baseline = {b.asset: plain(b.total) for b in balances}
    account.baseline_at = now
    account.save(update_fields=["baseline", "baseline_at"])
    audit.record(
        action="account.baseline",
        subject=f"account:{selectors.ENVIRONMENT}",
        actor="reconciliation",
        now=now,
        balances=account.baseline,
    )


def _fold_listed(records: Records, now: datetime) -> None:
    """An open order list proves its legs, also those that the queries for orders do not show yet."""
    doubtful = set(
        Order.objects.filter(
            environment=selectors.ENVIRONMENT,
            client_order_id__in=[report.client_order_id for report in records.listed],
            status__in=[
                OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW, OrderStatus.NOT_PLACED,
            ],
        ).values_list("client_order_id", flat=True)
    )  # fmt: skip
    for report in records.listed:
        if report.client_order_id in doubtful:
            apply_report(report=report, now=now)


def _compare_orders(records: Records, now: datetime) -> list[Finding]:
    _fold_listed(records, now)
    findings = []
    ours = {
        o.client_order_id: o
        for o in Order.objects.filter(
            environment=selectors.ENVIRONMENT,
            client_order_id__in=[r.client_order_id for r in records.orders.values()],
        )
    }
    for report in records.orders.values():
        order = ours.get(report.client_order_id)
        if order is None:
            findings.append(_foreign(report))
        elif _differs(order, report):
            apply_report(report=report, now=now)
            if order.status in CONCLUDED_WITHOUT:
                findings.append(_missing_here(order, report))
            elif now - report.at > SETTLE:
                findings.append(_status_finding(order, report))
    for order in Order.objects.filter(
        environment=selectors.ENVIRONMENT,
        client_order_id__in=records.absent_client_ids,
        status=OrderStatus.CONFIRMED,
    ):
        findings.append(
            Finding(
                kind=DivergenceKind.ORDER_MISSING_THERE,
                subject=f"order:{order.client_order_id}",
                symbol=order.symbol,
                ours={"status": order.exchange_status, "exchange_order_id": order.exchange_order_id},
                theirs={"answer": "-2013 Order does not exist"},
                likely_cause="The exchange lost or archived the order, or the environment was reset.",
            )
        )
    return findings


def _differs(order: Order, report: OrderReport) -> bool:
    if order.status in {OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}:
        return True
    if order.status in CONCLUDED_WITHOUT:
        return report.status is not ExchangeStatus.REJECTED or report.executed_quantity > 0
    return (
        report.executed_quantity > order.executed_quantity
        or (report.status in TERMINAL and order.exchange_status not in TERMINAL)
        or order.exchange_order_id is None
        or is_further(order.exchange_status, report.status)
    )


def _foreign(report: OrderReport) -> Finding:
    return Finding(
        kind=DivergenceKind.FOREIGN_ORDER,
        subject=f"foreign:{report.symbol}:{report.exchange_order_id}",
        symbol=report.symbol,
        ours={},
        theirs=_order_words(report),
        likely_cause="Somebody placed it by hand or with another program on this account.",
        amount=report.executed_quantity,
    )


def _missing_here(order: Order, report: OrderReport) -> Finding:
    """We had concluded that it does not exist. The exchange's record wins, and that it did is on record."""
    return Finding(
        kind=DivergenceKind.ORDER_MISSING_HERE,
        subject=f"order:{order.client_order_id}",
        symbol=order.symbol,
        ours={"status": order.status, "reason": order.reason},
        theirs=_order_words(report),
        likely_cause="The request was executed although it looked refused or lost. This must not happen.",
        amount=report.executed_quantity,
        settled="applied from the exchange's record: the order is confirmed",
    )


def _order_words(report: OrderReport) -> dict[str, Any]:
    return {
        "clientOrderId": report.client_order_id,
        "orderId": report.exchange_order_id,
        "side": report.side,
        "type": report.order_type,
        "status": report.status.value,
        "quantity": plain(report.quantity),
        "price": plain(report.price),
        "executed": plain(report.executed_quantity),
    }


def _status_finding(order: Order, report: OrderReport) -> Finding:
    return Finding(
        kind=DivergenceKind.STATUS,
        subject=f"order:{order.client_order_id}",
        symbol=order.symbol,
        ours={
            "status": order.status,
            "exchange_status": order.exchange_status,
            "executed": plain(order.executed_quantity),
        },
        theirs={"exchange_status": report.status.value, "executed": plain(report.executed_quantity)},
        likely_cause="A user-data event was missed; the exchange's record was applied.",
        settled="applied from the exchange's record",
    )


def _compare_trades(records: Records, now: datetime) -> tuple[int, list[Finding]]:
    posted, findings, ledger = 0, [], current_ledger()
    booked = _booked(records, ledger)
    for symbol, exchange_order_id, trade in records.trades:
        if (symbol, trade.trade_id) in booked:  # nothing to post, so nothing is locked for it
            findings += _fee_findings(symbol, trade, booked[symbol, trade.trade_id])
            continue
        order = (
            Order.objects.select_for_update()
            .filter(
                environment=selectors.ENVIRONMENT,
                ledger=ledger,
                symbol=symbol,
                exchange_order_id=exchange_order_id,
            )
            .first()
        )
        if order is None:
            continue  # its order is a finding of its own (foreign), or the report that names it comes first
        if post_fill(order=order, exchange_order_id=exchange_order_id, fill=trade, now=now):
            posted += 1
            watch_position(symbol=symbol, now=now, since=trade.at)
            if now - trade.at > SETTLE:
                findings.append(_fill_finding(symbol, order, trade))
    return posted, findings


Amounts = tuple[Decimal, Decimal, Decimal, str]


def _booked(records: Records, ledger: int) -> dict[tuple[str, int], Amounts]:
    """Price, quantity, commission and its asset of the trades of `records` that are on our books, asked at once."""
    first: dict[str, int] = {}
    for symbol, _, trade in records.trades:
        first[symbol] = min(first.get(symbol, trade.trade_id), trade.trade_id)
    found: dict[tuple[str, int], Amounts] = {}
    for symbol, trade_id in first.items():
        rows = Fill.objects.filter(
            environment=selectors.ENVIRONMENT, ledger=ledger, symbol=symbol, trade_id__gte=trade_id
        )
        for row in rows.values_list("trade_id", "price", "quantity", "commission", "commission_asset"):
            found[symbol, row[0]] = row[1:]
    return found


def _fill_finding(symbol: str, order: Order, trade: FillReport) -> Finding:
    return Finding(
        kind=DivergenceKind.FILL,
        subject=f"trade:{symbol}:{trade.trade_id}",
        symbol=symbol,
        ours={},
        theirs=_trade_words(trade),
        likely_cause="A user-data event was missed; the trade was posted from the exchange's record.",
        amount=trade.quote_quantity,
        settled=f"posted to order {order.client_order_id}",
    )


def _trade_words(trade: FillReport) -> dict[str, Any]:
    return {
        "tradeId": trade.trade_id,
        "price": plain(trade.price),
        "quantity": plain(trade.quantity),
        "commission": plain(trade.commission),
        "commissionAsset": trade.commission_asset,
    }


def _fee_findings(symbol: str, trade: FillReport, ours: Amounts) -> list[Finding]:
    """A booked trade whose amounts differ from the exchange's record."""
    price, quantity, commission, commission_asset = ours
    if ours == (trade.price, trade.quantity, trade.commission, trade.commission_asset):
        return []
    return [
        Finding(
            kind=DivergenceKind.FEE,
            subject=f"trade:{symbol}:{trade.trade_id}",
            symbol=symbol,
            ours={
                "price": plain(price),
                "quantity": plain(quantity),
                "commission": plain(commission),
                "commissionAsset": commission_asset,
            },
            theirs=_trade_words(trade),
            likely_cause="The first report of the trade told other amounts than the exchange's ledger.",
            amount=trade.commission - commission,
            amount_asset=trade.commission_asset,
        )
    ]


def _compare_balances(
    records: Records, exchange: ExchangeGateway, wait: Callable[[float], None], keep: Callable[[], None]
) -> tuple[list[Finding], str]:
    """Totals per asset against baseline, fills and movements; looked at again while fills are on their way."""
    for attempt in range(BALANCE_ATTEMPTS):
        differences = _balance_differences(records.balances)
        if not differences or attempt == BALANCE_ATTEMPTS - 1:
            break
        wait(BALANCE_WAIT_SECONDS)
        keep()
        _ask_for_balances(exchange, records)
    if differences and _in_flight():
        assets = ", ".join(asset for asset, _, _ in differences)
        return [], f"{assets} not judged while orders are in flight; the next run decides"
    return [
        Finding(
            kind=DivergenceKind.BALANCE,
            subject=f"balance:{asset}",
            symbol="",
            ours={"expected": plain(expected)},
            theirs={"total": plain(total)},
            likely_cause="A trade, deposit, withdrawal or fee that is not on our books.",
            amount=total - expected,
            amount_asset=asset,
        )
        for asset, expected, total in differences
    ], ""


def _balance_differences(balances: Sequence[Balance]) -> list[tuple[str, Decimal, Decimal]]:
    theirs = {b.asset: b.total for b in balances}
    expected = selectors.expected_balances()
    return [
        (asset, expected.get(asset, ZERO), theirs.get(asset, ZERO))
        for asset in sorted(theirs.keys() | expected.keys())
        if expected.get(asset, ZERO) != theirs.get(asset, ZERO)
    ]


def _in_flight() -> bool:
    """Whether an order's fate, a stored event or a fresh fill may still explain a difference."""
    unresolved = {OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}
    fresh = clock_now() - SETTLE
    return (
        Order.objects.filter(environment=selectors.ENVIRONMENT, status__in=unresolved).exists()
        or Fill.objects.filter(environment=selectors.ENVIRONMENT, recorded_at__gt=fresh).exists()
        or bool(unfolded_account_events(1))
    )


# --- recording ------------------------------------------------------------------------------------------


def _store_balances(records: Records) -> None:
    as_of = records.balances_as_of or clock_now()
    for balance in records.balances:
        store_balance(asset=balance.asset, free=balance.free, locked=balance.locked, as_of=as_of)
    # What the exchange leaves out of its answer is zero.
    AccountBalance.objects.filter(environment=selectors.ENVIRONMENT, as_of__lt=as_of).exclude(
        asset__in=[balance.asset for balance in records.balances]
    ).update(free=ZERO, locked=ZERO, as_of=as_of)


def _finish(run: ReconciliationRun, *, status: str, note: str) -> ReconciliationRun:
    now = clock_now()
    with transaction.atomic():
        run.status, run.note, run.finished_at = status, note, now
        run.save()
        if status == "degraded":
            raise_alert(
                kind="reconciliation_degraded",
                severity="high",
                title="Reconciliation is degraded: nothing new is opened",
                detail=note,
                now=now,
            )
        else:
            resolve_alerts(dedupe_key="reconciliation_degraded:", now=now)
        announce("reconciliation", run.pk)
    return run


def measure_clock(*, exchange: ExchangeGateway, now: datetime) -> int:
    """Measure the exchange's clock against ours and keep the offset in milliseconds."""
    offset_ms = exchange.measure_clock_offset_ms()
    Account.objects.update_or_create(
        environment=selectors.ENVIRONMENT,
        defaults={"clock_offset_ms": offset_ms, "clock_measured_at": now},
    )
    return offset_ms
