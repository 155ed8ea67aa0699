"""An operator puts a resting entry at another price: cancelled and placed, each once, never more than approved."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from execution import selectors, services
from execution.contracts import AnswerRefused, CancelStatus, IntentKind, OrderStatus
from execution.models import ExecutionIntent, OperatorRequest, Order, OrderCancel
from execution.rules import replacing
from proposals.contracts import OrderType, QuantisedOrder, Side, TimeInForce
from proposals.models import Proposal
from risk import services as risk
from tests.desk import SYMBOL, Desk
from tests.execution.test_operating import carry_out, resting
from tradingbot.core import clock
from tradingbot.operations.roles import ensure_roles

D = Decimal


@pytest.fixture
def people(db: None) -> None:
    """One of each role."""
    ensure_roles()
    for role in ("viewer", "operator", "risk_manager"):
        user = get_user_model().objects.create_user(f"a-{role}")
        user.groups.add(Group.objects.get(name=role))


@pytest.fixture
def entry(desk: Desk, people: None) -> Order:
    order = resting(desk)
    order.refresh_from_db()
    return order


def ask(order: Order, *, pct: str = "0.1", **changes: Any) -> OperatorRequest:
    """Ask for a price `pct` percent above the order's."""
    price = (order.price or D(0)) * (100 + D(pct)) / 100
    wanted = {
        "order_id": order.pk, "version": order.version, "price": price.quantize(D("0.01")),
        "reason": "closer", "actor": "a-operator", "now": clock.now(), **changes,
    }  # fmt: skip
    return services.ask_replace(**wanted)


def open_buys(desk: Desk) -> list[dict[str, Any]]:
    return [o for o in desk.exchange.orders() if o["side"] == "BUY" and o["status"] == "NEW"]


def buys(desk: Desk) -> list[dict[str, Any]]:
    return [o for o in desk.exchange.orders() if o["side"] == "BUY"]


def replacements() -> list[Order]:
    return list(Order.objects.filter(intent__kind=IntentKind.REPLACE, role="order"))


def test_entry_is_cancelled_and_what_is_left_rests_at_the_new_price_with_its_protection(
    desk: Desk, entry: Order
) -> None:
    request = ask(entry)

    for _ in range(3):
        carry_out(desk)

    request.refresh_from_db()
    entry.refresh_from_db()
    [placed] = replacements()
    approved = Proposal.objects.get()
    assert request.succeeded, request.detail
    assert (entry.exchange_status, entry.reserved_quote) == ("CANCELED", 0)
    assert [D(o["price"]) for o in open_buys(desk)] == [request.price] == [placed.price]
    assert placed.client_order_id == f"{entry.client_order_id}r01"
    assert placed.quantity * placed.price <= (approved.notional_quote or 0)
    assert placed.quantity <= entry.quantity
    assert set(placed.intent.orders.values_list("role", flat=True)) == {"order", "stop", "target"}
    assert placed.reserved_quote > 0
    assert desk.reconcile().status == "clean"


def test_replacement_can_be_replaced_again(desk: Desk, entry: Order) -> None:
    ask(entry)
    carry_out(desk)
    [first] = replacements()

    ask(first, pct="-0.1")
    carry_out(desk)

    assert len(open_buys(desk)) == 1
    assert {o.client_order_id[-3:] for o in replacements()} == {"r01", "r02"}


@pytest.mark.parametrize("seconds", [0, 2])
def test_replacement_is_replaced_although_it_was_asked_for_by_a_clock_that_lags(
    desk: Desk, entry: Order, seconds: int
) -> None:
    """What was placed for a request is known by the request, not by the clocks of two machines."""
    ask(entry)
    carry_out(desk)
    [first] = replacements()

    request = ask(first, pct="-0.1", now=first.intent.created_at - timedelta(seconds=seconds))
    carry_out(desk)

    request.refresh_from_db()
    assert {o.client_order_id[-3:] for o in replacements()} == {"r01", "r02"}
    assert request.succeeded, request.detail
    assert [D(o["price"]) for o in open_buys(desk)] == [request.price]


def test_second_intent_for_one_request_is_refused_by_the_database(desk: Desk, entry: Order) -> None:
    ask(entry)
    carry_out(desk)
    intent = replacements()[0].intent
    intent.pk, intent.client_order_id, intent.list_client_order_id = uuid4(), "tbs-another", ""

    with pytest.raises(IntegrityError, match="operator_request"), transaction.atomic():
        intent.save(force_insert=True)


def test_price_beyond_the_drift_guard_is_refused_and_nothing_is_cancelled(desk: Desk, entry: Order) -> None:
    with pytest.raises(AnswerRefused) as refusal:
        ask(entry, pct="30")

    assert refusal.value.code == "NOT_AT_THAT_PRICE"
    assert not OperatorRequest.objects.exists()
    assert len(open_buys(desk)) == 1


@pytest.mark.parametrize("actor", ["a-viewer", "a-risk_manager", "nobody", ""])
def test_who_may_not_approve_may_not_replace(desk: Desk, entry: Order, actor: str) -> None:
    with pytest.raises(AnswerRefused) as refusal:
        ask(entry, actor=actor)

    assert refusal.value.code == "NOT_PERMITTED"


