"""A person's answer about an order of unknown fate. The exchange is asked again before anything is believed.

Invariants 7, 8 and 9: a failed query changes nothing, "absent" counts only after the conclusive instant and
the grace, a fill is booked only from the exchange's own trades, and the exchange's record of the order beats
what the person says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from execution import selectors
from execution.contracts import (
    REVIEWABLE,
    AnswerRefused,
    ExchangeGateway,
    ExchangeStatus,
    FillReport,
    OrderReport,
    OrderStatus,
    RequestKind,
    Source,
)
from execution.models import Fill, OperatorRequest, Order
from execution.services.applying import apply_report, lock_books
from execution.services.posting import post_fills
from execution.services.requesting import checked_reason, finish, open_request, refuse_while_asked
from execution.services.saga import LOOK_BACK, conclude_absent, conclusive_instant
from tradingbot.core import audit
from tradingbot.core.alerts import resolve_alerts
from tradingbot.core.announce import announce
from tradingbot.core.decimals import ZERO, plain
from tradingbot.core.transitions import transition

TRADE_IDS_MAX = 100
WATCH = timedelta(seconds=settings.MANUAL_REVIEW_AFTER_SECONDS)


def absence_may_be_confirmed_at(order: Order) -> datetime:
    """The conclusive instant and the grace after it: from then on a person may say that it was never placed."""
    return conclusive_instant(order) + timedelta(seconds=settings.RECONCILE_GRACE_SECONDS)


def ask_review(
    *,
    order_id: UUID,
    version: int,
    answer: RequestKind,
    reason: str,
    actor: str,
    now: datetime,
    trade_ids: Sequence[int] = (),
) -> OperatorRequest:
    """Take a person's answer, confirmed filled or absent; a trading worker checks it with the exchange.

    Raises AnswerRefused: NO_REASON, NO_TRADES, TOO_EARLY, ALREADY_DECIDED, ALREADY_ASKED, STALE_PAGE.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        order = _locked(order_id)
        _check_page(order, version)
        if answer == RequestKind.CONFIRM_FILLED and not 0 < len(set(trade_ids)) <= TRADE_IDS_MAX:
            raise AnswerRefused(
                "NO_TRADES", f"Nothing was done: give the exchange's trade ids, 1 to {TRADE_IDS_MAX} of them."
            )
        if answer == RequestKind.CONFIRM_ABSENT:
            _check_absence_is_due(order, now)
        return open_request(
            kind=answer,
            subject=order,
            seen_version=version,
            reason=reason,
            actor=actor,
            now=now,
            trade_ids=sorted(set(trade_ids)),
        )


def keep_watching(*, order_id: UUID, version: int, reason: str, actor: str, now: datetime) -> Order:
    """Go on asking the exchange; a person is asked again when the time is over and nothing was found.

    Raises AnswerRefused: NO_REASON, ALREADY_DECIDED, ALREADY_ASKED, STALE_PAGE.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        order = _locked(order_id)
        _check_page(order, version)
        refuse_while_asked(order)
        until = now + WATCH
        if order.status == OrderStatus.MANUAL_REVIEW:
            transition(
                order,
                to=OrderStatus.UNKNOWN,
                actor=actor,
                now=now,
                reason=f"{actor} keeps watching: {reason}",
                watch_until=until,
                next_probe_at=now,
            )
            resolve_alerts(dedupe_key=f"manual_review:order:{order.pk}", now=now)
        else:
            Order.objects.filter(pk=order.pk).update(watch_until=until, version=F("version") + 1)
            audit.record(
                action="order.watched", subject=f"order:{order.pk}", actor=actor, now=now, reason=reason
            )
            announce(Order.TOPIC, order.pk)
    order.refresh_from_db()
    return order


def confirm_filled(request: OperatorRequest, exchange: ExchangeGateway, now: datetime) -> None:
    """Book the order from the exchange's trades that the person named; all of them must be there, and ours."""
    order = _order_of(request)
    since = _since(order)
    record = exchange.find_order(symbol=order.symbol, client_order_id=order.client_order_id)
    listed = {r.exchange_order_id: r for r in exchange.orders_since(symbol=order.symbol, since=since)}
    found = exchange.trades(symbol=order.symbol, from_trade_id=None, since=since)
    exchange_order_id = _order_of_trades(order, request.trade_ids, found)
    record = _record_of(order, exchange_order_id, record or listed.get(exchange_order_id))
    trades = [trade for order_id, trade in found if order_id == exchange_order_id]
    report = record or _report_of_trades(order, exchange_order_id, trades)
    with transaction.atomic():
        lock_books()
        _check_page(_locked(order.pk), request.seen_version)
        apply_report(report=replace(report, fills=()), now=now)
        order = _locked(order.pk)
        post_fills(order=order, trades=[(exchange_order_id, trade) for trade in trades], now=now)
        ids = ", ".join(str(trade.trade_id) for trade in trades)
        finish(
            request,
            succeeded=True,
            detail=f"Confirmed: exchange order {exchange_order_id} with its trades {ids}.",
            now=now,
        )


