"""An operator cancels an order of ours or closes a position: asked for by a page, done by a trading worker.

Both go the way of everything else: a cancel has a row of its own and is sent once; what it came to is read
from the orders; a sale is an intent that is sent once. While a request waits for certainty it is taken up
again by the next sweep, for a time; then it is given up, and what is held is protected again.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from execution import selectors
from execution.contracts import (
    PROTECTIVE_ROLES,
    AnswerRefused,
    ExchangeGateway,
    IntentKind,
    OrderStatus,
    RequestKind,
)
from execution.models import Account, ExecutionIntent, OperatorRequest, Order, Position
from execution.rules import client_order_id, lists
from execution.selectors import protection
from execution.services.cancelling import cancel_intent, read_orders
from execution.services.claiming import create_intent, create_orders
from execution.services.protecting import see_balances
from execution.services.requesting import checked_reason, finish, open_request
from execution.services.sending import send_order
from execution.services.watching import watch_position
from risk import selectors as risk
from tradingbot.core import audit
from tradingbot.core.clock import now as clock_now
from tradingbot.core.clock import to_milliseconds
from tradingbot.core.decimals import floor_to_step, plain
from tradingbot.core.permissions import Deed, may

GIVES_UP_AFTER = timedelta(seconds=120)


def ask_cancel(*, order_id: UUID, version: int, reason: str, actor: str, now: datetime) -> OperatorRequest:
    """Ask for the cancel of an open order of ours; of a list, of all of it.

    Raises AnswerRefused: NOT_PERMITTED, NO_REASON, STALE_PAGE, NOT_OPEN, PROTECTS, ALREADY_ASKED.
    """
    check_may(actor, Deed.OPERATE)
    reason = checked_reason(reason)
    with transaction.atomic():
        order = lock_order(order_id)
        if order.version != version:
            raise AnswerRefused(
                "STALE_PAGE", "Nothing was done: the order moved on. Look again, then decide."
            )
        if order.role in PROTECTIVE_ROLES and _protects(order):
            raise AnswerRefused(
                "PROTECTS",
                "Nothing was done: it protects what is held and would be placed again. Close the position instead.",
            )
        if order.status != OrderStatus.CONFIRMED or protection.has_ended(order):
            raise AnswerRefused("NOT_OPEN", "Nothing was done: the order is not open on the exchange.")
        return open_request(
            kind=RequestKind.CANCEL_OWN,
            subject=order,
            seen_version=version,
            reason=reason,
            actor=actor,
            now=now,
        )


def ask_close(*, symbol: str, quantity: Decimal, reason: str, actor: str, now: datetime) -> OperatorRequest:
    """Ask to sell all of a position at market; `quantity` is what the page showed as held.

    The request hangs on the order that bought last. Raises AnswerRefused: NOT_PERMITTED, NO_REASON, NOT_ARMED,
    STALE_PAGE, NOTHING_HELD, TOO_SMALL, ALREADY_ASKED.
    """
    check_may(actor, Deed.OPERATE)
    reason = checked_reason(reason)
    check_armed(now)
    with transaction.atomic():
        position = Position.objects.filter(environment=selectors.ENVIRONMENT, symbol=symbol).first()
        entry = protection.latest_entry(symbol)
        if position is None or entry is None or position.quantity <= 0:
            raise AnswerRefused("NOTHING_HELD", f"Nothing was done: nothing of {symbol} is held.")
        if position.quantity != quantity:
            raise AnswerRefused(
                "STALE_PAGE",
                f"Nothing was done: {plain(position.quantity)} is held now, not {plain(quantity)}. Look again.",
            )
        if _sellable(position) <= 0:
            raise AnswerRefused("TOO_SMALL", "Nothing was done: it is too little for the exchange to sell.")
        order = lock_order(selectors.orders_of(entry)[0].pk)
        return open_request(
            kind=RequestKind.CLOSE_POSITION,
            subject=order,
            seen_version=order.version,
            reason=reason,
            actor=actor,
            now=now,
        )


# --- carried out by a trading worker --------------------------------------------------------------------


def cancel_own(request: OperatorRequest, exchange: ExchangeGateway, now: datetime) -> None:
    """Cancel the order's request on the exchange; done when by the exchange's own word it has ended."""
    order = order_of(request)
    ended = cancel_intent(
        intent=order.intent, exchange=exchange, why="operator", actor=request.actor, now=now
    )
    if not ended:
        wait_or_give_up(request, "Whether it was cancelled is not known; the next comparison shows.", now)
        return
    order.refresh_from_db()
    finish(
        request,
        succeeded=True,
        detail=f"It has ended: {order.exchange_status}, executed {plain(order.executed_quantity)}.",
        now=clock_now(),
    )
    watch_position(symbol=order.symbol, now=clock_now())


def close_position(request: OperatorRequest, exchange: ExchangeGateway, now: datetime) -> None:
    """Cancel what protects the coins, then sell what is held, once; a request is never sold for twice."""
    order = order_of(request)
    symbol = order.symbol
    sold = placed_for(request)
    if sold is not None:
        _finish_close(request, sold)
        return
    check_armed(now)
    if not _is_free(symbol, request, exchange, now):
        wait_or_give_up(request, "Its protection could not be cancelled for certain; nothing was sold.", now)
        return
    sale = _create_close(request, now)
    send_order(order_id=sale.pk, now=now)
    sale.refresh_from_db()
    watch_position(symbol=symbol, now=clock_now())
    _finish_close(request, sale)


def _is_free(symbol: str, request: OperatorRequest, exchange: ExchangeGateway, now: datetime) -> bool:
    """Whether nothing of ours holds the coins any more and every trade is booked."""
    for guard in protection.guards(symbol):
        if not guard.holds_coins:
            continue
        if guard.wants_reading:
            read_orders(intent=guard.intent, exchange=exchange, now=now)
        cancel_intent(intent=guard.intent, exchange=exchange, why="close", actor=request.actor, now=now)
    watch_position(symbol=symbol, now=clock_now())
    if any(guard.holds_coins for guard in protection.guards(symbol)):
        return False
    if protection.unbooked_orders(symbol, now) or protection.exits_under_way(symbol):
        return False
    position = Position.objects.get(environment=selectors.ENVIRONMENT, symbol=symbol)
    return see_balances(symbol=symbol, quantity=_sellable(position), exchange=exchange, now=now)


def _create_close(request: OperatorRequest, now: datetime) -> Order:
    """Commit the sale under the account's lock, after everything was looked at again."""
    order = order_of(request)
    symbol = order.symbol
    with transaction.atomic():
        account = Account.objects.select_for_update().get(environment=selectors.ENVIRONMENT)
        position = Position.objects.get(environment=selectors.ENVIRONMENT, symbol=symbol)
        quantity = _sellable(position)
        problem = protection.why_not_sellable(symbol, quantity, now)
        if quantity <= 0 or problem:
            raise AnswerRefused("NOTHING_HELD", f"Nothing was sold: {problem or 'nothing is held any more'}.")
        if any(guard.holds_coins for guard in protection.guards(symbol)):
            raise AnswerRefused("PROTECTED", "Nothing was sold: it was protected again meanwhile. Ask again.")
        proposal = order.intent.proposal
        earlier = ExecutionIntent.objects.filter(proposal=proposal, kind=IntentKind.CLOSE).count()
        base = lists.attempt_id(client_order_id(selectors.ENVIRONMENT, proposal.pk), "c", earlier + 1)
        plan = lists.plan_close(base_id=base, symbol=symbol, quantity=quantity)
        intent = create_intent(
            kind=IntentKind.CLOSE,
            proposal=proposal,
            plan=plan,
            side="SELL",
            time_in_force="",
            stop_price=None,
            target_price=None,
            control_version=0,
            timestamp_ms=to_milliseconds(now) + (account.clock_offset_ms or 0),
            recv_window_ms=settings.RECV_WINDOW_MS,
            now=now,
            operator_request=request,
        )
        sale = create_orders(intent, plan)[0]
        audit.record(
            action="order.intent",
            subject=f"order:{sale.pk}",
            actor=request.actor,
            now=now,
            closes=symbol,
            client_order_id=intent.client_order_id,
            request_digest=intent.request_digest,
            operator_request=request.pk,
        )
    return sale


