"""The fold: REST answers, user events and polling come to one state, in any order, any number of times."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from execution import rules, selectors
from execution.contracts import (
    CONCLUDED_WITHOUT,
    PROTECTIVE_ROLES,
    ExchangeStatus,
    OrderReport,
    OrderStatus,
)
from execution.models import Order, OrderLifecycleEvent, current_ledger
from execution.services.posting import post_fills
from execution.services.watching import watch_position
from tradingbot.core import audit
from tradingbot.core.alerts import raise_alert, resolve_alerts
from tradingbot.core.announce import announce
from tradingbot.core.decimals import ZERO
from tradingbot.core.transitions import transition

NOT_YET_PLACED = frozenset({ExchangeStatus.PENDING_NEW, ExchangeStatus.NONE})
BOOKS_LOCK = 7_240_002


def apply_report(*, report: OrderReport, now: datetime) -> Order | None:
    """Fold one report into its order, fills and position; None when the order is not ours."""
    return apply_reports(reports=[report], now=now).get(report.client_order_id)


def apply_reports(*, reports: Sequence[OrderReport], now: datetime) -> dict[str, Order]:
    """Fold reports into their orders, fills and positions, in one transaction; our orders by clientOrderId.

    Everything is applied once, by keys that the exchange gives: events by (order, status, quantity), fills
    by (symbol, trade id). A report of an order that is not ours is kept as an event without an order, for
    reconciliation to name as a divergence. Reports of one order are booked together, so what they cost does
    not grow with how many they are.
    """
    of_order: dict[str, list[OrderReport]] = {}
    for report in reports:
        of_order.setdefault(report.client_order_id, []).append(report)
    with transaction.atomic():
        lock_books()
        orders = _locked_orders(of_order)
        told_anew = _record_events(reports, orders, now)
        for client_order_id, order in orders.items():
            _fold(order, of_order[client_order_id], now)
            if client_order_id in told_anew:
                announce(Order.TOPIC, order.pk)
    return orders


def lock_books() -> None:
    """One transaction at a time books reports: orders and positions are locked in whatever sequence they are
    told in, which two at once could do crosswise."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [BOOKS_LOCK])


def _locked_orders(client_order_ids: Iterable[str]) -> dict[str, Order]:
    """Our orders, locked, in the sequence asked for: by our id, which is committed before anything is sent."""
    wanted = list(client_order_ids)
    rows = (
        Order.objects.select_for_update(of=("self",))
        .select_related("intent")
        .filter(environment=selectors.ENVIRONMENT, client_order_id__in=wanted)
    )
    found = {order.client_order_id: order for order in rows.order_by("pk")}
    return {name: found[name] for name in wanted if name in found}


def _record_events(reports: Sequence[OrderReport], orders: dict[str, Order], now: datetime) -> set[str]:
    """Keep each report once; the ids of the orders of which something was told for the first time."""
    rows: dict[tuple[str, str], OrderLifecycleEvent] = {}
    ledger = current_ledger() if len(orders) < len({r.client_order_id for r in reports}) else 1
    for report in reports:
        row = _event(report, orders.get(report.client_order_id), ledger, now)
        rows.setdefault((row.symbol, row.event_key), row)
    known = set(
        OrderLifecycleEvent.objects.filter(
            environment=selectors.ENVIRONMENT,
            symbol__in={symbol for symbol, _ in rows},
            event_key__in={key for _, key in rows},
        ).values_list("symbol", "event_key")
    )
    fresh = [row for key, row in rows.items() if key not in known]
    if fresh:  # whoever books reports holds the lock, so none of them was written since
        OrderLifecycleEvent.objects.bulk_create(fresh)
    return {row.client_order_id for row in fresh}


def _event(
    report: OrderReport, order: Order | None, ledger_of_strangers: int, now: datetime
) -> OrderLifecycleEvent:
    # The exchange's ids begin again after a reset: each ledger has keys of its own.
    ledger = order.ledger if order else ledger_of_strangers
    return OrderLifecycleEvent(
        environment=selectors.ENVIRONMENT,
        symbol=report.symbol,
        event_key=report.event_key if ledger == 1 else f"{ledger}.{report.event_key}",
        order=order,
        client_order_id=report.client_order_id,
        exchange_order_id=report.exchange_order_id,
        kind=rules.KIND_OF_STATUS[report.status],
        source=report.source,
        executed_quantity=report.executed_quantity,
        exchange_status=report.status,
        detail=report.reason[:300],
        payload=report.raw,
        payload_sha256=audit.sha256_hex(audit.canonical_json(report.raw)),
        at=report.at,
        recorded_at=now,
    )


