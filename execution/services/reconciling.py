"""Reconciliation: the exchange's books against ours. It posts only what exchange records prove.

Questions first, without a transaction; a failed one makes the run degraded and changes nothing (invariant 7).
Then it compares and posts, a few orders in each transaction. It never invents a fill (invariant 9).
"""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from execution import selectors
from execution.contracts import Balance, DivergenceKind, ExchangeGateway, OrderStatus, QueryFailed
from execution.models import (
    Account,
    AccountBalance,
    Fill,
    Order,
    ReconciliationRequest,
    ReconciliationRun,
)
from execution.services.asking import Records, ask, ask_for_balances
from execution.services.comparing import SETTLE, compare_orders, compare_trades
from execution.services.findings import Finding, close_unseen, store_findings
from execution.services.folding import store_balances
from execution.services.resetting import find_reset
from execution.services.turn import Turn
from market.selectors import unfolded_account_events
from tradingbot.core import audit
from tradingbot.core.alerts import raise_alert, resolve_alerts
from tradingbot.core.announce import announce
from tradingbot.core.clock import now as clock_now
from tradingbot.core.decimals import ZERO, plain

logger = logging.getLogger(__name__)
BALANCE_ATTEMPTS = 4
BALANCE_WAIT_SECONDS = 1.0


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
    turn = Turn.take(holder)
    if turn is None:
        return None
    try:
        run = _open_run(trigger, now)
        try:
            records = ask(exchange, turn.keep)
            return _compare(run, records, exchange, wait, turn)
        except QueryFailed as error:
            return _finish(run, status="degraded", note=_why_degraded(run, error))
    finally:
        turn.end()


def _why_degraded(run: ReconciliationRun, error: QueryFailed) -> str:
    if run.fills_posted:
        return f"Cut short after {run.fills_posted} proved trades were posted: {error}"
    return f"A query failed, so nothing was concluded: {error}"


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


def _compare(
    run: ReconciliationRun,
    records: Records,
    exchange: ExchangeGateway,
    wait: Callable[[float], None],
    turn: Turn,
) -> ReconciliationRun:
    now = clock_now()
    reset = find_reset(
        exchange=exchange,
        absent_client_ids=records.absent_client_ids,
        balances=records.balances,
        keep=turn.keep,
        now=now,
    )
    if reset is not None:
        return _stop_at_reset(run, reset)
    with turn.writing():
        _set_baseline(records.balances, now)
    findings = [finding for found in compare_orders(run, records, turn, now) for finding in found]
    for posted, found in compare_trades(run, records, turn, now):
        run.fills_posted += posted
        findings += found
    balance_findings, note = _compare_balances(records, exchange, wait, turn.keep)
    with turn.writing():
        _store_balances(records)
        store_findings(run, balance_findings, clock_now())
        close_unseen(run, [*findings, *balance_findings], clock_now())
        run.orders_compared = len(records.orders)
        run.fills_compared = len(records.trades)
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
        ask_for_balances(exchange, records)
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
    store_balances([(as_of, balance) for balance in records.balances])
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
