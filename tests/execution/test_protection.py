"""Protection against the real simulator: lists for entries, repair of what is bare, exits, cancels."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from execution import selectors, services, tasks
from execution.contracts import CancelStatus, IntentKind, OrderStatus
from execution.models import (
    ExecutionIntent,
    Fill,
    Order,
    OrderCancel,
    Position,
    ProtectionGap,
)
from execution.selectors import protection
from execution.services import protecting
from market import services as market_services
from market.contracts import Quote
from risk import services as risk
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
D = Decimal


def buy_at_limit(desk: Desk, above: str = "1.0005", **answer: Any) -> Order:
    """An entry at a limit that fills at once, with stop and target."""
    limit = f"{desk.quote(SYMBOL).ask * D(above):.2f}"
    return desk.buy(**{"order_type": "LIMIT", "limit_price": limit, "time_in_force": "IOC", **answer})


def guard(desk: Desk, after: float = 0) -> int:
    return services.guard_positions(exchange=services.gateway(), now=clock.now() + timedelta(seconds=after))


def leg(role: str) -> Order:
    return Order.objects.filter(role=role).order_by("created_at").last()  # type: ignore[return-value]


def there(desk: Desk, client_order_id: str) -> dict[str, Any]:
    (found,) = [o for o in desk.exchange.orders() if o["clientOrderId"] == client_order_id]
    return found


def open_stops(desk: Desk) -> list[dict[str, Any]]:
    return [
        o
        for o in desk.exchange.orders()
        if o["status"] in {"NEW", "PARTIALLY_FILLED"} and o["type"] == "STOP_LOSS"
    ]


def client() -> Any:
    return services.gateway()._client  # type: ignore[attr-defined]


def sell_all(desk: Desk) -> Any:
    return desk.assess(
        desk.propose(
            action="SELL", quote_amount=None, position_share_pct=100, stop_price=None, target_price=None
        )
    )


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


def without(monkeypatch: pytest.MonkeyPatch, **missing: bool) -> None:
    """The symbol's filters with something switched off."""
    from dataclasses import replace

    known = protection.filters_of(SYMBOL)
    assert known is not None
    changed = replace(known, **missing)
    monkeypatch.setattr(selectors, "filters_of", lambda _: changed)
    monkeypatch.setattr(protection, "filters_of", lambda _: changed)


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


def see_price(desk: Desk, factor: str) -> None:
    quote = desk.quote(SYMBOL)
    moved = Quote(SYMBOL, quote.bid * D(factor), quote.ask * D(factor), D(1), D(1), clock.now())
    market_services.record_quotes(quotes=[moved])


def test_halt_does_not_stop_protection(desk: Desk) -> None:
    desk.buy()
    risk.halt(actor="operator", reason="test", now=clock.now())

    guard(desk)

    assert len(open_stops(desk)) == 1


# --- exits ----------------------------------------------------------------------------------------------


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


def late(desk: Desk) -> None:
    """The earlier cancel was long ago: another one is due."""
    OrderCancel.objects.update(created_at=clock.now() - timedelta(minutes=5))


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
