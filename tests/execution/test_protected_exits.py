"""Exits of what is protected, against the real simulator: cancelled first, sold once."""

from datetime import timedelta
from decimal import Decimal

import pytest

from execution import services, tasks
from execution.contracts import CancelStatus, OrderStatus
from execution.models import (
    Order,
    OrderCancel,
    Position,
)
from execution.selectors import protection
from risk import services as risk
from tests.desk import SYMBOL, Desk
from tests.execution.protected import buy_at_limit, client, guard, late, leg, open_stops, sell_all
from tradingbot.core import clock

pytestmark = pytest.mark.django_db
D = Decimal


def test_exit_cancels_its_siblings_and_sells_what_is_held(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    desk.reconcile()
    exit_ = sell_all(desk)
    assert exit_.status == "auto_approved", exit_.refusal

    tasks.execute_approved()

    sold = Order.objects.get(intent__proposal=exit_)
    assert sold.exchange_status == "FILLED", sold.reason
    assert open_stops(desk) == []
    assert OrderCancel.objects.get().status == CancelStatus.DONE
    guard(desk)
    assert open_stops(desk) == []
    assert desk.reconcile().status == "clean"


def test_exit_of_a_part_leaves_the_rest_protected(desk: Desk) -> None:
    buy_at_limit(desk, quote_amount="45")
    guard(desk)
    desk.reconcile()
    part = desk.assess(
        desk.propose(
            action="SELL", quote_amount=None, position_share_pct=50, stop_price=None, target_price=None
        )
    )
    tasks.execute_approved()
    assert Order.objects.get(intent__proposal=part).exchange_status == "FILLED"

    guard(desk)

    (stop,) = open_stops(desk)
    held = Position.objects.get(symbol=SYMBOL).quantity
    assert D(0) <= held - D(stop["origQty"]) < D("0.00001")


def test_exit_that_the_gate_refuses_leaves_the_protection_alone(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    desk.reconcile()
    exit_ = sell_all(desk)
    risk.halt(actor="operator", reason="test", now=clock.now())

    tasks.execute_approved()

    assert Order.objects.get(intent__proposal=exit_).status == OrderStatus.ABORTED
    assert len(open_stops(desk)) == 1
    assert not OrderCancel.objects.exists()


@pytest.mark.parametrize("kind", ["drop_answer", "never_arrives"])
def test_exit_waits_until_an_unanswered_cancel_is_known_and_sells_once(desk: Desk, kind: str) -> None:
    buy_at_limit(desk)
    guard(desk)
    desk.reconcile()
    exit_ = sell_all(desk)
    lose(desk, kind)
    tasks.execute_approved()
    assert OrderCancel.objects.get().status == CancelStatus.UNKNOWN
    assert not Order.objects.filter(intent__proposal=exit_).exists()

    services.resolve_cancels(exchange=services.gateway(), now=clock.now() + timedelta(seconds=8))
    desk.refresh_feeds()
    desk.reconcile()
    late(desk)
    desk.refresh_feeds()
    tasks.execute_approved()

    assert Order.objects.get(intent__proposal=exit_).exchange_status == "FILLED"
    assert sum(o["side"] == "SELL" and D(o["executedQty"]) > 0 for o in desk.exchange.orders()) == 1


def lose(desk: Desk, kind: str) -> None:
    if kind == "drop_answer":
        desk.exchange.arm(kind="drop_answer", method="DELETE", path="/api/v3/orderList", count=1)
    else:
        desk.exchange.arm(
            kind="status", method="DELETE", path="/api/v3/orderList", status=503, code=-1008, phase="before",
            count=1,
        )  # fmt: skip


def test_target_that_fills_before_the_cancel_arrives_is_read_and_nothing_is_sold_twice(desk: Desk) -> None:
    """-2011 says only that nothing is open there: the coins may be gone already."""
    buy_at_limit(desk)
    guard(desk)
    desk.reconcile()
    exit_ = sell_all(desk)
    client()._request_api(  # as if the exchange had sold: the list is gone when our cancel arrives
        "delete", "orderList", True,
        data={"symbol": SYMBOL, "listClientOrderId": leg("stop").intent.list_client_order_id},
    )  # fmt: skip
    client().create_order(
        symbol=SYMBOL,
        side="SELL",
        type="MARKET",
        quantity=str(leg("stop").quantity),
        newClientOrderId="by-hand",
    )

    tasks.execute_approved()
    desk.reconcile()
    desk.refresh_feeds()
    tasks.execute_approved()

    assert OrderCancel.objects.get().status == CancelStatus.REFUSED
    assert leg("stop").exchange_status == "CANCELED"
    ours = Order.objects.filter(intent__proposal=exit_).first()
    assert ours is None or ours.executed_quantity == 0
    assert sum(o["side"] == "SELL" and D(o["executedQty"]) > 0 for o in desk.exchange.orders()) == 1


def test_coins_from_elsewhere_are_not_ours_to_sell(desk: Desk) -> None:
    """The account holds more than the position: by our books no more than the position may be sold."""
    desk.buy()
    desk.exchange.post("/sim/deposit", {"apiKey": desk.exchange.api_key, "asset": "BTC", "amount": "1"})

    assert protection.why_not_sellable(SYMBOL, D("0.5"), clock.now()).startswith("it would sell 0.5")
    assert protection.why_not_sellable(SYMBOL, Position.objects.get().quantity, clock.now()) == ""