def test_order_that_two_people_approved_is_not_replaced_by_one(desk: Desk, entry: Order) -> None:
    Proposal.objects.update(approvals_required=2)

    with pytest.raises(AnswerRefused) as refusal:
        ask(entry)

    assert refusal.value.code == "NOT_REPLACEABLE"


def test_halted_desk_replaces_nothing(desk: Desk, entry: Order) -> None:
    request = ask(entry)
    risk.halt(actor="a-operator", reason="stop", now=clock.now())

    carry_out(desk)

    request.refresh_from_db()
    assert not request.succeeded and "HALTED" in request.detail
    assert len(open_buys(desk)) == 1
    with pytest.raises(AnswerRefused):
        ask(entry)


def test_unanswered_cancel_is_found_out_before_anything_is_placed(desk: Desk, entry: Order) -> None:
    request = ask(entry)
    desk.exchange.arm(kind="drop_answer", method="DELETE", path="/api/v3/orderList", count=1)
    carry_out(desk)
    request.refresh_from_db()
    assert request.done_at is None
    assert OrderCancel.objects.get().status == CancelStatus.UNKNOWN
    assert not replacements()

    services.resolve_cancels(exchange=services.gateway(), now=clock.now() + timedelta(seconds=8))
    carry_out(desk)
    carry_out(desk)

    request.refresh_from_db()
    assert request.succeeded, request.detail
    assert len(buys(desk)) == 2
    assert len(open_buys(desk)) == 1


def test_unanswered_placing_is_unknown_and_never_sent_again(desk: Desk, entry: Order) -> None:
    request = ask(entry)
    path = f"/api/v3/{entry.intent.endpoint}"
    desk.exchange.arm(kind="drop_answer", method="POST", path=path, count=1)

    for _ in range(3):
        carry_out(desk)

    [placed] = replacements()
    request.refresh_from_db()
    assert placed.status == OrderStatus.UNKNOWN
    assert not request.succeeded and "execution_unknown" in request.detail
    services.probe_unknown(exchange=services.gateway(), now=clock.now() + timedelta(seconds=8))
    placed.refresh_from_db()
    assert placed.status == OrderStatus.CONFIRMED
    assert len(buys(desk)) == 2


def test_worker_lost_between_the_halves_places_once(
    desk: Desk, entry: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(entry)

    class Lost(Exception):
        pass

    def die(**_: Any) -> None:
        raise Lost

    with monkeypatch.context() as patched:
        patched.setattr("execution.services.replacing.send_order", die)
        with pytest.raises(Lost):
            carry_out(desk)
    services.abort_stale_intents(now=clock.now() + timedelta(seconds=30))
    carry_out(desk, after=100)

    request.refresh_from_db()
    [placed] = replacements()
    assert placed.status == OrderStatus.ABORTED
    assert request.succeeded is False
    assert open_buys(desk) == []
    assert placed.reserved_quote == 0


def test_entry_that_ended_otherwise_is_not_placed_again(desk: Desk, entry: Order) -> None:
    request = ask(entry)
    services.cancel_intent(
        intent=entry.intent, exchange=services.gateway(), why="operator", actor="else", now=clock.now()
    )

    carry_out(desk)

    request.refresh_from_db()
    assert not request.succeeded and "has ended as CANCELED" in request.detail
    assert not ExecutionIntent.objects.filter(kind=IntentKind.REPLACE).exists()


def test_second_request_for_the_same_order_is_refused(desk: Desk, entry: Order) -> None:
    ask(entry)

    with pytest.raises(AnswerRefused) as refusal:
        ask(entry)

    assert refusal.value.code == "ALREADY_ASKED"


def test_replacement_is_an_entry_that_a_kill_would_cancel_and_counts_as_an_order_sent(
    desk: Desk, entry: Order
) -> None:
    before = selectors.portfolio(now=clock.now()).orders_last_minute
    ask(entry)
    carry_out(desk)

    assert [o.pk for o in selectors.open_entries()] == [o.pk for o in replacements()]
    assert selectors.portfolio(now=clock.now()).orders_last_minute == before + 1


# --- pure ---
amounts = st.decimals("0.001", "50", places=5)
prices = st.decimals("1", "90000", places=2)


@given(amounts, prices, prices, st.integers(0, 100))
def test_the_rest_is_never_more_coins_or_money_than_were_approved(
    quantity: Decimal, price: Decimal, new_price: Decimal, done_pct: int
) -> None:
    notional = quantity * price
    approved = QuantisedOrder(
        symbol=SYMBOL, side=Side.BUY, order_type=OrderType.LIMIT, time_in_force=TimeInForce.GTC,
        quantity=quantity, price=price, stop_price=None, target_price=None, reference_price=price,
        worst_price=price, notional_quote=notional, fee_quote=notional / 1000,
    )  # fmt: skip
    executed, spent = quantity * done_pct / 100, notional * done_pct / 100

    rest = replacing.rest_at(
        approved,
        new_price,
        executed=executed,
        spent_quote=spent,
        filters=_Filters(),  # type: ignore[arg-type]
    )

    if rest is not None:
        assert executed + rest.quantity <= quantity
        assert spent + rest.quantity * new_price <= notional
        assert rest.quantity % D("0.00001") == 0


class _Filters:
    quantity_step = D("0.00001")
