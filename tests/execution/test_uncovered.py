"""What looks like protection and is none: a stop whose limit was run over, a sale that holds the coins."""

from datetime import timedelta
from decimal import Decimal

import pytest

from execution import services, tasks
from execution.models import Order, OrderCancel, Position, ProtectionGap
from execution.selectors import protection
from tests.desk import SYMBOL, Desk
from tests.execution.protected import (
    buy_at_limit,
    guard,
    leg,
    open_stops,
    see_price,
    without,
)
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def stop_with_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A position whose stop has a limit below its trigger, as where the symbol has no STOP_LOSS."""
    without(monkeypatch, order_types=("LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT"))
    buy_at_limit(desk)
    guard(desk)
    stop = leg("stop")
    assert stop.price is not None and stop.trigger_price is not None and stop.price < stop.trigger_price
    assert Position.objects.get().unprotected_since is None
    return stop


def bid_at(desk: Desk, price: Decimal) -> None:
    see_price(desk, f"{price / desk.quote(SYMBOL).bid:.6f}")


def test_stop_that_was_triggered_above_its_limit_still_covers(desk: Desk, stop_with_limit: Order) -> None:
    bid_at(desk, (stop_with_limit.price or D(0)) * D("1.001"))

    guard(desk)

    assert Position.objects.get().unprotected_since is None
    assert not Alert.objects.filter(kind="stop_run_over").exists()


def test_stop_whose_limit_was_run_over_is_unprotected_and_alarmed_at_once(
    desk: Desk, stop_with_limit: Order
) -> None:
    bid_at(desk, (stop_with_limit.price or D(0)) * D("0.999"))

    guard(desk)

    assert Position.objects.get().unprotected_since is not None
    assert ProtectionGap.objects.get(ended_at=None).quantity > 0
    assert Alert.objects.get(kind="stop_run_over").severity == "critical"
    assert not OrderCancel.objects.exists()


def test_price_that_comes_back_ends_the_gap_and_the_alert(desk: Desk, stop_with_limit: Order) -> None:
    bid_at(desk, (stop_with_limit.price or D(0)) * D("0.999"))
    guard(desk)

    see_price(desk, "1.02")
    guard(desk)

    assert Position.objects.get().unprotected_since is None
    assert Alert.objects.get(kind="stop_run_over").resolved_at is not None


def test_stop_that_stays_run_over_makes_way_for_a_sale_at_market(desk: Desk, stop_with_limit: Order) -> None:
    bid_at(desk, (stop_with_limit.price or D(0)) * D("0.999"))
    guard(desk)
    Position.objects.update(unprotected_since=clock.now() - timedelta(seconds=6))

    guard(desk)
    guard(desk)

    stop_with_limit.refresh_from_db()
    assert stop_with_limit.exchange_status == "CANCELED"
    assert leg("close").exchange_status == "FILLED"
    assert protection.cover(Position.objects.get(), []).exposed == 0


def test_sale_that_rests_leaves_the_position_unprotected_counted_and_alarmed(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    desk.reconcile()
    high = f"{desk.quote(SYMBOL).ask * D('1.05'):.2f}"
    sale = desk.assess(
        desk.propose(
            action="SELL", quote_amount=None, position_share_pct=100, stop_price=None, target_price=None,
            order_type="LIMIT", time_in_force="GTC", limit_price=high,
        )
    )  # fmt: skip
    tasks.execute_approved()
    assert Order.objects.get(intent__proposal=sale).exchange_status == "NEW"
    assert open_stops(desk) == []

    guard(desk, 61)

    position = Position.objects.get()
    assert position.unprotected_since is not None
    alert = Alert.objects.get(kind="position_unprotected")
    assert "holds the coins" in alert.detail
    services.cancel_intent(
        intent=Order.objects.get(intent__proposal=sale).intent, exchange=services.gateway(), why="operator",
        actor="test", now=clock.now(),
    )  # fmt: skip
    guard(desk)
    guard(desk)
    assert len(open_stops(desk)) == 1
    assert Position.objects.get().seconds_unprotected > 0