def confirm_absent(request: OperatorRequest, exchange: ExchangeGateway, now: datetime) -> None:
    """Conclude that it was never placed, unless the exchange has it now: then its record is applied."""
    order = _order_of(request)
    _check_absence_is_due(order, now)
    record = exchange.find_order(symbol=order.symbol, client_order_id=order.client_order_id)
    if record is None:
        listed = exchange.orders_since(symbol=order.symbol, since=_since(order))
        record = next((r for r in listed if r.client_order_id == order.client_order_id), None)
    if record is None and _list_is_known(order, exchange):
        raise AnswerRefused(
            "LISTED",
            "Nothing was changed: the exchange has the order list that it belongs to, so it has this order, too.",
        )
    with transaction.atomic():
        if record is not None:
            apply_report(report=record, now=now)
            finish(
                request,
                succeeded=False,
                detail=f"Not absent: the exchange has it as order {record.exchange_order_id}, {record.status}, "
                f"executed {plain(record.executed_quantity)}. Its record was applied.",
                now=now,
            )
            return
        locked = _locked(order.pk)
        _check_page(locked, request.seen_version)
        for one in selectors.orders_of(locked.intent):  # a list is placed whole or not at all
            if one.status in REVIEWABLE:
                conclude_absent(order=one, now=now, actor=request.actor, reason=request.reason)
        finish(request, succeeded=True, detail="Confirmed: the exchange does not know it.", now=now)


def _list_is_known(order: Order, exchange: ExchangeGateway) -> bool:
    """Whether the exchange has the order's list, or we know it to have another order of it."""
    name = order.intent.list_client_order_id
    if not name:
        return False
    if Order.objects.filter(intent=order.intent, status=OrderStatus.CONFIRMED).exists():
        return True
    return exchange.find_list(list_client_order_id=name) is not None


# --- checks ---------------------------------------------------------------------------------------------


def _locked(order_id: UUID) -> Order:
    return (
        Order.objects.select_for_update(of=("self",))
        .select_related("intent")
        .get(environment=selectors.ENVIRONMENT, pk=order_id)
    )


def _order_of(request: OperatorRequest) -> Order:
    if request.order is None:
        raise RuntimeError(f"operator request {request.pk} is about no order")
    return request.order


def _since(order: Order) -> datetime:
    return (order.sent_at or order.created_at) - LOOK_BACK


def _check_page(order: Order, version: int) -> None:
    """Refuse an answer to a page that is old: the first answer holds, and the second is told whose it was."""
    if order.status not in REVIEWABLE:
        raise AnswerRefused("ALREADY_DECIDED", f"Nothing was done: {how_it_stands(order)}")
    if order.version != version:
        raise AnswerRefused("STALE_PAGE", f"Nothing was done, the page was old: {how_it_stands(order)}")


def how_it_stands(order: Order) -> str:
    """Who moved the order last, when and why, from the audit log."""
    links = audit.history(f"order:{order.pk}")
    moved = [link for link in links if link["action"].startswith("order.")]
    if not moved:
        return f"the order is {order.status}."
    last = moved[-1]
    why = last["payload"].get("reason") or ""
    words = str(last["action"]).removeprefix("order.").replace("_", " ")
    return f"{words} by {last['actor']} at {last['at']:%H:%M:%S} UTC{f': {why}' if why else ''}."


def _check_absence_is_due(order: Order, now: datetime) -> None:
    due = absence_may_be_confirmed_at(order)
    if now < due:
        raise AnswerRefused(
            "TOO_EARLY",
            f"Nothing was done: until {due:%H:%M:%S} UTC the order may still turn up, so that it does not exist "
            "proves nothing.",
        )