def _fold(order: Order, reports: Sequence[OrderReport], now: datetime) -> None:
    """Bring one locked order, its fills and its position to what `reports` say."""
    told_at = {fill.trade_id: report.at for report in reversed(reports) for fill in report.fills}
    posted = post_fills(
        order=order,
        trades=[(report.exchange_order_id, fill) for report in reports for fill in report.fills],
        now=now,
    )
    changed: set[str] = set()
    for report in reports:
        changed |= _merge(order, report, now)
    if changed:
        Order.objects.filter(pk=order.pk).update(**{name: getattr(order, name) for name in changed})
    if order.role in PROTECTIVE_ROLES or posted:
        since = min((told_at[fill.trade_id] for fill in posted), default=None)
        watch_position(symbol=order.symbol, now=now, since=since)


def _merge(order: Order, report: OrderReport, now: datetime) -> set[str]:
    """Bring the order to the folded state; the first report that proves it exists confirms it.

    Returns the names of the columns that are changed on `order` and still to be written.
    """
    seen = rules.FoldedState(
        ExchangeStatus(order.exchange_status), order.executed_quantity, order.cumulative_quote
    )
    merged = rules.fold(seen, report)
    never_filled = merged.status is ExchangeStatus.REJECTED and merged.executed_quantity == 0
    overturned = order.status in CONCLUDED_WITHOUT and not never_filled
    if overturned:
        _reserve_again(order)
    changes = _changes(order, merged, report, now)
    if order.status in {OrderStatus.CONFIRMED, *CONCLUDED_WITHOUT} and not overturned:
        if merged == seen:
            return set()
        for name, value in changes.items():
            setattr(order, name, value)
        return set(changes)
    if overturned:
        _tell_overturned(order, merged, now)
        changes["sent_at"] = order.sent_at or report.at
    if order.status == OrderStatus.SUBMITTED and never_filled:
        transition(order, to=OrderStatus.REJECTED, actor="exchange", now=now, reason=report.reason, **changes)
        return set()
    was_doubtful = order.status != OrderStatus.SUBMITTED
    transition(
        order,
        to=OrderStatus.CONFIRMED,
        actor="exchange",
        now=now,
        payload={"source": report.source.value, "exchange_status": merged.status.value},
        acknowledged_at=order.acknowledged_at or now,
        next_probe_at=None,
        **changes,
    )
    if was_doubtful:
        resolve_alerts(dedupe_key=f"execution_unknown:order:{order.pk}", now=now)
        resolve_alerts(dedupe_key=f"manual_review:order:{order.pk}", now=now)
    return set()


def _reserve_again(order: Order) -> None:
    """The worst that the order may cost: its reservation went when we concluded that it does not exist."""
    proposal = order.intent.proposal
    if order.side == "BUY":
        order.reserved_quote = (proposal.notional_quote or ZERO) + (proposal.fee_quote or ZERO)
    else:
        order.reserved_base = order.quantity


def _tell_overturned(order: Order, merged: rules.FoldedState, now: datetime) -> None:
    raise_alert(
        kind="conclusion_overturned",
        severity="critical",
        subject=f"order:{order.pk}",
        title=f"It exists after all: {order.side} {order.symbol}",
        detail=f"We had concluded {order.status} ({order.reason}). The exchange has the order: "
        f"{merged.status.value}, executed {merged.executed_quantity}. Its record was applied.",
        now=now,
    )


def _changes(order: Order, merged: rules.FoldedState, report: OrderReport, now: datetime) -> dict[str, Any]:
    changes = {
        "exchange_order_id": report.exchange_order_id,
        "exchange_status": merged.status.value,
        "executed_quantity": merged.executed_quantity,
        "cumulative_quote": merged.cumulative_quote,
        "closed_at": (order.closed_at or now) if merged.is_terminal else None,
    }
    if order.role in PROTECTIVE_ROLES:
        return changes | _leg_changes(order, merged, report)
    share = rules.remaining_share(order.quantity, merged)
    before = rules.remaining_share(
        order.quantity,
        rules.FoldedState(
            ExchangeStatus(order.exchange_status), order.executed_quantity, order.cumulative_quote
        ),
    )
    scale = share / before if before else ZERO
    return changes | {
        "reserved_quote": order.reserved_quote * scale,
        "reserved_base": order.reserved_base * scale,
    }


def _leg_changes(order: Order, merged: rules.FoldedState, report: OrderReport) -> dict[str, Any]:
    """A leg that sells what was bought has its quantity from the exchange, once it is on the book."""
    told = report.quantity > 0 and report.status not in NOT_YET_PLACED
    quantity = report.quantity if told else order.quantity
    on_book = report.status in {ExchangeStatus.NEW, ExchangeStatus.PARTIALLY_FILLED, ExchangeStatus.FILLED}
    live_at = order.live_at
    if on_book and (live_at is None or report.at < live_at):
        live_at = report.at
    return {
        "quantity": quantity,
        "live_at": live_at,
        "reserved_base": ZERO if merged.is_terminal else max(ZERO, quantity - merged.executed_quantity),
    }
