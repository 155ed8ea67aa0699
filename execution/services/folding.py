"""The fold: REST answers, user events and polling come to one state, in any order, any number of times."""

import logging
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from execution import rules, selectors
from execution.contracts import (
    CONCLUDED_WITHOUT,
    PROTECTIVE_ROLES,
    ExchangeStatus,
    FillReport,
    OrderReport,
    OrderStatus,
)
from execution.models import (
    BalanceMovement,
    Fill,
    Order,
    OrderLifecycleEvent,
    Position,
    current_ledger,
)
from execution.rules import lists
from execution.services import booking
from execution.services.watching import watch_position
from market import selectors as market
from market import services as market_services
from market.models import AccountEvent, Instrument
from tradingbot.core import audit
from tradingbot.core.alerts import raise_alert, resolve_alerts
from tradingbot.core.announce import announce
from tradingbot.core.clock import from_milliseconds
from tradingbot.core.decimals import ZERO
from tradingbot.core.transitions import transition

NOT_YET_PLACED = frozenset({ExchangeStatus.PENDING_NEW, ExchangeStatus.NONE})
logger = logging.getLogger(__name__)
FOLD_LOCK = 7_240_001  # advisory lock: one worker folds at a time, so events are taken in order of arrival
BOOKS_LOCK = 7_240_002
BATCH = 200


def apply_report(*, report: OrderReport, now: datetime) -> Order | None:
    """Fold one report into its order, fills and position; None when the order is not ours.

    Everything is applied once, by keys that the exchange gives: events by (order, status, quantity), fills
    by (symbol, trade id). A report of an order that is not ours is kept as an event without an order, for
    reconciliation to name as a divergence.
    """
    with transaction.atomic():
        lock_books()
        order = _find_order(report)
        is_new = _record_event(report, order, now)
        if order is None:
            return None
        posted = [
            post_fill(order=order, exchange_order_id=report.exchange_order_id, fill=fill, now=now)
            for fill in report.fills
        ]
        _merge(order, report, now)
        if order.role in PROTECTIVE_ROLES or any(posted):
            watch_position(symbol=order.symbol, now=now, since=report.at if any(posted) else None)
        if is_new:
            announce(Order.TOPIC, order.pk)
        return order


