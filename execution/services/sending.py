"""Send once: the request leaves between two transactions, and whatever comes back is recorded as it is."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from execution import rules, selectors
from execution.contracts import (
    ENTRY_KINDS,
    Answer,
    ExchangeGateway,
    ExchangeRejected,
    LifecycleKind,
    NotSent,
    OrderRequest,
    OrderStatus,
    OutcomeUnknown,
    Source,
)
from execution.models import Order, OrderLifecycleEvent
from execution.services.answering import record_answer
from execution.services.applying import apply_report
from execution.services.claiming import abort_intent, request_digest
from execution.services.reconciling import request_reconciliation
from risk import services as risk
from tradingbot.core.alerts import raise_alert
from tradingbot.core.announce import announce
from tradingbot.core.audit import canonical_json, sha256_hex
from tradingbot.core.clock import now as clock_now
from tradingbot.core.decimals import ZERO
from tradingbot.core.transitions import StaleState, transition

logger = logging.getLogger(__name__)
# A worker waits at most the exchange time-out; whoever is silent for longer has died or sleeps.
FILTER_REFUSED = -1013
SILENCE = timedelta(seconds=settings.EXCHANGE_TIMEOUT_SECONDS + 5)
FIRST_PROBE = timedelta(seconds=rules.PROBE_DELAYS_SECONDS[0])


def gateway() -> ExchangeGateway:
    """The exchange named in the settings."""
    found: ExchangeGateway = import_string(settings.EXCHANGE_GATEWAY)()
    return found


def send_order(*, order_id: UUID, now: datetime) -> OrderStatus:
    """Send the request of an intent, at most once whoever calls and however often; the status it came to.

    `order_id` is its first order. The step intent -> submitted_to_exchange of that order is the latch: only
    the caller that makes it sends, for an order list all its legs in one request. Callers that come late get
    the status they find.
    """
    order = Order.objects.select_related("intent").get(pk=order_id)
    if order.status != OrderStatus.INTENT:
        return OrderStatus(order.status)
    orders = selectors.orders_of(order.intent)
    request = request_of(order)
    try:
        if request_digest(request.endpoint, request.parameters) != order.intent.request_digest:
            return _refuse_changed(orders, now)
        if not _begin(orders, request, now):
            return OrderStatus.ABORTED
    except StaleState:
        order.refresh_from_db()
        return OrderStatus(order.status)
    return _send(orders, request)


def request_of(order: Order) -> OrderRequest:
    """What is sent for an order, or for the list that it leads: its committed intent to the letter."""
    intent = order.intent
    return OrderRequest(
        symbol=intent.symbol,
        client_order_id=intent.client_order_id,
        parameters=intent.parameters,
        timestamp_ms=intent.timestamp_ms,
        recv_window_ms=intent.recv_window_ms,
        endpoint=intent.endpoint,
    )


def _refuse_changed(orders: list[Order], now: datetime) -> OrderStatus:
    with transaction.atomic():
        abort_intent(orders, "the request differs from the one that was committed; it is not sent", now)
    return OrderStatus.ABORTED


def _begin(orders: list[Order], request: OrderRequest, now: datetime) -> bool:
    """Make the step that sends; or abort, False, when the switch was moved since the claim."""
    canonical = canonical_json(
        {**request.parameters, "timestamp": request.timestamp_ms, "recvWindow": request.recv_window_ms}
    )
    with transaction.atomic():
        forbidden = _forbidden_by_switch(orders[0])
        if forbidden:
            abort_intent(orders, forbidden, now)
            return False
        for order in orders:
            transition(
                order,
                to=OrderStatus.SUBMITTED,
                actor="execution",
                now=now,
                payload={"request_sha256": sha256_hex(canonical)},
                sent_at=now,
                request_sha256=sha256_hex(canonical),
            )
            _record_local(order, LifecycleKind.SUBMITTED, "sent once", now)
    return True


def _forbidden_by_switch(order: Order) -> str:
    """Protection and closing leave whatever the switch says; the order of a proposal only as it was claimed."""
    intent = order.intent
    if intent.kind not in ENTRY_KINDS:
        return ""
    return risk.forbids_sending(claimed_under=intent.control_version, leaving=intent.side == "SELL")


def _send(orders: list[Order], request: OrderRequest) -> OrderStatus:
    first = orders[0]
    try:
        answer = gateway().place_order(request)
    except NotSent as error:
        return _record_refusal(orders, OrderStatus.NOT_PLACED, str(error), clock_now())
    except ExchangeRejected as error:
        status = _record_refusal(orders, OrderStatus.REJECTED, str(error), clock_now())
        if error.code in {-2010, -2011, FILTER_REFUSED}:
            request_reconciliation(trigger=f"refused {error.code}", now=clock_now())
        if error.code == FILTER_REFUSED:
            announce("filter_refused", first.symbol)  # our copy of the filters may be old
        return status
    except OutcomeUnknown as error:
        for order in orders:
            mark_unknown(order=order, reason=str(error), now=clock_now(), led=order is not first)
        return OrderStatus.UNKNOWN
    return _record_answer(orders, answer)


def _record_answer(orders: list[Order], answer: Answer) -> OrderStatus:
    """Fold the report of each order, each in a transaction of its own, as the stream's would be.

    An order that the answer left out stays submitted and is asked about like one whose worker died.
    """
    first = orders[0]
    with transaction.atomic():
        told = Order.objects.filter(pk__in=[order.pk for order in orders])
        told.update(response_sha256=answer.response_sha256)
        record_answer(subject=f"{Order.TOPIC}:{first.pk}", answer=answer, now=clock_now())
    for report in answer.reports:
        apply_report(report=report, now=clock_now())
    first.refresh_from_db()
    return OrderStatus(first.status)


def _record_refusal(orders: list[Order], status: OrderStatus, reason: str, now: datetime) -> OrderStatus:
    """A definite end of the whole request: the reservations are released.

    An order that the stream confirmed meanwhile stays: positive evidence beats an answer.
    """
    first = orders[0]
    for order in orders:
        try:
            with transaction.atomic():
                _end_refused(order, status, reason, now)
                if order is first:
                    _alert_refused(order, status, reason, now)
        except StaleState:
            logger.warning(
                "refusal for an order that moved on", extra={"order": str(order.pk), "reason": reason}
            )
            order.refresh_from_db()
    return OrderStatus(first.status)


def _end_refused(order: Order, status: OrderStatus, reason: str, now: datetime) -> None:
    transition(
        order,
        to=status,
        actor="exchange" if status is OrderStatus.REJECTED else "execution",
        now=now,
        reason=reason,
        reserved_quote=ZERO,
        reserved_base=ZERO,
        closed_at=now,
    )
    if status is OrderStatus.REJECTED:
        _record_local(order, LifecycleKind.REJECTED, reason, now)


def _alert_refused(order: Order, status: OrderStatus, reason: str, now: datetime) -> None:
    raise_alert(
        kind=f"order_{status.value}",
        severity="high",
        subject=f"order:{order.pk}",
        title=f"{order.side} {order.symbol} was not placed",
        detail=reason,
        now=now,
    )


def mark_unknown(*, order: Order, reason: str, now: datetime, led: bool = False) -> None:
    """Whether the exchange has the order is not known: say so, alarm, and let the saga ask.

    `led`: a leg whose list's first order is alarmed already.
    """
    try:
        with transaction.atomic():
            transition(
                order,
                to=OrderStatus.UNKNOWN,
                actor="execution",
                now=now,
                reason=reason,
                unknown_since=now,
                next_probe_at=now + FIRST_PROBE,
            )
            _record_local(order, LifecycleKind.UNKNOWN, reason, now)
            if led:
                return
            raise_alert(
                kind="execution_unknown",
                severity="critical",
                subject=f"order:{order.pk}",
                title=f"Outcome unknown: {order.side} {order.symbol}",
                detail=f"{reason}. It is not sent again; the exchange is being asked.",
                now=now,
            )
            request_reconciliation(trigger="unknown", now=now)
    except StaleState:
        order.refresh_from_db()


def mark_silent_sends_unknown(*, now: datetime) -> int:
    """Orders submitted longer ago than any worker waits for an answer: their worker died in between."""
    silent = Order.objects.filter(
        environment=selectors.ENVIRONMENT, status=OrderStatus.SUBMITTED, sent_at__lt=now - SILENCE
    )
    count = 0
    for order in silent[:100]:
        mark_unknown(order=order, reason="the worker that sent it was lost before an answer", now=now)
        count += order.status == OrderStatus.UNKNOWN
    return count


def _record_local(order: Order, kind: LifecycleKind, detail: str, now: datetime) -> None:
    OrderLifecycleEvent.objects.get_or_create(
        environment=order.environment,
        symbol=order.symbol,
        event_key=f"{order.client_order_id}:{kind.value}",
        defaults={
            "order": order,
            "client_order_id": order.client_order_id,
            "exchange_order_id": order.exchange_order_id,
            "kind": kind,
            "source": Source.LOCAL,
            "detail": detail[:300],
            "at": now,
            "recorded_at": now,
        },
    )
