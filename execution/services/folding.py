"""Stored user-data events into orders, fills, positions and balances, in whatever sequence they came."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from execution import rules, selectors
from execution.contracts import Balance, OrderReport
from execution.models import BalanceMovement
from execution.rules import lists
from execution.services.applying import apply_reports
from market import selectors as market
from market import services as market_services
from market.models import AccountEvent
from tradingbot.core.alerts import raise_alert
from tradingbot.core.announce import announce
from tradingbot.core.clock import from_milliseconds

logger = logging.getLogger(__name__)
FOLD_LOCK = 7_240_001  # advisory lock: one worker folds at a time
BATCH = 200


def fold_pending_events(*, now: datetime) -> int:
    """Fold stored account events, oldest first, those of one order together; how many.

    Only one worker does it at a time. The outcome does not depend on the sequence (`rules.fold`, lots are booked
    in the exchange's order), so that the events of an order may be taken at once.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [FOLD_LOCK])
            if not cursor.fetchone()[0]:
                return 0
        together: dict[tuple[Any, ...], list[AccountEvent]] = {}
        for event in market.unfolded_account_events(BATCH):
            together.setdefault(_what_it_tells_of(event), []).append(event)
        return sum(_fold_or_report(events, now) for events in together.values())


def _what_it_tells_of(event: AccountEvent) -> tuple[Any, ...]:
    """Events with the same answer are folded together: those of one order, and those of balances."""
    if event.event_type == "executionReport" and isinstance(event.payload, dict):
        return "order", str(event.payload.get("s")), str(event.payload.get("i"))
    if event.event_type == "outboundAccountPosition":
        return ("balances",)
    return "event", event.pk


def _fold_or_report(events: Sequence[AccountEvent], now: datetime) -> int:
    """One bad event must not hold up the rest: it stays unfolded, is alarmed, and is tried again."""
    try:
        with transaction.atomic():
            fold_account_events(events=events, now=now)
    except Exception:
        if len(events) > 1:
            return sum(_fold_or_report([event], now) for event in events)
        event = events[0]
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
    return len(events)


def fold_account_events(*, events: Sequence[AccountEvent], now: datetime) -> None:
    """Fold stored events and mark them as folded, in one transaction."""
    with transaction.atomic():
        reports: list[OrderReport] = []
        for event in events:
            reports += _reports_of(event, now)
        if reports:
            apply_reports(reports=reports, now=now)
        told = [event for event in events if event.event_type == "outboundAccountPosition"]
        if told:
            _record_balances(told)
        for event in events:
            if event.event_type == "balanceUpdate":
                _record_movement(event)
        market_services.mark_account_events_folded(ids=[event.pk for event in events], now=now)


def _reports_of(event: AccountEvent, now: datetime) -> Sequence[OrderReport]:
    """What the event says of orders; nothing, with an alert, when it cannot be read."""
    try:
        if event.event_type == "executionReport":
            return [rules.report_of_event(event.payload)]
        if event.event_type == "listStatus":
            return lists.reports_of_list_event(event.payload)
    except rules.MalformedReport as error:
        logger.warning("account event cannot be read", extra={"event": event.pk, "error": str(error)})
        raise_alert(
            kind="account_event_unreadable",
            severity="high",
            title="A user-data event could not be read",
            detail=f"Event {event.pk} ({event.event_type}): {error}. Reconciliation covers what it said.",
            now=now,
        )
    return ()


def _record_balances(events: Iterable[AccountEvent]) -> None:
    """Absolute values: the newest by the exchange's own time wins (binance.md §7)."""
    newest: dict[str, tuple[datetime, Balance]] = {}
    for event in events:
        as_of = from_milliseconds(int(event.payload["u"]))
        for row in event.payload["B"]:
            if row["a"] not in newest or newest[row["a"]][0] <= as_of:
                newest[row["a"]] = as_of, Balance(row["a"], Decimal(row["f"]), Decimal(row["l"]))
    store_balances(list(newest.values()))
    announce("balance", "")


def store_balances(balances: Sequence[tuple[datetime, Balance]]) -> None:
    """Keep each balance as of its time, unless a later one is known."""
    rows = sorted(balances, key=lambda told: told[1].asset)  # always locked in the same sequence
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO execution_accountbalance AS b (environment, asset, free, locked, as_of)
            VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (environment, asset) DO UPDATE
            SET free = EXCLUDED.free, locked = EXCLUDED.locked, as_of = EXCLUDED.as_of
            WHERE b.as_of <= EXCLUDED.as_of
            """,
            [(selectors.ENVIRONMENT, b.asset, b.free, b.locked, as_of) for as_of, b in rows],
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
