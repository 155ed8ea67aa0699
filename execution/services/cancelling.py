"""Cancels: sent once each, and never believed by themselves. What they came to is read from the orders.

A cancel that is refused (-2011) or whose answer is lost says nothing about the order: it may just have been
filled. So the orders are asked for, and only their own record decides (reference/binance.md §4).
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction

from execution import rules, selectors
from execution.contracts import (
    CANCEL_UNRESOLVED,
    CancelStatus,
    ExchangeGateway,
    ExchangeRejected,
    NotSent,
    OrderRequest,
    OrderStatus,
    OutcomeUnknown,
    QueryFailed,
)
from execution.models import Account, ExecutionIntent, Order, OrderCancel
from execution.rules import lists
from execution.selectors import protection
from execution.services.answering import record_answer
from execution.services.applying import apply_report
from execution.services.reconciling import request_reconciliation
from tradingbot.core.clock import from_milliseconds, to_milliseconds
from tradingbot.core.clock import now as clock_now
from tradingbot.core.transitions import StaleState, transition

SILENCE = timedelta(seconds=settings.EXCHANGE_TIMEOUT_SECONDS + 5)
INTENT_SETTLE = timedelta(seconds=2)
# A cancel that was refused while the order stays open is tried again, ever later.
RETRY_SECONDS = (0, 2, 5, 15, 30, 60)


def cancel_intent(
    *, intent: ExecutionIntent, exchange: ExchangeGateway, why: str, actor: str, now: datetime
) -> bool:
    """Cancel whatever is open of an intent; True when by the exchange's own word all of it has ended.

    False: not yet, or not known; ask again later. One cancel is under way at a time.
    """
    if _all_ended(intent):
        return True
    if any(o.status != OrderStatus.CONFIRMED for o in _open_orders(intent)):
        return False  # its fate is being found out; there is nothing certain to cancel
    cancel = _create(intent, why, actor, now)
    if cancel is None:
        return False
    _send(cancel, exchange, now)
    return _all_ended(intent)


def _open_orders(intent: ExecutionIntent) -> list[Order]:
    return [order for order in selectors.orders_of(intent) if not protection.has_ended(order)]


def _all_ended(intent: ExecutionIntent) -> bool:
    return not _open_orders(intent)


def _create(intent: ExecutionIntent, why: str, actor: str, now: datetime) -> OrderCancel | None:
    """The row of a new cancel, committed before it is sent; None while one is under way or it is too soon."""
    earlier = list(OrderCancel.objects.filter(intent=intent).order_by("created_at", "pk"))
    if any(cancel.status in CANCEL_UNRESOLVED for cancel in earlier):
        return None
    wait = RETRY_SECONDS[min(len(earlier), len(RETRY_SECONDS) - 1)]
    if earlier and now - earlier[-1].created_at < timedelta(seconds=wait):
        return None
    offset_ms = (
        Account.objects.filter(environment=selectors.ENVIRONMENT)
        .values_list("clock_offset_ms", flat=True)
        .first()
    )
    try:
        with transaction.atomic():
            return OrderCancel.objects.create(
                environment=intent.environment,
                intent=intent,
                client_order_id=lists.attempt_id(intent.client_order_id[:33], "x", len(earlier) + 1),
                why=why,
                actor=actor,
                timestamp_ms=to_milliseconds(now) + (offset_ms or 0),
                recv_window_ms=settings.RECV_WINDOW_MS,
                created_at=now,
            )
    except IntegrityError:
        return None  # another worker was faster


def request_of(cancel: OrderCancel) -> OrderRequest:
    """What is sent: the whole list where there is one (a leg alone cannot be cancelled), else the order."""
    intent = cancel.intent
    named = (
        {"listClientOrderId": intent.list_client_order_id}
        if intent.list_client_order_id
        else {"origClientOrderId": intent.client_order_id}
    )
    return OrderRequest(
        symbol=intent.symbol,
        client_order_id=cancel.client_order_id,
        parameters={"symbol": intent.symbol, **named, "newClientOrderId": cancel.client_order_id},
        timestamp_ms=cancel.timestamp_ms,
        recv_window_ms=cancel.recv_window_ms,
        endpoint="orderList" if intent.list_client_order_id else "order",
    )


def _send(cancel: OrderCancel, exchange: ExchangeGateway, now: datetime) -> None:
    try:
        with transaction.atomic():
            transition(cancel, to=CancelStatus.SENT, actor=cancel.actor, now=now, sent_at=now)
    except StaleState:
        return
    try:
        answer = exchange.cancel(request_of(cancel))
    except NotSent as error:
        _end(cancel, CancelStatus.REFUSED, str(error), clock_now())
        return
    except ExchangeRejected as error:
        # It may just have been filled: read before anything is concluded, and before anything is sold.
        read_orders(intent=cancel.intent, exchange=exchange, now=clock_now())
        request_reconciliation(trigger=f"cancel refused {error.code}", now=clock_now())
        _end(cancel, CancelStatus.REFUSED, str(error), clock_now())
        return
    except OutcomeUnknown as error:
        _end(cancel, CancelStatus.UNKNOWN, str(error), clock_now())
        request_reconciliation(trigger="cancel unknown", now=clock_now())
        return
    record_answer(subject=f"{OrderCancel.TOPIC}:{cancel.pk}", answer=answer, now=clock_now())
    for report in answer.reports:
        apply_report(report=report, now=clock_now())
    _end(cancel, CancelStatus.DONE, "", clock_now())
    if protection.unbooked_orders(cancel.intent.symbol, clock_now()):
        request_reconciliation(trigger="cancelled part filled", now=clock_now())


def _end(cancel: OrderCancel, status: CancelStatus, reason: str, now: datetime) -> None:
    closed_at = None if status is CancelStatus.UNKNOWN else now
    try:
        with transaction.atomic():
            transition(cancel, to=status, actor="execution", now=now, reason=reason, closed_at=closed_at)
    except StaleState:
        cancel.refresh_from_db()


def read_orders(*, intent: ExecutionIntent, exchange: ExchangeGateway, now: datetime) -> bool:
    """Ask for every order of an intent that is not at its end; whether all were answered for."""
    complete = True
    for order in _open_orders(intent):
        try:
            report = exchange.find_order(symbol=order.symbol, client_order_id=order.client_order_id)
        except QueryFailed:
            complete = False
            continue
        if report is None:
            complete = False  # a lag of the exchange, or worse; never the end of an order
        else:
            apply_report(report=report, now=now)
    return complete


def resolve_cancels(*, exchange: ExchangeGateway, now: datetime) -> int:
    """Bring cancels without an end to one: never sent, or answered by what became of the orders; how many."""
    waiting = OrderCancel.objects.filter(
        environment=selectors.ENVIRONMENT, status__in=sorted(CANCEL_UNRESOLVED)
    ).select_related("intent")
    return sum(_resolve(cancel, exchange, now) for cancel in waiting.order_by("created_at", "pk")[:20])


def _resolve(cancel: OrderCancel, exchange: ExchangeGateway, now: datetime) -> bool:
    window = timedelta(milliseconds=cancel.recv_window_ms)
    if cancel.status == CancelStatus.INTENT:
        if now - cancel.created_at < window + INTENT_SETTLE:
            return False
        _end(cancel, CancelStatus.ABORTED, "the worker stopped before sending", now)
        return True
    if cancel.status == CancelStatus.SENT:
        if cancel.sent_at is None or now - cancel.sent_at < SILENCE:
            return False
        _end(cancel, CancelStatus.UNKNOWN, "the worker that sent it was lost before an answer", now)
        return True
    complete = read_orders(intent=cancel.intent, exchange=exchange, now=now)
    if _all_ended(cancel.intent):
        _end(cancel, CancelStatus.DONE, "its orders have ended", now)
        return True
    instant = from_milliseconds(
        rules.conclusive_instant_ms(timestamp_ms=cancel.timestamp_ms, recv_window_ms=cancel.recv_window_ms)
    )
    if complete and now > instant:
        _end(cancel, CancelStatus.REFUSED, "its orders are open after its window: it was not executed", now)
        return True
    return False
