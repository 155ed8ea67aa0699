"""Events of one order are folded together: one outcome in any sequence, at a cost that does not grow with them."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution import services
from execution.contracts import OrderStatus
from execution.models import Fill, Order, OrderLifecycleEvent, Position
from execution.services import applying
from market.models import AccountEvent
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
AT_MS = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp() * 1000)
ORDER_ID, PRICE = 700_001, Decimal(60_000)


@pytest.fixture
def unanswered(desk: Desk) -> Order:
    """An order of unknown fate, of which the exchange's stream will tell."""
    desk.exchange.arm(kind="status", method="POST", path="/api/v3/order", status=503, phase="before", count=1)
    order = desk.buy()
    assert order.status == OrderStatus.UNKNOWN
    return order


def told(order: Order, parts: int) -> list[dict[str, Any]]:
    """What the stream tells of an order that is filled in `parts`: NEW, then its trades."""
    part = (order.quantity / parts).quantize(Decimal("1E-8"))
    events = []
    for turn in range(parts + 1):
        done = order.quantity if turn == parts else part * turn
        last = done - part * (turn - 1) if turn else Decimal(0)
        events.append(
            {
                "e": "executionReport", "E": AT_MS + turn, "s": SYMBOL, "c": order.client_order_id, "C": "",
                "S": "BUY", "o": "MARKET", "f": "GTC", "q": f"{order.quantity:f}", "p": "0", "i": ORDER_ID,
                "x": "TRADE" if turn else "NEW",
                "X": "NEW" if not turn else "FILLED" if turn == parts else "PARTIALLY_FILLED", "r": "NONE",
                "l": f"{last:f}", "z": f"{done:f}", "L": f"{PRICE}", "n": "0.01", "N": "USDT",
                "T": AT_MS + turn, "t": 900_000 + turn, "m": False, "Z": f"{done * PRICE:f}",
                "Y": f"{last * PRICE:f}",
            }
        )  # fmt: skip
    return events


@pytest.mark.parametrize("seed", range(3))
def test_events_in_any_sequence_and_repeated_come_to_one_order_and_position(
    desk: Desk, unanswered: Order, seed: int
) -> None:
    rng = random.Random(seed)
    events = told(unanswered, 5)
    for number, event in enumerate(rng.sample(events * 2, len(events) * 2)):
        desk.hear(event | {"E": AT_MS + number})
        desk.hear({"u": AT_MS + number, "B": [{"a": "USDT", "f": "5", "l": "1"}]}, "outboundAccountPosition")

    assert services.fold_pending_events(now=clock.now()) == AccountEvent.objects.count()

    unanswered.refresh_from_db()
    position = Position.objects.get(symbol=SYMBOL)
    assert (unanswered.status, unanswered.exchange_status) == (OrderStatus.CONFIRMED, "FILLED")
    assert unanswered.executed_quantity == unanswered.quantity == position.quantity
    assert unanswered.reserved_quote == 0
    assert position.cost_quote == unanswered.quantity * PRICE + Decimal("0.05")
    assert Fill.objects.filter(order=unanswered).count() == 5
    assert OrderLifecycleEvent.objects.filter(order=unanswered, source="stream").count() == 6


def test_more_trades_of_an_order_cost_no_more_statements(desk: Desk, unanswered: Order) -> None:
    reports = [applying.rules.report_of_event(event) for event in told(unanswered, 40)]

    with CaptureQueriesContext(connection) as few:
        applying.apply_reports(reports=reports[:4], now=clock.now())
    with CaptureQueriesContext(connection) as many:
        applying.apply_reports(reports=reports[4:], now=clock.now())

    assert len(many) <= len(few)


def test_event_that_cannot_be_booked_holds_up_neither_its_order_nor_the_rest(
    desk: Desk, unanswered: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = applying._fold

    def fail_at_the_second(order: Order, reports: Any, now: datetime) -> None:
        if any(fill.trade_id == 900_002 for report in reports for fill in report.fills):
            raise ArithmeticError("cannot be booked")
        fold(order, reports, now)

    monkeypatch.setattr(applying, "_fold", fail_at_the_second)
    for event in told(unanswered, 3):
        desk.hear(event)

    assert services.fold_pending_events(now=clock.now()) == 3

    assert set(Fill.objects.values_list("trade_id", flat=True)) == {900_001, 900_003}
    assert AccountEvent.objects.get(folded_at=None).payload["t"] == 900_002
    assert Alert.objects.get(kind="account_event_stuck").severity == "critical"
    assert Order.objects.get(pk=unanswered.pk).exchange_status == "FILLED"
