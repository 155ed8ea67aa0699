"""A person answers for an order of unknown fate: checked with the exchange, once, against the page that was seen."""

from datetime import timedelta
from typing import Any

import pytest

from execution import selectors, services
from execution.contracts import AnswerRefused, OrderStatus, RequestKind
from execution.models import Divergence, Fill, OperatorRequest, Order, Position, Probe
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
FILLED, ABSENT = RequestKind.CONFIRM_FILLED, RequestKind.CONFIRM_ABSENT


def lost_answer(desk: Desk) -> Order:
    """An order that is filled on the exchange and of which we only know that it was sent."""
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/order", count=1)
    return desk.buy()


def lost_request(desk: Desk) -> Order:
    """An order that never reached the exchange, and we do not know it."""
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/order", status=503, code=-1008, phase="before", count=1
    )
    return desk.buy()


def queries_fail(desk: Desk) -> None:
    desk.exchange.arm(kind="status", method="GET", path="/api/v3/order", status=503, phase="before", count=99)


def to_a_person(desk: Desk, order: Order) -> Order:
    """Nobody answers until the deadline."""
    queries_fail(desk)
    for seconds in range(10, 700, 40):
        services.probe_unknown(exchange=services.gateway(), now=order.sent_at + timedelta(seconds=seconds))
    desk.exchange.disarm()
    order.refresh_from_db()
    assert order.status == OrderStatus.MANUAL_REVIEW
    return order


def later(order: Order, seconds: float = 800) -> Any:
    assert order.sent_at is not None
    return order.sent_at + timedelta(seconds=seconds)


def ask(order: Order, answer: RequestKind, **values: Any) -> OperatorRequest:
    stated: dict[str, Any] = {
        "order_id": order.pk, "version": order.version, "answer": answer, "reason": "looked it up",
        "actor": "ana", "now": later(order),
    }  # fmt: skip
    return services.ask_review(**(stated | values))


def carry_out(order: Order, seconds: float = 801) -> OperatorRequest:
    services.carry_out_requests(exchange=services.gateway(), now=later(order, seconds))
    order.refresh_from_db()
    return OperatorRequest.objects.latest("id")


def trade_ids(desk: Desk) -> list[int]:
    return [row["id"] for row in services.gateway()._client.get_my_trades(symbol=SYMBOL)]


def test_named_trades_of_the_exchange_confirm_the_order_and_are_booked(desk: Desk) -> None:
    order = to_a_person(desk, lost_answer(desk))

    ask(order, FILLED, trade_ids=trade_ids(desk))
    request = carry_out(order)

    assert request.succeeded, request.detail
    assert (order.status, order.exchange_status) == (OrderStatus.CONFIRMED, "FILLED")
    assert Fill.objects.filter(order=order).count() == len(trade_ids(desk))
    assert Position.objects.get(symbol=SYMBOL).quantity > 0
    assert not Alert.objects.filter(kind="manual_review", resolved_at=None).exists()
    assert desk.reconcile().status == "clean"


def test_order_that_only_the_trades_tell_of_is_confirmed_from_them(desk: Desk) -> None:
    order = to_a_person(desk, lost_answer(desk))
    desk.exchange.arm(
        kind="status", method="GET", path="/api/v3/order", status=400, code=-2013, phase="before", count=9
    )

    ask(order, FILLED, trade_ids=trade_ids(desk))
    request = carry_out(order)

    assert request.succeeded, request.detail
    assert order.status == OrderStatus.CONFIRMED


def test_trade_that_the_exchange_does_not_have_confirms_nothing(desk: Desk) -> None:
    order = to_a_person(desk, lost_answer(desk))

    ask(order, FILLED, trade_ids=[*trade_ids(desk), 999_999])
    request = carry_out(order)

    assert not request.succeeded
    assert "do not hold 999999" in request.detail
    assert order.status == OrderStatus.MANUAL_REVIEW
    assert not Fill.objects.exists()


def test_trades_of_a_foreign_order_are_not_ours(desk: Desk) -> None:
    order = to_a_person(desk, lost_request(desk))
    services.gateway()._client.create_order(
        symbol=SYMBOL, side="BUY", type="MARKET", quoteOrderQty="50", newClientOrderId="by-hand"
    )

    ask(order, FILLED, trade_ids=trade_ids(desk))
    request = carry_out(order)

    assert not request.succeeded
    assert "carries the id by-hand" in request.detail
    assert order.status == OrderStatus.MANUAL_REVIEW


def test_absence_is_confirmed_when_the_exchange_does_not_know_it(desk: Desk) -> None:
    order = to_a_person(desk, lost_request(desk))

    ask(order, ABSENT)
    request = carry_out(order)

    assert request.succeeded, request.detail
    assert (order.status, order.reserved_quote) == (OrderStatus.NOT_PLACED, 0)
    assert order.reason == "looked it up"


def test_order_that_the_exchange_has_is_never_confirmed_absent(desk: Desk) -> None:
    order = to_a_person(desk, lost_answer(desk))

    ask(order, ABSENT)
    request = carry_out(order)

    assert not request.succeeded
    assert "Not absent: the exchange has it" in request.detail
    assert order.status == OrderStatus.CONFIRMED


def test_absence_cannot_be_confirmed_before_the_grace_after_the_instant(desk: Desk) -> None:
    order = lost_request(desk)
    due = services.absence_may_be_confirmed_at(order)

    with pytest.raises(AnswerRefused, match="may still turn up") as refusal:
        ask(order, ABSENT, now=due - timedelta(seconds=1))

    assert refusal.value.code == "TOO_EARLY"
    assert due > services.conclusive_instant(order)
    assert ask(order, ABSENT, now=due).kind == ABSENT


