"""An operator puts what is left of a resting entry at another price: cancel, then place, each sent once.

Not `order/cancelReplace`: it knows no order lists, and an entry takes its stop and target with it. The halves
are a cancel and an intent of their own, so that each has its row, its deterministic id and its saga. The second
is committed only when by the exchange's own record the first order has ended and every trade of it is booked
(what `STOP_ON_FAILURE` would do), and the gate judges it anew under the account's lock.
"""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from execution import rules, selectors
from execution.contracts import (
    AnswerRefused,
    ExchangeGateway,
    ExchangeStatus,
    IntentKind,
    OrderStatus,
    Plan,
    RequestKind,
)
from execution.models import Account, ExecutionIntent, OperatorRequest, Order, OrderCancel
from execution.rules import lists, replacing
from execution.selectors import protection
from execution.services.cancelling import cancel_intent
from execution.services.claiming import create_intent, create_orders, plan_order, refusal_of_exchange
from execution.services.operating import (
    GIVES_UP_AFTER,
    check_armed,
    check_may,
    lock_order,
    order_of,
    placed_for,
    wait_or_give_up,
)
from execution.services.requesting import checked_reason, finish, open_request
from execution.services.sending import send_order
from execution.services.watching import watch_position
from proposals import selectors as proposals
from proposals.contracts import QuantisedOrder
from risk import selectors as risk
from risk import services as risk_services
from risk.contracts import LimitsMissing, NotAuthorised, Portfolio
from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.clock import now as clock_now
from tradingbot.core.clock import to_milliseconds
from tradingbot.core.decimals import ZERO, plain
from tradingbot.core.permissions import Deed

WHY = "replace"


def ask_replace(
    *, order_id: UUID, version: int, price: Decimal, reason: str, actor: str, now: datetime
) -> OperatorRequest:
    """Ask for what is left of a resting entry to be put at `price`.

    Raises AnswerRefused: NOT_PERMITTED, NO_REASON, NOT_ARMED, STALE_PAGE, NOT_REPLACEABLE, NOT_AT_THAT_PRICE,
    REFUSED_BY_GATE, ALREADY_ASKED.
    """
    check_may(actor, Deed.REPLACE)
    reason = checked_reason(reason)
    check_armed(now, leaving=False)
    with transaction.atomic():
        order = lock_order(order_id)
        if order.version != version:
            raise AnswerRefused(
                "STALE_PAGE", "Nothing was done: the order moved on. Look again, then decide."
            )
        if not protection.is_replaceable(order):
            raise AnswerRefused(
                "NOT_REPLACEABLE",
                "Nothing was done: only an entry at a limit that rests on the exchange, and that one person "
                "or the rules alone approved, can be replaced.",
            )
        _check_beforehand(order, price, now)
        return open_request(
            kind=RequestKind.REPLACE_OWN,
            subject=order,
            seen_version=version,
            reason=reason,
            actor=actor,
            now=now,
            price=price,
        )


def replace_own(request: OperatorRequest, exchange: ExchangeGateway, now: datetime) -> None:
    """Cancel the entry, then place what is left of it, once; a request is never placed for twice."""
    order = order_of(request)
    placed = placed_for(request)
    if placed is not None:
        _finish(request, placed)
        return
    if not protection.has_ended(order):
        check_armed(now, leaving=False)
        _check_beforehand(order, _price_of(request), now)
    if not cancel_intent(intent=order.intent, exchange=exchange, why=WHY, actor=request.actor, now=now):
        wait_or_give_up(request, "Whether it was cancelled is not known; nothing was placed.", now)
        return
    watch_position(symbol=order.symbol, now=clock_now())
    if protection.unbooked_orders(order.symbol, now):
        wait_or_give_up(request, "It was cancelled; its trades are still to be booked.", now)
        return
    replacement = _commit(request, now)
    send_order(order_id=replacement.pk, now=now)
    replacement.refresh_from_db()
    _finish(request, replacement)


def _finish(request: OperatorRequest, placed: Order) -> None:
    succeeded = placed.status == OrderStatus.CONFIRMED
    words = f"{plain(placed.quantity)} at {plain(placed.price or ZERO)}"
    outcome = "it stands on the exchange" if succeeded else placed.reason or "its fate is being found out"
    finish(
        request,
        succeeded=succeeded,
        detail=f"Cancelled; replaced by {placed.client_order_id}, {words}: {placed.status}, {outcome}.",
        now=clock_now(),
    )


# --- the new order --------------------------------------------------------------------------------------


def _commit(request: OperatorRequest, now: datetime) -> Order:
    """Commit the new intent with its reservation under the account's lock, judged by the gate."""
    order = order_of(request)
    proposal = order.intent.proposal
    with transaction.atomic():
        account = Account.objects.select_for_update().get(environment=selectors.ENVIRONMENT)
        order.refresh_from_db()
        _check_ended_by_us(request, order, now)
        wanted = _rest(order, _price_of(request))
        earlier = ExecutionIntent.objects.filter(proposal=proposal, kind=IntentKind.REPLACE).count()
        base = lists.attempt_id(rules.client_order_id(selectors.ENVIRONMENT, proposal.pk), "r", earlier + 1)
        plan = plan_order(wanted, base)
        books = selectors.portfolio(now=now, excluding=proposal.pk)
        refusal = _refusal_of_gate(order, wanted, books, now) or refusal_of_exchange(wanted, plan, now)
        if not refusal:
            placed = _create(request, account, wanted, plan, now)
    if refusal:  # after the commit, so that the gate's word is on record
        raise AnswerRefused("REFUSED_BY_GATE", f"Cancelled, and not replaced: {refusal}.")
    return placed