def lock_books() -> None:
    """One transaction at a time books reports: orders and positions are locked in whatever sequence they are
    told in, which two at once could do crosswise."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [BOOKS_LOCK])


def _find_order(report: OrderReport) -> Order | None:
    """The order of a report, locked: by our id, which is committed before anything is sent."""
    return (
        Order.objects.select_for_update()
        .filter(environment=selectors.ENVIRONMENT, client_order_id=report.client_order_id)
        .first()
    )


def _record_event(report: OrderReport, order: Order | None, now: datetime) -> bool:
    # The exchange's ids begin again after a reset: each ledger has keys of its own.
    ledger = order.ledger if order else current_ledger()
    _, created = OrderLifecycleEvent.objects.get_or_create(
        environment=selectors.ENVIRONMENT,
        symbol=report.symbol,
        event_key=report.event_key if ledger == 1 else f"{ledger}.{report.event_key}",
        defaults={
            "order": order,
            "client_order_id": report.client_order_id,
            "exchange_order_id": report.exchange_order_id,
            "kind": rules.KIND_OF_STATUS[report.status],
            "source": report.source,
            "executed_quantity": report.executed_quantity,
            "exchange_status": report.status,
            "detail": report.reason[:300],
            "payload": report.raw,
            "payload_sha256": audit.sha256_hex(audit.canonical_json(report.raw)),
            "at": report.at,
            "recorded_at": now,
        },
    )
    return created


def _merge(order: Order, report: OrderReport, now: datetime) -> None:
    """Bring the order to the folded state; the first report that proves it exists confirms it."""
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
        if merged != seen:
            Order.objects.filter(pk=order.pk).update(**changes)
        return
    if overturned:
        _tell_overturned(order, merged, now)
        changes["sent_at"] = order.sent_at or report.at
    if order.status == OrderStatus.SUBMITTED and never_filled:
        transition(order, to=OrderStatus.REJECTED, actor="exchange", now=now, reason=report.reason, **changes)
        return
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
    resolve_alerts(dedupe_key=f"execution_unknown:order:{order.pk}", now=now)
    resolve_alerts(dedupe_key=f"manual_review:order:{order.pk}", now=now)


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


def post_fill(*, order: Order, exchange_order_id: int, fill: FillReport, now: datetime) -> bool:
    """Apply a trade once to the ledger and to the position; False when it was applied before.

    The caller holds the transaction and the order's row lock. A late trade of an order whose ledger was
    closed by a reset is not booked: the new baseline begins after it.
    """
    if order.ledger != current_ledger():
        return False
    instrument = Instrument.objects.get(environment=order.environment, symbol=order.symbol)
    position = _locked_position(order, instrument, now)
    if Fill.objects.filter(
        environment=order.environment, ledger=order.ledger, symbol=order.symbol, trade_id=fill.trade_id
    ).exists():
        return False
    row = Fill.objects.create(
        environment=order.environment,
        ledger=order.ledger,
        symbol=order.symbol,
        trade_id=fill.trade_id,
        order=order,
        exchange_order_id=exchange_order_id,
        side=order.side,
        price=fill.price,
        quantity=fill.quantity,
        quote_quantity=fill.quote_quantity,
        commission=fill.commission,
        commission_asset=fill.commission_asset,
        commission_quote=booking.worth_in_quote(fill, instrument),
        is_maker=fill.is_maker,
        at=fill.at,
        recorded_at=now,
    )
    was_flat = position.quantity == 0
    booking.book_fill(fill=row, position=position)
    _save_position(position, order, now, opening=was_flat and position.quantity > 0)
    announce("position", order.symbol)
    return True


def _locked_position(order: Order, instrument: Instrument, now: datetime) -> Position:
    Position.objects.bulk_create(
        [
            Position(
                environment=order.environment,
                symbol=order.symbol,
                base_asset=instrument.base_asset,
                quote_asset=instrument.quote_asset,
                updated_at=now,
            )
        ],
        ignore_conflicts=True,
    )
    return Position.objects.select_for_update().get(environment=order.environment, symbol=order.symbol)


def _save_position(position: Position, order: Order, now: datetime, *, opening: bool) -> None:
    position.updated_at = now
    if order.side == "BUY":
        position.stop_price, position.target_price = order.intent.stop_price, order.intent.target_price
    if opening:
        position.opened_at = now
        position.seconds_unprotected = ZERO
    if position.quantity == 0:
        position.opened_at = position.stop_price = position.target_price = None
    position.save()


# --- user-data events -----------------------------------------------------------------------------------


def fold_pending_events(*, now: datetime) -> int:
    """Fold stored account events in order of arrival; how many. Only one worker does it at a time."""
    folded = 0
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [FOLD_LOCK])
            if not cursor.fetchone()[0]:
                return 0
        for event in market.unfolded_account_events(BATCH):
            folded += _fold_or_report(event, now)
    return folded


def _fold_or_report(event: AccountEvent, now: datetime) -> int:
    """One bad event must not hold up the rest: it stays unfolded, is alarmed, and is tried again."""
    try:
        with transaction.atomic():
            fold_account_event(event=event, now=now)
    except Exception:
        logger.exception("account event could not be folded", extra={"event": event.pk})
        raise_alert(
            kind="account_event_stuck",
            severity="critical",
            subject=f"account_event:{event.pk}",
            title="A user-data event cannot be booked",
            detail=f"Event {event.pk} ({event.event_type}) stays in the queue; see the trading worker's log.",
            now=now,
        )
        return 0
    return 1


def fold_account_event(*, event: AccountEvent, now: datetime) -> None:
    """Fold one stored event and mark it as folded in the same transaction."""
    try:
        with transaction.atomic():
            _dispatch(event, now)
    except rules.MalformedReport as error:
        logger.warning("account event cannot be read", extra={"event": event.pk, "error": str(error)})
        raise_alert(
            kind="account_event_unreadable",
            severity="high",
            title="A user-data event could not be read",
            detail=f"Event {event.pk} ({event.event_type}): {error}. Reconciliation covers what it said.",
            now=now,
        )
    market_services.mark_account_events_folded(ids=[event.pk], now=now)


def _dispatch(event: AccountEvent, now: datetime) -> None:
    if event.event_type == "executionReport":
        apply_report(report=rules.report_of_event(event.payload), now=now)
    elif event.event_type == "listStatus":
        for report in lists.reports_of_list_event(event.payload):
            apply_report(report=report, now=now)
    elif event.event_type == "outboundAccountPosition":
        _record_balances(event)
    elif event.event_type == "balanceUpdate":
        _record_movement(event)


def _record_balances(event: AccountEvent) -> None:
    """Absolute values: the newest by the exchange's own time wins (binance.md §7)."""
    as_of = from_milliseconds(int(event.payload["u"]))
    for row in event.payload["B"]:
        store_balance(asset=row["a"], free=Decimal(row["f"]), locked=Decimal(row["l"]), as_of=as_of)
    announce("balance", "")


def store_balance(*, asset: str, free: Decimal, locked: Decimal, as_of: datetime) -> None:
    """Keep a balance unless a later one is known."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO execution_accountbalance AS b (environment, asset, free, locked, as_of)
            VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (environment, asset) DO UPDATE
            SET free = EXCLUDED.free, locked = EXCLUDED.locked, as_of = EXCLUDED.as_of
            WHERE b.as_of <= EXCLUDED.as_of
            """,
            [selectors.ENVIRONMENT, asset, free, locked, as_of],
        )


def _record_movement(event: AccountEvent) -> None:
    """A deposit or withdrawal: no fill explains it, so it is booked as a foreign movement."""
    payload = event.payload
    _, created = BalanceMovement.objects.get_or_create(
        environment=selectors.ENVIRONMENT,
        event_key=event.sha256,
        defaults={
            "asset": payload["a"],
            "amount": Decimal(payload["d"]),
            "at": from_milliseconds(int(payload["T"])),
        },
    )
    if created:
        raise_alert(
            kind="balance_movement",
            severity="info",
            subject=f"asset:{payload['a']}",
            title=f"Balance moved from outside: {payload['d']} {payload['a']}",
            detail="A deposit, withdrawal or transfer on the account; booked as a foreign movement.",
            now=event.received_at,
            dedupe_key=f"balance_movement:{event.sha256}",
        )
