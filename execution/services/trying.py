"""`order/test` before the first order of a symbol: the exchange judges signature and filters, nothing is placed."""

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from execution.contracts import ExchangeGateway, ExchangeRejected, NotSent, OrderStatus, QueryFailed
from execution.models import ExecutionIntent, Order, OrderTest, current_ledger
from tradingbot.core import audit
from tradingbot.core.alerts import raise_alert
from tradingbot.core.decimals import ZERO, plain
from tradingbot.core.transitions import StaleState, transition


def try_first(*, order_id: UUID, exchange: ExchangeGateway, now: datetime) -> None:
    """Let the exchange test the first order of a symbol (setting `ORDER_TEST_FIRST`), and record its answer.

    Until one has passed in this environment, an order that is refused, or on which no answer came, is aborted:
    nothing was sent. An order list is tested by the plain order that it begins with.
    """
    if not settings.ORDER_TEST_FIRST:
        return
    order = Order.objects.select_related("intent").get(pk=order_id)
    known = {"environment": order.environment, "ledger": current_ledger(), "symbol": order.symbol}
    if order.status != OrderStatus.INTENT or OrderTest.objects.filter(**known, passed=True).exists():
        return
    detail = _refusal(exchange, order.intent)
    with transaction.atomic():
        OrderTest.objects.create(**known, order=order, passed=not detail, detail=detail[:300], at=now)
        audit.record(
            action="order.tested",
            subject=f"order:{order.pk}",
            actor="execution",
            now=now,
            passed=not detail,
            detail=detail,
        )
        if detail:
            _abort(order, f"order/test: {detail}", now)


def _refusal(exchange: ExchangeGateway, intent: ExecutionIntent) -> str:
    """Why the order may not be sent; empty when the test passed."""
    parameters = {
        "symbol": intent.symbol,
        "side": intent.side,
        "type": intent.order_type,
        "quantity": plain(intent.quantity),
    }
    if intent.price is not None and intent.order_type == "LIMIT":
        parameters |= {"timeInForce": intent.time_in_force, "price": plain(intent.price)}
    try:
        exchange.test_order(parameters=parameters)
    except (ExchangeRejected, QueryFailed, NotSent) as error:
        return str(error)
    return ""


def _abort(order: Order, reason: str, now: datetime) -> None:
    for leg in Order.objects.filter(intent=order.intent, status=OrderStatus.INTENT):
        try:
            with transaction.atomic():
                transition(
                    leg,
                    to=OrderStatus.ABORTED,
                    actor="execution",
                    now=now,
                    reason=reason,
                    reserved_quote=ZERO,
                    reserved_base=ZERO,
                    closed_at=now,
                )
        except StaleState:
            continue
    raise_alert(
        kind="order_aborted",
        severity="high",
        subject=f"order:{order.pk}",
        title=f"{order.side} {order.symbol} was approved and not sent",
        detail=reason,
        now=now,
    )
