"""Orders and trades of the exchange against ours: what its records prove is posted, a few orders at a time.

Each transaction posts a few orders or their trades together with the divergences that it settles, so that a
comparison that is cut short has posted only what is proved, and has reported all of it.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from execution import selectors
from execution.contracts import (
    CONCLUDED_WITHOUT,
    TERMINAL,
    DivergenceKind,
    ExchangeStatus,
    FillReport,
    OrderReport,
    OrderStatus,
)
from execution.models import Fill, Order, ReconciliationRun, current_ledger
from execution.rules import is_further
from execution.services.applying import apply_reports, lock_books
from execution.services.asking import Records
from execution.services.findings import Finding, store_findings
from execution.services.posting import post_fills
from execution.services.turn import Turn
from execution.services.watching import watch_position
from tradingbot.core.decimals import plain

# A difference younger than this may be a message on its way (reference/reliability.md §5, "divergence").
SETTLE = timedelta(seconds=5)
ORDERS_A_TRANSACTION = 20
DOUBTFUL = frozenset(
    {OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW, OrderStatus.NOT_PLACED}
)
OrderKey = tuple[str, int]  # symbol and the exchange's order id


def compare_orders(
    run: ReconciliationRun, records: Records, turn: Turn, now: datetime
) -> Iterator[list[Finding]]:
    """Apply the order records that differ, a few orders at a time; what was found each time, stored already."""
    _fold_listed(records, turn, now)
    ours = _our_orders([report.client_order_id for report in records.orders.values()])
    found = [_foreign(r) for r in records.orders.values() if r.client_order_id not in ours]
    found += [_missing_there(order) for order in _orders_gone(records)]
    with turn.writing():
        store_findings(run, found, now)
    yield found
    differing = [
        report
        for report in records.orders.values()
        if report.client_order_id in ours and _differs(ours[report.client_order_id], report)
    ]
    for start in range(0, len(differing), ORDERS_A_TRANSACTION):
        with turn.writing():
            lock_books()
            found = _apply(differing[start : start + ORDERS_A_TRANSACTION], now)
            store_findings(run, found, now)
        yield found


def _apply(reports: list[OrderReport], now: datetime) -> list[Finding]:
    """Fold the reports of orders that still differ, now that nobody else books; what we had before is told."""
    ours = _our_orders([report.client_order_id for report in reports])
    differing = [report for report in reports if _differs(ours[report.client_order_id], report)]
    apply_reports(reports=differing, now=now)
    found = []
    for report in differing:
        order = ours[report.client_order_id]
        if order.status in CONCLUDED_WITHOUT:
            found.append(_missing_here(order, report))
        elif now - report.at > SETTLE:
            found.append(_status_finding(order, report))
    return found


def _our_orders(client_order_ids: list[str]) -> dict[str, Order]:
    rows = Order.objects.filter(environment=selectors.ENVIRONMENT, client_order_id__in=client_order_ids)
    return {order.client_order_id: order for order in rows}


def _fold_listed(records: Records, turn: Turn, now: datetime) -> None:
    """An open order list proves its legs, also those that the queries for orders do not show yet."""
    ours = _our_orders([report.client_order_id for report in records.listed])
    proved = [
        report
        for report in records.listed
        if report.client_order_id in ours and ours[report.client_order_id].status in DOUBTFUL
    ]
    for start in range(0, len(proved), ORDERS_A_TRANSACTION):
        with turn.writing():
            apply_reports(reports=proved[start : start + ORDERS_A_TRANSACTION], now=now)


def _orders_gone(records: Records) -> list[Order]:
    return list(
        Order.objects.filter(
            environment=selectors.ENVIRONMENT,
            client_order_id__in=records.absent_client_ids,
            status=OrderStatus.CONFIRMED,
        )
    )


def _differs(order: Order, report: OrderReport) -> bool:
    if order.status in {OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}:
        return True
    if order.status in CONCLUDED_WITHOUT:
        return report.status is not ExchangeStatus.REJECTED or report.executed_quantity > 0
    return (
        report.executed_quantity > order.executed_quantity
        or (report.status in TERMINAL and order.exchange_status not in TERMINAL)
        or order.exchange_order_id is None
        or is_further(order.exchange_status, report.status)
    )


def _foreign(report: OrderReport) -> Finding:
    return Finding(
        kind=DivergenceKind.FOREIGN_ORDER,
        subject=f"foreign:{report.symbol}:{report.exchange_order_id}",
        symbol=report.symbol,
        ours={},
        theirs=_order_words(report),
        likely_cause="Somebody placed it by hand or with another program on this account.",
        amount=report.executed_quantity,
    )


def _missing_there(order: Order) -> Finding:
    return Finding(
        kind=DivergenceKind.ORDER_MISSING_THERE,
        subject=f"order:{order.client_order_id}",
        symbol=order.symbol,
        ours={"status": order.exchange_status, "exchange_order_id": order.exchange_order_id},
        theirs={"answer": "-2013 Order does not exist"},
        likely_cause="The exchange lost or archived the order, or the environment was reset.",
    )


def _missing_here(order: Order, report: OrderReport) -> Finding:
    """We had concluded that it does not exist. The exchange's record wins, and that it did is on record."""
    return Finding(
        kind=DivergenceKind.ORDER_MISSING_HERE,
        subject=f"order:{order.client_order_id}",
        symbol=order.symbol,
        ours={"status": order.status, "reason": order.reason},
        theirs=_order_words(report),
        likely_cause="The request was executed although it looked refused or lost. This must not happen.",
        amount=report.executed_quantity,
        settled="applied from the exchange's record: the order is confirmed",
    )