def _finish_close(request: OperatorRequest, sale: Order) -> None:
    filled = sale.status == OrderStatus.CONFIRMED
    words = f"{sale.exchange_status}, sold {plain(sale.executed_quantity)}" if filled else sale.reason
    finish(
        request,
        succeeded=filled,
        detail=f"Order {sale.client_order_id}: {sale.status}, {words}.",
        now=clock_now(),
    )


def wait_or_give_up(request: OperatorRequest, sentence: str, now: datetime) -> None:
    """Let the next sweep take the request up again, unless it has waited long enough."""
    if now - request.asked_at >= GIVES_UP_AFTER:
        finish(request, succeeded=False, detail=f"Given up: {sentence} Ask again.", now=now)
        return
    OperatorRequest.objects.filter(pk=request.pk, done_at=None).update(taken_at=None)


# --- checks ---------------------------------------------------------------------------------------------


def check_may(actor: str, deed: Deed) -> None:
    """Raise AnswerRefused unless the person may do it now."""
    user = get_user_model().objects.filter(username=actor, is_active=True).first()
    if user is None or not may(user, deed):
        raise AnswerRefused("NOT_PERMITTED", f"Nothing was done: your role may not {deed}.")


def check_armed(now: datetime, *, leaving: bool = True) -> None:
    """Raise AnswerRefused unless trading is armed; `leaving` for what only reduces."""
    armed, reasons = risk.trading_armed(now, leaving=leaving)
    if not armed:
        raise AnswerRefused("NOT_ARMED", f"Nothing was done: {'; '.join(reasons)}.")


def placed_for(request: OperatorRequest) -> Order | None:
    """What was placed for the request by a worker that was lost afterwards, if anything."""
    intent = ExecutionIntent.objects.filter(operator_request=request).first()
    return selectors.orders_of(intent)[0] if intent else None


def lock_order(order_id: UUID) -> Order:
    """An order of ours, locked."""
    return (
        Order.objects.select_for_update(of=("self",))
        .select_related("intent")
        .get(environment=selectors.ENVIRONMENT, pk=order_id)
    )


def order_of(request: OperatorRequest) -> Order:
    """The order that the request is about."""
    if request.order is None:
        raise RuntimeError(f"operator request {request.pk} is about no order")
    return request.order


def _protects(order: Order) -> bool:
    """Whether a leg guards coins now; one that waits for its entry goes with the entry."""
    return any(
        guard.holds_coins for guard in protection.guards(order.symbol) if guard.intent.pk == order.intent_id
    )


def _sellable(position: Position) -> Decimal:
    filters = protection.filters_of(position.symbol)
    if filters is None:
        raise AnswerRefused(
            "NO_FILTERS", f"Nothing was done: the filters of {position.symbol} are not known."
        )
    quantity = floor_to_step(position.quantity, max(filters.quantity_step, filters.market_quantity_step))
    least = max(filters.quantity_min, filters.market_quantity_min)
    return quantity if quantity >= least else Decimal(0)
