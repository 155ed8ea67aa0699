"""An operator cancels an order or closes a position: asked once, done by the worker, never sold twice."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from execution import services
from execution.contracts import AnswerRefused, CancelStatus
from execution.models import ExecutionIntent, OperatorRequest, Order, OrderCancel, Position
from risk import services as risk
from tests.desk import SYMBOL, Desk
from tests.execution.protected import buy_at_limit, guard, late, leg, open_stops
from tradingbot.core import audit, clock
from tradingbot.operations.roles import ensure_roles

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture(autouse=True)
def people(db: None) -> None:
    """One of each role."""
    ensure_roles()
    for role in ("viewer", "operator"):
        user = get_user_model().objects.create_user(f"a-{role}")
        user.groups.add(Group.objects.get(name=role))


def carry_out(desk: Desk, after: float = 0) -> None:
    desk.refresh_feeds()
    services.carry_out_requests(exchange=services.gateway(), now=clock.now() + timedelta(seconds=after))


def ask_close(actor: str = "a-operator", **changes: Any) -> OperatorRequest:
    position = Position.objects.filter(symbol=SYMBOL).first()
    wanted = {
        "symbol": SYMBOL, "quantity": position.quantity if position else D(1), "reason": "enough",
        "actor": actor, "now": clock.now(), **changes,
    }  # fmt: skip
    return services.ask_close(**wanted)


def resting(desk: Desk) -> Order:
    """An entry that waits below the market with its stop and target."""
    bid = desk.quote(SYMBOL).bid
    return desk.buy(
        order_type="LIMIT", time_in_force="GTC", limit_price=f"{bid * 98 / 100:.2f}",
        stop_price=f"{bid * 95 / 100:.2f}", target_price=f"{bid * 110 / 100:.2f}",
    )  # fmt: skip


def ask_cancel(order: Order, actor: str = "a-operator") -> OperatorRequest:
    return services.ask_cancel(
        order_id=order.pk, version=order.version, reason="changed my mind", actor=actor, now=clock.now()
    )


def test_answer_to_a_cancel_is_in_the_audit_chain(desk: Desk) -> None:
    order = resting(desk)
    ask_cancel(order)

    carry_out(desk)

    cancel = OrderCancel.objects.get()
    answered = [
        a["payload"] for a in audit.history(f"cancel:{cancel.pk}") if a["action"] == "exchange.answered"
    ]
    assert [sorted(payload) for payload in answered] == [["request_sha256", "response_sha256"]]


def sold(desk: Desk) -> list[dict[str, Any]]:
    return [o for o in desk.exchange.orders() if o["side"] == "SELL" and D(o["executedQty"]) > 0]


def test_cancel_of_a_resting_entry_takes_its_whole_list_away(desk: Desk) -> None:
    order = resting(desk)
    request = ask_cancel(order)

    carry_out(desk)

    request.refresh_from_db()
    assert request.succeeded
    assert {o["status"] for o in desk.exchange.orders()} == {"CANCELED"}
    assert set(Order.objects.values_list("exchange_status", flat=True)) == {"CANCELED"}
    assert OrderCancel.objects.get().status == CancelStatus.DONE


def test_cancel_whose_answer_is_lost_is_finished_when_the_orders_say_so(desk: Desk) -> None:
    request = ask_cancel(resting(desk))
    desk.exchange.arm(kind="drop_answer", method="DELETE", path="/api/v3/orderList", count=1)
    carry_out(desk)
    request.refresh_from_db()
    assert request.done_at is None

    services.resolve_cancels(exchange=services.gateway(), now=clock.now() + timedelta(seconds=8))
    carry_out(desk)

    request.refresh_from_db()
    assert request.succeeded
    assert OrderCancel.objects.count() == 1


def test_leg_that_protects_is_not_cancelled_by_itself(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)

    with pytest.raises(AnswerRefused) as refusal:
        ask_cancel(leg("stop"))

    assert refusal.value.code == "PROTECTS"


def test_order_that_has_ended_cannot_be_cancelled(desk: Desk) -> None:
    order = desk.buy()

    with pytest.raises(AnswerRefused) as refusal:
        ask_cancel(order)

    assert refusal.value.code == "NOT_OPEN"


@pytest.mark.parametrize("actor", ["a-viewer", "nobody", ""])
def test_who_is_no_operator_neither_cancels_nor_closes(desk: Desk, actor: str) -> None:
    order = resting(desk)
    desk.buy()

    for ask in (lambda: ask_cancel(order, actor), lambda: ask_close(actor)):
        with pytest.raises(AnswerRefused) as refusal:
            ask()
        assert refusal.value.code == "NOT_PERMITTED"
    assert not OperatorRequest.objects.exists()


def test_close_cancels_the_protection_and_sells_what_is_held_once(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    request = ask_close()

    for _ in range(3):
        carry_out(desk)
        guard(desk)

    request.refresh_from_db()
    assert request.succeeded, request.detail
    assert len(sold(desk)) == 1
    assert open_stops(desk) == []
    assert Position.objects.get(symbol=SYMBOL).quantity < D("0.00001")
    assert desk.reconcile().status == "clean"


def test_close_waits_for_the_fate_of_its_cancel_and_nothing_is_protected_meanwhile(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    request = ask_close()
    desk.exchange.arm(
        kind="status",
        method="DELETE",
        path="/api/v3/orderList",
        status=503,
        code=-1008,
        phase="before",
        count=1,
    )
    carry_out(desk)
    guard(desk)
    request.refresh_from_db()
    assert request.done_at is None and sold(desk) == []

    services.resolve_cancels(exchange=services.gateway(), now=clock.now() + timedelta(seconds=8))
    late(desk)
    carry_out(desk)

    request.refresh_from_db()
    assert request.succeeded
    assert len(sold(desk)) == 1


def test_close_that_gets_no_certainty_is_given_up(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    request = ask_close()
    desk.exchange.arm(
        kind="status",
        method="DELETE",
        path="/api/v3/orderList",
        status=503,
        code=-1008,
        phase="before",
        count=9,
    )

    carry_out(desk)
    OperatorRequest.objects.update(asked_at=clock.now() - timedelta(seconds=130))
    carry_out(desk)

    request.refresh_from_db()
    assert request.succeeded is False
    assert sold(desk) == []
    assert len(open_stops(desk)) == 1


def test_close_whose_worker_died_after_the_intent_is_not_sold_again(desk: Desk) -> None:
    from execution.services import operating

    desk.buy()
    request = ask_close()
    sale = operating._create_close(request, clock.now())
    services.send_order(order_id=sale.pk, now=clock.now())  # and its worker dies here

    carry_out(desk)

    request.refresh_from_db()
    assert request.succeeded
    assert len(sold(desk)) == 1
    assert ExecutionIntent.objects.filter(kind="close").count() == 1


def test_close_is_refused_while_halted_and_protection_stays(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    risk.halt(actor="operator", reason="test", now=clock.now())

    with pytest.raises(AnswerRefused) as refusal:
        ask_close()

    assert refusal.value.code == "NOT_ARMED"
    assert len(open_stops(desk)) == 1


def test_close_of_another_quantity_than_shown_is_refused(desk: Desk) -> None:
    desk.buy()

    with pytest.raises(AnswerRefused) as refusal:
        ask_close(quantity=D(1))

    assert refusal.value.code == "STALE_PAGE"


def test_close_with_nothing_held_is_refused(desk: Desk) -> None:
    with pytest.raises(AnswerRefused) as refusal:
        ask_close()

    assert refusal.value.code == "NOTHING_HELD"


def test_second_close_is_refused_while_the_first_is_being_carried_out(desk: Desk) -> None:
    desk.buy()
    ask_close()

    with pytest.raises(AnswerRefused) as refusal:
        ask_close()

    assert refusal.value.code == "ALREADY_ASKED"
