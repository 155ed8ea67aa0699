"""Protection against the real simulator: entries go with it, and what is bare is repaired."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from execution import services
from execution.contracts import IntentKind, OrderStatus
from execution.models import (
    ExecutionIntent,
    Order,
    Position,
    ProtectionGap,
)
from execution.services import protecting
from market.models import Instrument
from risk import services as risk
from tests.desk import SYMBOL, Desk
from tests.execution.protected import buy_at_limit, client, guard, leg, open_stops, see_price, there, without
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
D = Decimal


# --- entries --------------------------------------------------------------------------------------------


def test_entry_at_a_limit_is_protected_from_its_first_moment(desk: Desk) -> None:
    order = buy_at_limit(desk)
    guard(desk)

    position = Position.objects.get(symbol=SYMBOL)
    assert (order.intent.list_kind, order.exchange_status) == ("OPOCO", "FILLED")
    assert (leg("stop").exchange_status, leg("target").exchange_status) == ("NEW", "NEW")
    assert len(desk.exchange.orders()) == 3
    assert position.unprotected_since is None
    assert position.protected_since is not None
    assert position.seconds_unprotected < 1


def test_stop_and_target_stand_where_they_were_approved_for_all_that_was_bought(desk: Desk) -> None:
    order = buy_at_limit(desk)
    guard(desk)

    stop, target = there(desk, leg("stop").client_order_id), there(desk, leg("target").client_order_id)
    assert D(stop["stopPrice"]) == order.intent.stop_price
    assert D(target["price"]) == order.intent.target_price
    kept = Position.objects.get(symbol=SYMBOL).quantity
    assert D(0) <= kept - D(stop["origQty"]) < D("0.00001")
    assert leg("stop").quantity == D(stop["origQty"])


def test_symbol_without_opo_gets_the_quantity_after_fees(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, opo_allowed=False)

    order = buy_at_limit(desk)
    guard(desk)

    assert order.intent.list_kind == "OTOCO"
    assert leg("stop").exchange_status == "NEW"
    assert Position.objects.get(symbol=SYMBOL).unprotected_since is None


def test_stop_alone_goes_along_where_there_is_no_oco(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, oco_allowed=False)

    order = buy_at_limit(desk)
    guard(desk)

    assert order.intent.list_kind == "OPO"
    assert leg("stop").exchange_status == "NEW"
    assert not Order.objects.filter(role="target").exists()


def test_market_entry_is_protected_by_the_next_look(desk: Desk) -> None:
    order = desk.buy()
    assert order.intent.list_kind == ""

    assert guard(desk) == 1

    intent = ExecutionIntent.objects.get(kind=IntentKind.PROTECTION)
    assert (intent.list_kind, intent.proposal_id) == ("OCO", order.intent.proposal_id)
    assert len(open_stops(desk)) == 1
    gap = ProtectionGap.objects.get()
    assert gap.ended_at is not None
    position = Position.objects.get(symbol=SYMBOL)
    assert position.seconds_unprotected >= 0
    assert position.unprotected_since is None


def test_looking_again_protects_nothing_twice(desk: Desk) -> None:
    desk.buy()
    for _ in range(4):
        guard(desk)

    assert len(open_stops(desk)) == 1
    assert ExecutionIntent.objects.filter(kind=IntentKind.PROTECTION).count() == 1


def test_second_entry_is_protected_beside_the_first(desk: Desk) -> None:
    buy_at_limit(desk)
    desk.reconcile()
    desk.buy()
    guard(desk)

    assert len(open_stops(desk)) == 2
    held = Position.objects.get(symbol=SYMBOL).quantity
    assert D(0) <= held - sum(D(o["origQty"]) for o in open_stops(desk)) < D("0.00003")


def test_reconciliation_with_resting_legs_is_clean(desk: Desk) -> None:
    buy_at_limit(desk)
    desk.buy()
    guard(desk)

    run = desk.reconcile()

    assert (run.status, run.divergence_count) == ("clean", 0)


def test_entry_whose_legs_the_exchange_would_refuse_is_not_sent(desk: Desk) -> None:
    order = buy_at_limit(desk, target_price=f"{desk.quote(SYMBOL).mid * 12:.2f}")

    assert order.status == OrderStatus.ABORTED
    assert "the target leg" in order.reason
    assert desk.exchange.orders() == []
    assert set(Order.objects.values_list("status", flat=True)) == {"aborted"}


def test_switched_off_an_entry_goes_alone_and_nothing_is_repaired(desk: Desk, settings: Any) -> None:
    settings.PROTECT_ON_EXCHANGE = False

    order = buy_at_limit(desk)
    guard(desk)

    assert order.intent.list_kind == ""
    assert len(desk.exchange.orders()) == 1
    assert Position.objects.get(symbol=SYMBOL).unprotected_since is not None


# --- repair ---------------------------------------------------------------------------------------------


def test_pending_legs_rejected_at_their_turn_are_replaced(desk: Desk) -> None:
    desk.exchange.arm(kind="reject_pending", count=1)
    buy_at_limit(desk)

    guard(desk)
    assert leg("stop").exchange_status == "EXPIRED"
    guard(desk)

    assert ExecutionIntent.objects.filter(kind=IntentKind.PROTECTION).count() == 1
    assert len(open_stops(desk)) == 1
    assert Position.objects.get(symbol=SYMBOL).unprotected_since is None


def test_protection_cancelled_behind_our_back_is_found_and_replaced(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    client()._request_api(
        "delete", "orderList", True,
        data={"symbol": SYMBOL, "listClientOrderId": leg("stop").intent.list_client_order_id},
    )  # fmt: skip
    assert open_stops(desk) == []

    desk.reconcile()
    assert Position.objects.get(symbol=SYMBOL).unprotected_since is not None
    guard(desk)

    assert len(open_stops(desk)) == 1


def test_entry_filled_in_part_is_cut_short_and_what_is_held_is_protected(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.exchange.arm(kind="partial_fill", fraction=0.5, seconds=600, count=1)
    order = buy_at_limit(desk, time_in_force="GTC", quote_amount="40")
    assert order.exchange_status == "PARTIALLY_FILLED"
    guard(desk)
    assert there(desk, order.client_order_id)["status"] == "PARTIALLY_FILLED"
    monkeypatch.setattr(protecting, "PARTIAL_ENTRY_GRACE", timedelta())

    guard(desk)
    assert there(desk, order.client_order_id)["status"] == "CANCELED"
    guard(desk)

    (stop,) = open_stops(desk)
    held = Position.objects.get(symbol=SYMBOL).quantity
    assert D(0) <= held - D(stop["origQty"]) < D("0.00001")


def test_attempts_to_protect_are_bounded_and_then_alarmed(desk: Desk) -> None:
    desk.buy()
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/orderList", status=400, code=-2010,
        msg="Account has insufficient balance for requested action.", phase="before", count=99,
    )  # fmt: skip

    for seconds in range(0, 300, 5):
        guard(desk, after=seconds)

    assert ExecutionIntent.objects.filter(kind=IntentKind.PROTECTION).count() == 6
    assert Alert.objects.filter(kind="protection_failed", severity="critical", resolved_at=None).exists()
    assert Alert.objects.filter(kind="position_unprotected", severity="critical", resolved_at=None).exists()
    assert [o["type"] for o in desk.exchange.orders()] == ["MARKET"]


def test_alerts_end_when_protection_stands(desk: Desk) -> None:
    desk.buy()
    services.watch_position(symbol=SYMBOL, now=clock.now() + timedelta(seconds=60))
    assert Alert.objects.filter(kind="position_unprotected", resolved_at=None).exists()

    guard(desk)

    assert len(open_stops(desk)) == 1
    assert not Alert.objects.filter(kind="position_unprotected", resolved_at=None).exists()


def test_refused_protection_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.buy()
    monkeypatch.setattr(protecting, "ATTEMPT_SECONDS", (0, 0, 0))
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/orderList", status=400, code=-2010, msg="x",
        phase="before", count=1,
    )  # fmt: skip

    guard(desk)
    assert open_stops(desk) == []
    guard(desk)

    assert len(open_stops(desk)) == 1


def test_protection_stands_on_the_tick_that_the_exchange_has_made_coarser(desk: Desk) -> None:
    desk.buy()
    position = Position.objects.get(symbol=SYMBOL)
    stop, target = D("0.5") + int(position.stop_price or 0), D("0.5") + int(position.target_price or 0)
    Position.objects.update(stop_price=stop, target_price=target)
    instrument = Instrument.objects.get(symbol=SYMBOL)
    (rule,) = [rule for rule in instrument.raw["filters"] if rule["filterType"] == "PRICE_FILTER"]
    rule["tickSize"] = "1.00"
    instrument.save()

    guard(desk)

    [standing] = open_stops(desk)
    assert D(standing["stopPrice"]) == stop + D("0.5")
    assert {D(o["price"]) for o in desk.exchange.orders() if o["type"] == "LIMIT_MAKER"} == {
        target - D("0.5")
    }
    assert not Alert.objects.filter(kind="protection_failed", resolved_at=None).exists()


def test_while_the_fate_of_a_protection_is_unknown_no_second_one_is_sent(desk: Desk) -> None:
    desk.buy()
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/orderList", count=1)
    guard(desk)

    for seconds in (1, 5, 20, 60):
        guard(desk, after=seconds)

    assert ExecutionIntent.objects.filter(kind=IntentKind.PROTECTION).count() == 1
    assert len(open_stops(desk)) == 1


def test_stop_whose_price_has_passed_is_carried_out_at_market(desk: Desk) -> None:
    desk.buy()
    see_price(desk, "0.95")

    guard(desk)

    sold = leg("close")
    assert (sold.exchange_status, sold.intent.kind) == ("FILLED", "protection")
    assert open_stops(desk) == []


def test_halt_does_not_stop_protection(desk: Desk) -> None:
    desk.buy()
    risk.halt(actor="operator", reason="test", now=clock.now())

    guard(desk)

    assert len(open_stops(desk)) == 1
