"""The books against the real simulator's: events and answers, divergences, degraded and repeated runs."""

import pytest

from execution import selectors, services
from execution.contracts import Decision, OrderStatus
from execution.models import (
    Divergence,
    Fill,
    Order,
    Position,
    ReconciliationRun,
)
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db


def test_events_and_rest_answer_come_to_one_position(desk: Desk) -> None:
    order = desk.buy()
    before = Position.objects.get(symbol=SYMBOL)
    fill = Fill.objects.get(order=order)
    event = {
        "e": "executionReport", "E": 1, "s": SYMBOL, "c": order.client_order_id, "S": "BUY", "o": "MARKET",
        "f": "GTC", "q": str(order.quantity), "p": "0", "P": "0", "F": "0", "g": -1, "C": "", "x": "TRADE",
        "X": "FILLED", "r": "NONE", "i": order.exchange_order_id, "l": str(fill.quantity),
        "z": str(order.executed_quantity), "L": str(fill.price), "n": str(fill.commission),
        "N": fill.commission_asset, "T": clock.to_milliseconds(fill.at), "t": fill.trade_id, "I": 5, "w": False,
        "m": False, "M": True, "O": 1, "Z": str(order.cumulative_quote), "Y": str(fill.quote_quantity), "Q": "0",
        "V": "EXPIRE_MAKER",
    }  # fmt: skip
    desk.hear(event)

    assert services.fold_pending_events(now=clock.now()) == 1

    after = Position.objects.get(symbol=SYMBOL)
    assert (after.quantity, after.cost_quote) == (before.quantity, before.cost_quote)
    assert Fill.objects.filter(order=order).count() == 1


def test_unreadable_event_is_alarmed_and_does_not_hold_up_the_next(desk: Desk) -> None:
    desk.hear({"e": "executionReport", "s": SYMBOL})
    desk.hear(
        {"u": clock.to_milliseconds(clock.now()), "B": [{"a": "USDT", "f": "5", "l": "1"}]},
        "outboundAccountPosition",
    )

    assert services.fold_pending_events(now=clock.now()) == 2

    assert Alert.objects.filter(kind="account_event_unreadable").exists()
    assert selectors.portfolio(now=clock.now()).free_quote == 5


def test_foreign_order_is_a_divergence_and_blocks_its_symbol(desk: Desk) -> None:
    services.gateway()._client.create_order(
        symbol=SYMBOL, side="BUY", type="MARKET", quoteOrderQty="50", newClientOrderId="by-hand"
    )

    run = desk.reconcile()

    kinds = set(Divergence.objects.filter(closed_at=None).values_list("kind", flat=True))
    assert run.status == "divergent"
    assert kinds == {"foreign_order", "balance"}
    assert SYMBOL in selectors.portfolio(now=clock.now()).blocked_symbols


def test_person_settles_divergences_and_the_books_agree_from_then_on(desk: Desk) -> None:
    services.gateway()._client.create_order(
        symbol=SYMBOL, side="BUY", type="MARKET", quoteOrderQty="50", newClientOrderId="by-hand"
    )
    desk.reconcile()

    for divergence in Divergence.objects.filter(closed_at=None):
        services.settle_divergence(
            divergence_id=divergence.pk,
            version=divergence.version,
            decision=Decision.ADOPT if divergence.kind == "balance" else Decision.IGNORE,
            reason="bought by hand",
            actor="operator",
            now=clock.now(),
        )

    assert desk.reconcile().status == "clean"


def test_fill_missed_by_stream_and_answer_is_posted_from_the_exchanges_record(desk: Desk) -> None:
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/order", count=1)
    order = desk.buy()

    run = desk.reconcile()

    order.refresh_from_db()
    assert order.status == OrderStatus.CONFIRMED
    assert Fill.objects.filter(order=order).exists()
    assert run.status == "clean"


def test_failed_query_degrades_the_run_and_changes_nothing(desk: Desk) -> None:
    order = desk.buy()
    desk.exchange.arm(
        kind="status", method="GET", path="/api/v3/openOrders", status=503, phase="before", count=1
    )

    run = desk.reconcile()

    assert run.status == "degraded"
    assert Order.objects.get(pk=order.pk).status == OrderStatus.CONFIRMED
    assert not Divergence.objects.exists()
    assert not selectors.reconciliation_state(clock.now())[0]


def test_degraded_reconciliation_is_an_alert_until_a_run_completes(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status", method="GET", path="/api/v3/openOrders", status=503, phase="before", count=1
    )

    desk.reconcile()
    assert Alert.objects.get(kind="reconciliation_degraded").resolved_at is None
    desk.reconcile()

    assert Alert.objects.get(kind="reconciliation_degraded").resolved_at is not None


def test_withdrawal_is_booked_as_a_foreign_movement(desk: Desk) -> None:
    desk.exchange.post("/sim/deposit", {"apiKey": desk.exchange.api_key, "asset": "USDT", "amount": "-100"})
    desk.hear(
        {"e": "balanceUpdate", "E": 1, "a": "USDT", "d": "-100.00000000", "T": 1772452800000}, "balanceUpdate"
    )
    services.fold_pending_events(now=clock.now())

    assert desk.reconcile().status == "clean"


def test_run_whose_worker_died_is_done_again_at_once(desk: Desk) -> None:
    """Found by rehearsal seed 12: the first run was lost to a crash and no trigger asked for another."""
    ReconciliationRun.objects.all().delete()
    ReconciliationRun.objects.create(environment="simulator", trigger="start", started_at=clock.now())

    assert selectors.reconciliation_is_due() == "start"
    assert desk.reconcile("start").status == "clean"
    assert selectors.reconciliation_is_due() is None