def _order_of_trades(order: Order, wanted: Sequence[int], found: Sequence[tuple[int, FillReport]]) -> int:
    """The exchange's order that all `wanted` trades belong to."""
    owners = {trade.trade_id: order_id for order_id, trade in found}
    missing = [str(trade_id) for trade_id in wanted if trade_id not in owners]
    if missing:
        raise AnswerRefused(
            "NO_SUCH_TRADE",
            f"Nothing was changed: the exchange's trades of {order.symbol} since the order was sent do not hold "
            f"{', '.join(missing)}.",
        )
    ids = {owners[trade_id] for trade_id in wanted}
    if len(ids) != 1:
        raise AnswerRefused(
            "SEVERAL_ORDERS",
            f"Nothing was changed: the trades belong to {len(ids)} orders of the exchange "
            f"({', '.join(map(str, sorted(ids)))}); ours is one.",
        )
    exchange_order_id = ids.pop()
    booked = (
        Fill.objects.filter(
            environment=order.environment,
            ledger=order.ledger,
            symbol=order.symbol,
            exchange_order_id=exchange_order_id,
        )
        .exclude(order=order)
        .select_related("order")
        .first()
    )
    if booked is not None:
        owner = booked.order.client_order_id if booked.order else "a foreign order that was adopted"
        raise AnswerRefused(
            "BOOKED_ELSEWHERE", f"Nothing was changed: trade {booked.trade_id} is booked on {owner}."
        )
    return exchange_order_id


def _record_of(order: Order, exchange_order_id: int, record: OrderReport | None) -> OrderReport | None:
    """The exchange's record of the order, if it has one; it must be ours and the one that the trades name."""
    if record is None:
        return None
    if record.client_order_id != order.client_order_id:
        raise AnswerRefused(
            "NOT_OURS",
            f"Nothing was changed: exchange order {record.exchange_order_id} carries the id "
            f"{record.client_order_id}, not ours ({order.client_order_id}).",
        )
    if record.exchange_order_id != exchange_order_id:
        raise AnswerRefused(
            "OTHER_ORDER",
            f"Nothing was changed: our order is {record.exchange_order_id} on the exchange; those trades belong "
            f"to {exchange_order_id}.",
        )
    return record


@dataclass(frozen=True, slots=True)
class _Sum:
    quantity: Decimal
    quote: Decimal


def _report_of_trades(order: Order, exchange_order_id: int, trades: Sequence[FillReport]) -> OrderReport:
    """A report made of the exchange's trades alone, when its list of orders does not hold the order."""
    total = _Sum(
        sum((trade.quantity for trade in trades), ZERO), sum((trade.quote_quantity for trade in trades), ZERO)
    )
    if total.quantity > order.quantity or _beyond_limit(order, trades):
        raise AnswerRefused(
            "DOES_NOT_FIT",
            f"Nothing was changed: the trades come to {plain(total.quantity)} of {order.symbol} at up to "
            f"{plain(max(trade.price for trade in trades))}; the order was for {plain(order.quantity)}"
            f"{f' at {plain(order.price)}' if order.price else ''}.",
        )
    full = total.quantity == order.quantity
    status = ExchangeStatus.FILLED if full else ExchangeStatus.PARTIALLY_FILLED
    return OrderReport(
        symbol=order.symbol,
        client_order_id=order.client_order_id,
        exchange_order_id=exchange_order_id,
        status=status,
        side=order.side,
        order_type=order.intent.order_type,
        quantity=order.quantity,
        price=order.price or ZERO,
        executed_quantity=total.quantity,
        cumulative_quote=total.quote,
        at=max(trade.at for trade in trades),
        source=Source.POLL,
        event_key=f"trades:{exchange_order_id}:{plain(total.quantity)}",
        fills=(),
        raw={"trades": [trade.trade_id for trade in trades]},
        reason="confirmed by a person from the exchange's trades",
    )


def _beyond_limit(order: Order, trades: Sequence[FillReport]) -> bool:
    """Whether a trade is at a price that our limit excludes, so that it cannot be ours."""
    if order.price is None:
        return False
    if order.side == "BUY":
        return any(trade.price > order.price for trade in trades)
    return any(trade.price < order.price for trade in trades)