def _order_words(report: OrderReport) -> dict[str, Any]:
    return {
        "clientOrderId": report.client_order_id,
        "orderId": report.exchange_order_id,
        "side": report.side,
        "type": report.order_type,
        "status": report.status.value,
        "quantity": plain(report.quantity),
        "price": plain(report.price),
        "executed": plain(report.executed_quantity),
    }


def _status_finding(order: Order, report: OrderReport) -> Finding:
    return Finding(
        kind=DivergenceKind.STATUS,
        subject=f"order:{order.client_order_id}",
        symbol=order.symbol,
        ours={
            "status": order.status,
            "exchange_status": order.exchange_status,
            "executed": plain(order.executed_quantity),
        },
        theirs={"exchange_status": report.status.value, "executed": plain(report.executed_quantity)},
        likely_cause="A user-data event was missed; the exchange's record was applied.",
        settled="applied from the exchange's record",
    )


def compare_trades(
    run: ReconciliationRun, records: Records, turn: Turn, now: datetime
) -> Iterator[tuple[int, list[Finding]]]:
    """Post the trades that are not booked, those of a few orders at a time; how many, and what was found."""
    ledger = current_ledger()
    booked = _booked(records, ledger)
    found: list[Finding] = []
    unbooked: dict[OrderKey, list[FillReport]] = {}
    for symbol, exchange_order_id, trade in records.trades:
        if (symbol, trade.trade_id) in booked:  # nothing to post, so nothing is locked for it
            found += _fee_findings(symbol, trade, booked[symbol, trade.trade_id])
        else:
            unbooked.setdefault((symbol, exchange_order_id), []).append(trade)
    if found:
        with turn.writing():
            store_findings(run, found, now)
    yield 0, found
    keys = list(unbooked)
    for start in range(0, len(keys), ORDERS_A_TRANSACTION):
        with turn.writing():
            lock_books()
            posted, found = 0, []
            for order, trades in _orders_of(unbooked, keys[start : start + ORDERS_A_TRANSACTION], ledger):
                fresh = _post(order, trades, now)
                posted += len(fresh)
                found += [_fill_finding(order, t) for t in fresh if now - t.at > SETTLE]
            store_findings(run, found, now)
        yield posted, found


def _orders_of(
    unbooked: dict[OrderKey, list[FillReport]], keys: list[OrderKey], ledger: int
) -> Iterator[tuple[Order, list[FillReport]]]:
    """Our orders, locked, with their trades. A trade without one is left: its order is a finding of its own
    (foreign), or the report that names it comes first."""
    rows = (
        Order.objects.select_for_update(of=("self",))
        .select_related("intent")
        .filter(
            environment=selectors.ENVIRONMENT,
            ledger=ledger,
            symbol__in={symbol for symbol, _ in keys},
            exchange_order_id__in={exchange_order_id for _, exchange_order_id in keys},
        )
    )
    ours = {(order.symbol, order.exchange_order_id): order for order in rows.order_by("pk")}
    for key in keys:
        if key in ours:
            yield ours[key], unbooked[key]


def _post(order: Order, trades: list[FillReport], now: datetime) -> list[FillReport]:
    assert order.exchange_order_id is not None  # it was found by it
    fresh = post_fills(order=order, trades=[(order.exchange_order_id, trade) for trade in trades], now=now)
    if fresh:
        watch_position(symbol=order.symbol, now=now, since=min(trade.at for trade in fresh))
    return fresh


Amounts = tuple[Decimal, Decimal, Decimal, str]


def _booked(records: Records, ledger: int) -> dict[tuple[str, int], Amounts]:
    """Price, quantity, commission and its asset of the trades of `records` that are on our books, asked at once."""
    first: dict[str, int] = {}
    for symbol, _, trade in records.trades:
        first[symbol] = min(first.get(symbol, trade.trade_id), trade.trade_id)
    found: dict[tuple[str, int], Amounts] = {}
    for symbol, trade_id in first.items():
        rows = Fill.objects.filter(
            environment=selectors.ENVIRONMENT, ledger=ledger, symbol=symbol, trade_id__gte=trade_id
        )
        for row in rows.values_list("trade_id", "price", "quantity", "commission", "commission_asset"):
            found[symbol, row[0]] = row[1:]
    return found


def _fill_finding(order: Order, trade: FillReport) -> Finding:
    return Finding(
        kind=DivergenceKind.FILL,
        subject=f"trade:{order.symbol}:{trade.trade_id}",
        symbol=order.symbol,
        ours={},
        theirs=_trade_words(trade),
        likely_cause="A user-data event was missed; the trade was posted from the exchange's record.",
        amount=trade.quote_quantity,
        settled=f"posted to order {order.client_order_id}",
    )


def _trade_words(trade: FillReport) -> dict[str, Any]:
    return {
        "tradeId": trade.trade_id,
        "price": plain(trade.price),
        "quantity": plain(trade.quantity),
        "commission": plain(trade.commission),
        "commissionAsset": trade.commission_asset,
    }


def _fee_findings(symbol: str, trade: FillReport, ours: Amounts) -> list[Finding]:
    """A booked trade whose amounts differ from the exchange's record."""
    price, quantity, commission, commission_asset = ours
    if ours == (trade.price, trade.quantity, trade.commission, trade.commission_asset):
        return []
    return [
        Finding(
            kind=DivergenceKind.FEE,
            subject=f"trade:{symbol}:{trade.trade_id}",
            symbol=symbol,
            ours={
                "price": plain(price),
                "quantity": plain(quantity),
                "commission": plain(commission),
                "commissionAsset": commission_asset,
            },
            theirs=_trade_words(trade),
            likely_cause="The first report of the trade told other amounts than the exchange's ledger.",
            amount=trade.commission - commission,
            amount_asset=trade.commission_asset,
        )
    ]
