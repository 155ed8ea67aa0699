"""The timeline of an order: the exchange's sequence, whatever came to us first."""

from datetime import timedelta
from itertools import pairwise

import pytest

from execution.models import Fill, Order
from execution.panels.orders import timeline
from tests.web import seeding
from tradingbot.core import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def order() -> Order:
    """Filled in two trades, 670 and 1,220 ms after it was sent."""
    now = clock.now()
    seeding.starting_rows(now)
    return seeding.filled_order(seeding.proposal(now, status="approved"), now)


def names(order: Order) -> list[str]:
    order.refresh_from_db()
    return [step.name for step in timeline(order, list(order.fills.order_by("at", "trade_id")))]


def test_acknowledgement_that_came_after_the_fills_stands_before_them(order: Order) -> None:
    Order.objects.update(acknowledged_at=order.created_at + timedelta(seconds=30))

    assert names(order)[-5:] == ["submitted", "ack", "fill", "fill", "filled"]


def test_exchange_whose_clock_is_behind_answers_after_the_request_all_the_same(order: Order) -> None:
    sent = order.created_at + timedelta(seconds=3)
    Order.objects.update(sent_at=sent, acknowledged_at=sent, closed_at=sent)

    steps = timeline(Order.objects.get(), list(Fill.objects.order_by("at", "trade_id")))

    assert [step.name for step in steps][-5:] == ["submitted", "ack", "fill", "fill", "filled"]
    assert all((step.after_ms or 0) >= 0 for step in steps)


def test_trades_of_one_instant_stand_by_their_number(order: Order) -> None:
    fills = list(order.fills.order_by("trade_id"))
    for fill in fills:
        fill.at = fills[0].at

    told = [step.detail for step in timeline(order, fills) if step.name == "fill"]

    assert [text.split()[0] for text in told] == ["0.01", "0.005"]
    assert all(first <= second for first, second in pairwise(s.at for s in timeline(order, fills)[-3:]))
