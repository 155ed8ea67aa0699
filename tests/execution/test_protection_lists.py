"""Order lists against the real simulator: sent once, found leg by leg, folded from whatever comes first."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from execution import selectors, services
from execution.contracts import OrderStatus
from execution.models import (
    Fill,
    Order,
    Position,
)
from tests.desk import SYMBOL, Desk
from tests.execution.protected import buy_at_limit, guard, leg, there
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
D = Decimal


# --- sent once ------------------------------------------------------------------------------------------


def test_list_is_sent_once_however_often_it_is_asked_for(desk: Desk) -> None:
    order = buy_at_limit(desk)

    for one in selectors.orders_of(order.intent):
        services.send_order(order_id=one.pk, now=clock.now())

    assert len(desk.exchange.orders()) == 3


@pytest.mark.parametrize(
    "fault", [{"kind": "drop_answer"}, {"kind": "status", "status": 504, "code": -1007, "phase": "after"}]
)
def test_list_with_a_lost_answer_is_found_leg_by_leg_and_never_sent_again(
    desk: Desk, fault: dict[str, Any]
) -> None:
    desk.exchange.arm(method="POST", path="/api/v3/orderList", count=1, **fault)
    order = buy_at_limit(desk)
    assert set(Order.objects.values_list("status", flat=True)) == {"execution_unknown"}

    services.probe_unknown(exchange=services.gateway(), now=order.sent_at + timedelta(seconds=5))
    desk.reconcile()
    guard(desk)

    assert set(Order.objects.values_list("status", flat=True)) == {"execution_confirmed"}
    assert (leg("stop").exchange_status, leg("target").exchange_status) == ("NEW", "NEW")
    assert len(desk.exchange.orders()) == 3
    assert Position.objects.get(symbol=SYMBOL).unprotected_since is None


def test_list_that_never_arrived_is_concluded_absent_as_a_whole(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status",
        method="POST",
        path="/api/v3/orderList",
        status=503,
        code=-1008,
        phase="before",
        count=1,
    )
    order = buy_at_limit(desk)

    for seconds in (3, 8, 20, 40, 70, 110):
        services.probe_unknown(exchange=services.gateway(), now=order.sent_at + timedelta(seconds=seconds))

    assert set(Order.objects.values_list("status", flat=True)) == {"not_placed"}
    assert set(Order.objects.values_list("reserved_base", "reserved_quote")) == {(0, 0)}
    assert desk.exchange.orders() == []


def test_leg_hidden_by_a_lag_is_proved_by_its_list(desk: Desk) -> None:
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/orderList", count=1)
    order = buy_at_limit(desk)
    desk.exchange.arm(kind="not_found_lag", method="GET", path="/api/v3/order", seconds=600, count=99)
    desk.exchange.disarm()
    desk.exchange.arm(
        kind="status", method="GET", path="/api/v3/order", status=400, code=-2013,
        msg="Order does not exist.", phase="before", count=1,
    )  # fmt: skip

    services.probe_unknown(exchange=services.gateway(), now=order.sent_at + timedelta(seconds=5))

    assert set(Order.objects.values_list("status", flat=True)) == {"execution_confirmed"}


def test_refused_list_is_refused_whole_and_nothing_stays_reserved(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/orderList", status=400, code=-2010,
        msg="The relationship of the prices for the orders is not correct.", phase="before", count=1,
    )  # fmt: skip

    buy_at_limit(desk)

    assert set(Order.objects.values_list("status", flat=True)) == {"rejected"}
    assert set(Order.objects.values_list("reserved_base", "reserved_quote")) == {(0, 0)}
    assert Alert.objects.filter(kind="order_rejected").count() == 1


def test_worker_lost_before_sending_aborts_the_whole_list(desk: Desk) -> None:
    limit = f"{desk.quote(SYMBOL).ask * D('1.0005'):.2f}"
    order = desk.claim(desk.assess(desk.propose(order_type="LIMIT", limit_price=limit, time_in_force="IOC")))

    assert services.abort_stale_intents(now=clock.now() + timedelta(seconds=10)) == 1

    assert set(Order.objects.values_list("status", flat=True)) == {"aborted"}
    assert services.send_order(order_id=order.pk, now=clock.now()) == OrderStatus.ABORTED
    assert desk.exchange.orders() == []


def test_request_that_differs_from_what_was_committed_is_not_sent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from execution.services import sending

    order = desk.claim(desk.assess(desk.propose()))
    committed = sending.request_of

    def changed(one: Order) -> Any:
        request = committed(one)
        request.parameters["quantity"] = "1"
        return request

    monkeypatch.setattr(sending, "request_of", changed)

    assert services.send_order(order_id=order.pk, now=clock.now()) == OrderStatus.ABORTED
    assert desk.exchange.orders() == []


# --- the fold on real reports ---------------------------------------------------------------------------


def reports_of(desk: Desk) -> list[Callable[[], None]]:
    """Everything the exchange tells of a list: polling of each leg, the list, its listStatus event."""
    order = leg("order")
    name = order.intent.list_client_order_id
    exchange = services.gateway()
    found = [
        exchange.find_order(symbol=SYMBOL, client_order_id=one.client_order_id)
        for one in selectors.orders_of(order.intent)
    ]
    listed = list(exchange.find_list(list_client_order_id=name) or ())
    opened = [r for r in exchange.open_lists() if r.client_order_id.startswith(order.client_order_id)]
    return [
        lambda report=report: services.apply_report(report=report, now=clock.now())  # type: ignore[misc]
        for report in [*found, *listed, *opened]
        if report is not None
    ]


@pytest.mark.parametrize("seed", range(3))
def test_reports_of_a_list_come_to_the_same_orders_in_any_order(desk: Desk, seed: int) -> None:
    import random

    buy_at_limit(desk)
    told = reports_of(desk) * 2
    random.Random(seed).shuffle(told)

    for tell in told:
        tell()

    assert [leg(role).exchange_status for role in ("order", "stop", "target")] == ["FILLED", "NEW", "NEW"]
    assert Fill.objects.filter(order=leg("order")).count() >= 1
    assert leg("stop").quantity == D(there(desk, leg("stop").client_order_id)["origQty"])


def test_list_status_event_proves_the_legs_of_a_list_whose_answer_was_lost(desk: Desk) -> None:
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/orderList", count=1)
    buy_at_limit(desk)
    rows = desk.exchange.orders()
    desk.hear(
        {
            "e": "listStatus", "E": 1, "s": SYMBOL, "g": 1, "c": "OTO", "l": "EXEC_STARTED", "L": "EXECUTING",
            "r": "NONE", "C": leg("order").intent.list_client_order_id,
            "T": clock.to_milliseconds(clock.now()),
            "O": [{"s": SYMBOL, "i": row["orderId"], "c": row["clientOrderId"]} for row in rows],
        },
        "listStatus",
    )  # fmt: skip

    services.fold_pending_events(now=clock.now())

    assert set(Order.objects.values_list("status", flat=True)) == {"execution_confirmed"}
