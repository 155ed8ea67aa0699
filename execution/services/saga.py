"""The saga of an unknown order: ask until there is evidence, conclude only on proof, else ask a person.

Invariants 1, 7 and 8. Nothing here ever sends an order.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from execution import rules, selectors
from execution.contracts import ExchangeGateway, OrderReport, OrderStatus, QueryFailed
from execution.models import Fill, Order, Probe
from execution.services.applying import apply_report
from market.models import Instrument
from market.selectors import unfolded_account_events
from tradingbot.core.alerts import raise_alert, resolve_alerts
from tradingbot.core.announce import announce
from tradingbot.core.clock import from_milliseconds
from tradingbot.core.clock import now as clock_now
from tradingbot.core.decimals import ZERO
from tradingbot.core.transitions import StaleState, transition

FOUND, ABSENT, FAILED = "found", "absent", "failed"
ABSENT_ANSWER = {
    "code": -2013,
    "msg": "Order does not exist.",
}  # the one answer that the gateway reads as None
LOOK_BACK = timedelta(minutes=2)
SETTLE = timedelta(seconds=5)  # a fill younger than this may not be in both figures yet


def probe_unknown(*, exchange: ExchangeGateway, now: datetime) -> int:
    """Ask about every unknown order whose turn it is; how many were asked about."""
    due = Order.objects.filter(environment=selectors.ENVIRONMENT, status=OrderStatus.UNKNOWN).filter(
        Q(next_probe_at__isnull=True) | Q(next_probe_at__lte=now)
    )
    asked = 0
    for order in due.select_related("intent").order_by("unknown_since", "pk")[:20]:
        if _take_turn(order, now):
            _probe(order, exchange, now)
            asked += 1
    return asked


def _take_turn(order: Order, now: datetime) -> bool:
    """Set the next turn first, guarded: of several workers one asks."""
    delay = timedelta(seconds=rules.probe_delay_seconds(order.probes.count()))
    return bool(
        Order.objects.filter(
            pk=order.pk, status=OrderStatus.UNKNOWN, next_probe_at=order.next_probe_at
        ).update(next_probe_at=now + delay)
    )


def _probe(order: Order, exchange: ExchangeGateway, now: datetime) -> None:
    try:
        report = exchange.find_order(symbol=order.symbol, client_order_id=order.client_order_id)
    except QueryFailed as error:
        _record(order, "GET order", FAILED, str(error), now)
        _escalate_when_late(order, now)
        return
    if report is not None:
        _record(order, "GET order", FOUND, _words(report), now, raw=report.raw)
        apply_report(report=report, now=now)
        return
    _record(order, "GET order", ABSENT, "-2013 Order does not exist", now, raw=ABSENT_ANSWER)
    if _is_listed(order, exchange, now):
        return
    if _absence_is_due(order, now):
        _scan_and_conclude(order, exchange, now)
    elif not _lacks_only_answers(order, now):
        _escalate_when_late(order, now)


def _is_listed(order: Order, exchange: ExchangeGateway, now: datetime) -> bool:
    """Whether the order is a leg of a list that the exchange has; then the list proves each of its legs.

    A list is placed whole or not at all, so a leg is never concluded absent while the list or another of its
    orders is known there.
    """
    name = order.intent.list_client_order_id
    if not name:
        return False
    try:
        reports = exchange.find_list(list_client_order_id=name)
    except QueryFailed as error:
        _record(order, "GET orderList", FAILED, str(error), now)
        _escalate_when_late(order, now)
        return True
    if reports is None:
        _record(order, "GET orderList", ABSENT, "-2013 Order list does not exist", now)
        known = Order.objects.filter(intent=order.intent, status=OrderStatus.CONFIRMED).exists()
        if known:
            _escalate_when_late(order, now)
        return known
    _record(order, "GET orderList", FOUND, f"the list has {len(reports)} orders", now)
    for report in reports:
        apply_report(report=report, now=now)
    return True


def _words(report: OrderReport) -> str:
    return f"order {report.exchange_order_id} is {report.status}, executed {report.executed_quantity}"


def conclusive_instant(order: Order) -> datetime:
    """After it the exchange itself refuses the signed request, so "does not exist" begins to count."""
    return from_milliseconds(
        rules.conclusive_instant_ms(
            timestamp_ms=order.intent.timestamp_ms, recv_window_ms=order.intent.recv_window_ms
        )
    )


def _absence_is_due(order: Order, now: datetime) -> bool:
    instant = conclusive_instant(order)
    return rules.may_conclude_absent(
        absent_answers_after_instant=order.probes.filter(
            answer=ABSENT, method="GET order", at__gt=instant
        ).count(),
        seconds_since_instant=(now - instant).total_seconds(),
        grace_seconds=settings.RECONCILE_GRACE_SECONDS,
    )


def _lacks_only_answers(order: Order, now: datetime) -> bool:
    """Whether the grace is over, so that a few more answers prove the absence: a bot that was down past the
    deadline asks on before it calls a person."""
    grace = timedelta(seconds=settings.RECONCILE_GRACE_SECONDS)
    return now - conclusive_instant(order) >= grace


def _scan_and_conclude(order: Order, exchange: ExchangeGateway, now: datetime) -> None:
    """The last proof: no order, no trade and no change of balance since it was sent that could be ours."""
    try:
        finding = _scan(order, exchange)
    except QueryFailed as error:
        _record(order, "scan", FAILED, str(error), now)
        _escalate_when_late(order, now)
        return
    if isinstance(finding, OrderReport):
        _record(order, "scan", FOUND, _words(finding), now, raw=finding.raw)
        apply_report(report=finding, now=now)
    elif finding:
        _record(order, "scan", FOUND, finding, now)
        if not _is_watched(order, now):
            _to_person(order, finding, now)
    else:
        _record(order, "scan", ABSENT, "no order, no trade, no change of balance", now)
        _conclude_absent(order, now, "saga", "asked after the conclusive instant: it was never placed")


def _scan(order: Order, exchange: ExchangeGateway) -> OrderReport | str:
    since = (order.sent_at or order.created_at) - LOOK_BACK
    orders = exchange.orders_since(symbol=order.symbol, since=since)
    of_request = {one.client_order_id for one in selectors.orders_of(order.intent)}
    for report in orders:
        if report.client_order_id in of_request:
            return report
    ours = set(
        Order.objects.filter(
            environment=order.environment, ledger=order.ledger, symbol=order.symbol
        ).values_list("exchange_order_id", flat=True)
    )
    strange = [
        trade.trade_id
        for exchange_order_id, trade in exchange.trades(symbol=order.symbol, from_trade_id=None, since=since)
        if exchange_order_id not in ours
    ]
    if strange:
        return f"trades {strange[:5]} on {order.symbol} belong to no order of ours"
    return _balance_finding(order, exchange)


def _balance_finding(order: Order, exchange: ExchangeGateway) -> str:
    instrument = Instrument.objects.get(environment=order.environment, symbol=order.symbol)
    theirs = {b.asset: b.total for b in exchange.balances()}
    expected = selectors.expected_balances()
    for asset in (instrument.base_asset, instrument.quote_asset):
        difference: Decimal = theirs.get(asset, ZERO) - expected.get(asset, ZERO)
        if difference and _others_in_flight(order):
            raise QueryFailed(f"the balance of {asset} is not judged while other orders are in flight")
        if difference:
            return f"the balance of {asset} differs by {difference} from what our fills explain"
    return ""


def _others_in_flight(order: Order) -> bool:
    """Whether another order's fate, a stored event or a fresh fill may explain a difference of balance."""
    unresolved = {OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}
    ours = Order.objects.filter(environment=order.environment, status__in=unresolved)
    fills = Fill.objects.filter(environment=order.environment, recorded_at__gt=clock_now() - SETTLE)
    return ours.exclude(pk=order.pk).exists() or fills.exists() or bool(unfolded_account_events(1))