def test_exchange_that_does_not_answer_changes_nothing(desk: Desk) -> None:
    order = to_a_person(desk, lost_request(desk))
    queries_fail(desk)

    ask(order, ABSENT)
    request = carry_out(order)

    assert not request.succeeded
    assert "gave no answer" in request.detail
    assert order.status == OrderStatus.MANUAL_REVIEW
    assert order.reserved_quote > 0


def test_second_answer_is_refused_with_who_and_when(desk: Desk) -> None:
    order = to_a_person(desk, lost_request(desk))
    ask(order, ABSENT)

    with pytest.raises(AnswerRefused, match=r"ana asked to confirm it absent at \d\d:\d\d:\d\d UTC"):
        ask(order, FILLED, trade_ids=[1], actor="bob")
    carry_out(order)
    with pytest.raises(AnswerRefused, match=r"not placed by ana at .* UTC: looked it up") as refusal:
        ask(order, ABSENT, actor="bob")

    assert refusal.value.code == "ALREADY_DECIDED"
    assert OperatorRequest.objects.count() == 1


def test_answer_to_an_old_page_is_refused(desk: Desk) -> None:
    order = to_a_person(desk, lost_request(desk))

    with pytest.raises(AnswerRefused, match="manual review required by saga") as refusal:
        ask(order, ABSENT, version=order.version - 1)

    assert refusal.value.code == "STALE_PAGE"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"reason": "  "}, "NO_REASON"),
        ({"reason": "x" * 301}, "LONG_REASON"),
        ({"trade_ids": []}, "NO_TRADES"),
    ],
)
def test_incomplete_answer_is_refused(desk: Desk, values: dict[str, Any], code: str) -> None:
    order = to_a_person(desk, lost_request(desk))

    with pytest.raises(AnswerRefused) as refusal:
        ask(order, FILLED, **({"trade_ids": [1]} | values))

    assert refusal.value.code == code


def test_watching_goes_on_asking_and_comes_back_to_a_person_when_nothing_is_found(desk: Desk) -> None:
    order = to_a_person(desk, lost_request(desk))
    services.keep_watching(
        order_id=order.pk, version=order.version, reason="their status page", actor="ana", now=later(order)
    )
    asked = order.probes.count()
    queries_fail(desk)

    services.probe_unknown(exchange=services.gateway(), now=later(order, 860))
    order.refresh_from_db()
    assert (order.status, order.probes.count()) == (OrderStatus.UNKNOWN, asked + 1)

    services.probe_unknown(exchange=services.gateway(), now=later(order, 1500))
    order.refresh_from_db()
    assert order.status == OrderStatus.MANUAL_REVIEW


def test_watched_order_that_the_exchange_tells_of_is_confirmed(desk: Desk) -> None:
    order = to_a_person(desk, lost_answer(desk))
    services.keep_watching(
        order_id=order.pk, version=order.version, reason="wait", actor="ana", now=later(order)
    )

    services.probe_unknown(exchange=services.gateway(), now=later(order, 801))

    order.refresh_from_db()
    assert order.status == OrderStatus.CONFIRMED


def test_worker_lost_with_a_request_leaves_it_to_the_next(desk: Desk) -> None:
    order = to_a_person(desk, lost_request(desk))
    request = ask(order, ABSENT)
    OperatorRequest.objects.filter(pk=request.pk).update(taken_at=later(order, 801))

    assert services.carry_out_requests(exchange=services.gateway(), now=later(order, 802)) == 0
    assert carry_out(order, 900).succeeded


def test_probes_keep_the_raw_answer(desk: Desk) -> None:
    order = lost_answer(desk)

    services.probe_unknown(exchange=services.gateway(), now=later(order, 3))

    raw = Probe.objects.filter(order=order, answer="found").get().raw
    assert raw["clientOrderId"] == order.client_order_id
    assert raw["status"] == "FILLED"


@pytest.mark.parametrize("concluded", [OrderStatus.REJECTED, OrderStatus.NOT_PLACED])
def test_order_that_we_gave_up_and_the_exchange_has_is_taken_over_and_reported(
    desk: Desk, concluded: OrderStatus
) -> None:
    """The exchange's record wins: such an order stayed REJECTED for ever, with a position nobody saw."""
    order = desk.buy()
    wrong = {"status": concluded, "exchange_order_id": None, "exchange_status": "", "reserved_quote": 0}
    Order.objects.filter(pk=order.pk).update(**wrong, executed_quantity=0, cumulative_quote=0)

    desk.reconcile()

    order.refresh_from_db()
    assert (order.status, order.exchange_status) == (OrderStatus.CONFIRMED, "FILLED")
    found = Divergence.objects.get(kind="order_missing_here")
    assert (found.ours["status"], found.outcome) == (concluded, "posted")
    assert Alert.objects.filter(kind="conclusion_overturned", severity="critical").exists()


def test_open_order_that_we_gave_up_reserves_its_worst_again(desk: Desk) -> None:
    bid = desk.quote(SYMBOL).bid
    order = desk.buy(
        order_type="LIMIT", time_in_force="GTC", limit_price=f"{bid * 98 / 100:.2f}",
        stop_price=f"{bid * 95 / 100:.2f}", target_price=f"{bid * 110 / 100:.2f}",
    )  # fmt: skip
    reserved = order.reserved_quote
    Order.objects.filter(pk=order.pk).update(
        status=OrderStatus.NOT_PLACED, exchange_order_id=None, exchange_status="", reserved_quote=0
    )

    desk.reconcile()

    order.refresh_from_db()
    assert order.exchange_status == "NEW"
    assert order.reserved_quote == reserved > 0
    assert selectors.portfolio(now=clock.now()).open_order_count == 1