def _create(
    request: OperatorRequest, account: Account, wanted: QuantisedOrder, plan: Plan, now: datetime
) -> Order:
    replaced, control = order_of(request), risk.control()
    intent = create_intent(
        kind=IntentKind.REPLACE,
        proposal=replaced.intent.proposal,
        plan=plan,
        side=wanted.side,
        time_in_force=wanted.time_in_force or "",
        stop_price=wanted.stop_price,
        target_price=wanted.target_price,
        control_version=control.version if control else 0,
        timestamp_ms=to_milliseconds(now) + (account.clock_offset_ms or 0),
        recv_window_ms=settings.RECV_WINDOW_MS,
        now=now,
        operator_request=request,
    )
    placed = create_orders(intent, plan, worst_cost=wanted.notional_quote + wanted.fee_quote)[0]
    audit.record(
        action="order.intent",
        subject=f"order:{placed.pk}",
        actor=request.actor,
        now=now,
        replaces=str(replaced.pk),
        client_order_id=intent.client_order_id,
        request_digest=intent.request_digest,
        operator_request=request.pk,
    )
    announce(Order.TOPIC, placed.pk, event="intent")
    return placed


def _check_ended_by_us(request: OperatorRequest, order: Order, now: datetime) -> None:
    """What ended otherwise is not opened again, and nothing is placed for a wish of long ago."""
    cancelled_by_us = OrderCancel.objects.filter(
        intent=order.intent, why=WHY, created_at__gte=request.asked_at
    ).exists()
    if order.exchange_status != ExchangeStatus.CANCELED or not cancelled_by_us:
        raise AnswerRefused(
            "ENDED_OTHERWISE",
            f"Not replaced: it has ended as {order.exchange_status}, executed {plain(order.executed_quantity)}.",
        )
    if now - request.asked_at >= GIVES_UP_AFTER:
        raise AnswerRefused("TOO_LATE", "Cancelled, and not replaced: it took too long to be certain.")
    if any(not protection.has_ended(entry) for entry in protection.entries_of(order)):
        raise AnswerRefused("STILL_OPEN", "Not replaced: another order of the same approval is open.")


def _rest(order: Order, price: Decimal) -> QuantisedOrder:
    """What is left of the approval at `price`, whatever orders it was spent by."""
    filters = selectors.filters_of(order.symbol)
    if filters is None:
        raise AnswerRefused("NO_FILTERS", f"Not replaced: the filters of {order.symbol} are not known.")
    approved = proposals.order_of(order.intent.proposal)
    problem = replacing.why_not_at(approved, price, _drift_max_pct(), filters.price_tick)
    if problem:
        raise AnswerRefused("NOT_AT_THAT_PRICE", f"Not replaced: {problem}.")
    done = Order.objects.filter(pk__in=[entry.pk for entry in protection.entries_of(order)]).aggregate(
        executed=Sum("executed_quantity"), spent=Sum("cumulative_quote")
    )
    rest = replacing.rest_at(
        approved, price, executed=done["executed"], spent_quote=done["spent"], filters=filters
    )
    if rest is None:
        raise AnswerRefused("NOTHING_LEFT", "Not replaced: nothing is left of what was approved.")
    return rest


def _drift_max_pct() -> Decimal:
    try:
        return risk.current_limits().price_drift_max_pct
    except LimitsMissing:
        raise AnswerRefused("NO_LIMITS", "Not replaced: no limits are on record.") from None


def _refusal_of_gate(order: Order, wanted: QuantisedOrder, books: Portfolio, now: datetime) -> str:
    try:
        risk_services.authorise_order(
            proposal=order.intent.proposal, order=wanted, portfolio=books, now=now, replaces=True
        )
    except NotAuthorised as error:
        return str(error)
    return ""


def _check_beforehand(order: Order, price: Decimal, now: datetime) -> None:
    """Refuse before the cancel what the gate would refuse after it; nothing is left behind."""
    wanted = _rest(order, price)
    books = selectors.portfolio(now=now, excluding=order.intent.proposal_id)
    with transaction.atomic():
        refusal = _refusal_of_gate(order, wanted, _without(books, order), now)
        transaction.set_rollback(True)
    if refusal:
        raise AnswerRefused("REFUSED_BY_GATE", f"Nothing was done: {refusal}.")


def _without(books: Portfolio, order: Order) -> Portfolio:
    """The account as it will be when the order is cancelled."""
    symbol, locked = order.symbol, (order.quantity - order.executed_quantity) * (order.price or ZERO)
    legs = [leg for leg in selectors.orders_of(order.intent) if not protection.has_ended(leg)]
    count = books.open_order_count_by_symbol.get(symbol, 0)
    reserved = books.reserved_quote.get(symbol, ZERO) - order.reserved_quote
    return replace(
        books,
        free_quote=None if books.free_quote is None else books.free_quote + locked,
        reserved_quote=books.reserved_quote | {symbol: max(ZERO, reserved)},
        open_order_count=max(0, books.open_order_count - 1),
        open_order_count_by_symbol=books.open_order_count_by_symbol | {symbol: max(0, count - len(legs))},
    )


def _price_of(request: OperatorRequest) -> Decimal:
    if request.price is None:
        raise RuntimeError(f"operator request {request.pk} names no price")
    return request.price