def _conclude_absent(order: Order, now: datetime, actor: str, reason: str) -> None:
    """The request was never placed: so for the order, and for all of its list or for none of it."""
    open_ones = [
        one
        for one in selectors.orders_of(order.intent)
        if one.status in {OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}
    ]
    try:
        with transaction.atomic():
            for one in open_ones:
                conclude_absent(order=one, now=now, actor=actor, reason=reason)
    except StaleState:
        return


def conclude_absent(*, order: Order, now: datetime, actor: str, reason: str) -> None:
    """It was never placed: the reservation goes. Raises StaleState when the order moved on meanwhile."""
    transition(
        order,
        to=OrderStatus.NOT_PLACED,
        actor=actor,
        now=now,
        reason=reason,
        reserved_quote=ZERO,
        reserved_base=ZERO,
        closed_at=now,
        next_probe_at=None,
    )
    resolve_alerts(dedupe_key=f"execution_unknown:order:{order.pk}", now=now)
    resolve_alerts(dedupe_key=f"manual_review:order:{order.pk}", now=now)


def _is_watched(order: Order, now: datetime) -> bool:
    """Whether a person chose to go on asking for now."""
    return order.watch_until is not None and now < order.watch_until


def _escalate_when_late(order: Order, now: datetime) -> None:
    since = order.unknown_since or order.created_at
    if not _is_watched(order, now) and (now - since).total_seconds() >= settings.MANUAL_REVIEW_AFTER_SECONDS:
        _to_person(order, "no proof by the deadline", now)


def _to_person(order: Order, finding: str, now: datetime) -> None:
    try:
        with transaction.atomic():
            transition(order, to=OrderStatus.MANUAL_REVIEW, actor="saga", now=now, reason=finding)
            raise_alert(
                kind="manual_review",
                severity="critical",
                subject=f"order:{order.pk}",
                title=f"A person must decide: {order.side} {order.symbol}",
                detail=f"{finding}. The exposure stays reserved and {order.symbol} is blocked meanwhile.",
                now=now,
            )
    except StaleState:
        return


def _record(
    order: Order, method: str, answer: str, detail: str, now: datetime, raw: dict[str, Any] | None = None
) -> None:
    Probe.objects.create(order=order, method=method, answer=answer, detail=detail, raw=raw or {}, at=now)
    announce(Order.TOPIC, order.pk)
