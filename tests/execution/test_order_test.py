"""`order/test` before the first order of a symbol, when the settings want it."""

from typing import Any

import pytest
from django.test import Client

from execution import services, tasks
from execution.contracts import OrderStatus
from execution.models import Order, OrderTest
from tests.desk import SYMBOL, Desk
from tests.web import seeding
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db


@pytest.fixture
def wanted(settings: Any) -> None:
    settings.ORDER_TEST_FIRST = True


def approved(desk: Desk, **answer: Any) -> None:
    proposal = desk.assess(desk.propose(**answer))
    assert proposal.status == "auto_approved", proposal.refusal


def test_first_order_of_a_symbol_is_tested_and_the_next_is_not(
    desk: Desk, wanted: None, client: Client
) -> None:
    approved(desk)
    tasks.execute_approved()
    tested = OrderTest.objects.get()
    first = Order.objects.get()
    assert (tested.passed, tested.symbol, tested.order) == (True, SYMBOL, first)
    assert first.status == OrderStatus.CONFIRMED
    client.force_login(seeding.operator())
    assert "order/test" in client.get(f"/orders/{first.pk}/").content.decode()

    desk.refresh_feeds()
    approved(desk, symbol="ETHUSDT")
    tasks.execute_approved()

    assert list(OrderTest.objects.order_by("id").values_list("symbol", flat=True)) == [SYMBOL, "ETHUSDT"]
    services.try_first(order_id=first.pk, exchange=services.gateway(), now=clock.now())
    assert OrderTest.objects.count() == 2


@pytest.mark.parametrize(
    "fault",
    [
        {
            "kind": "status",
            "status": 400,
            "code": -1013,
            "msg": "Filter failure: LOT_SIZE",
            "phase": "before",
        },
        {"kind": "status", "status": 503, "code": -1008, "phase": "before"},
        {"kind": "drop_answer"},
    ],
    ids=["refused", "server error", "lost answer"],
)
def test_order_whose_test_did_not_pass_is_not_sent(desk: Desk, wanted: None, fault: dict[str, Any]) -> None:
    desk.exchange.arm(method="POST", path="/api/v3/order/test", count=1, **fault)

    approved(desk)
    tasks.execute_approved()

    order = Order.objects.get()
    assert (order.status, order.reserved_quote) == (OrderStatus.ABORTED, 0)
    assert order.reason.startswith("order/test: ")
    assert not OrderTest.objects.get().passed
    assert desk.exchange.orders() == []
    assert Alert.objects.filter(kind="order_aborted").exists()


def test_nothing_is_tested_unless_the_settings_want_it(desk: Desk) -> None:
    approved(desk)
    tasks.execute_approved()

    assert not OrderTest.objects.exists()
    assert Order.objects.get().status == OrderStatus.CONFIRMED
