"""Lost answers, lost workers and late requests against the real simulator: unknown, and found out by the saga."""

from datetime import timedelta

import pytest

from execution import selectors, services
from execution.contracts import OrderStatus
from execution.models import (
    Probe,
)
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db


def test_lost_answer_becomes_unknown_and_is_found_by_the_saga(desk: Desk) -> None:
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/order", count=1)

    order = desk.buy()

    assert order.status == OrderStatus.UNKNOWN
    assert order.reserved_quote > 0
    assert Alert.objects.filter(kind="execution_unknown", resolved_at=None).exists()
    assert SYMBOL in selectors.portfolio(now=clock.now()).blocked_symbols

    services.probe_unknown(exchange=services.gateway(), now=clock.now() + timedelta(seconds=3))

    order.refresh_from_db()
    assert (order.status, order.exchange_status) == (OrderStatus.CONFIRMED, "FILLED")
    assert len(desk.exchange.orders()) == 1
    assert not Alert.objects.filter(kind="execution_unknown", resolved_at=None).exists()
    assert desk.reconcile().status == "clean"


def test_server_error_after_execution_is_unknown_never_resent(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/order", status=504, code=-1007, phase="after", count=1
    )

    order = desk.buy()
    services.send_order(order_id=order.pk, now=clock.now())

    assert order.status == OrderStatus.UNKNOWN
    assert len(desk.exchange.orders()) == 1


def test_order_that_never_arrived_is_concluded_absent_only_after_the_grace(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/order", status=503, code=-1008, phase="before", count=1
    )
    order = desk.buy()
    assert order.status == OrderStatus.UNKNOWN

    seen = []
    for seconds in (3, 8, 20, 40, 70, 110):
        services.probe_unknown(exchange=services.gateway(), now=order.sent_at + timedelta(seconds=seconds))
        order.refresh_from_db()
        seen.append(str(order.status))

    assert seen[:4] == ["execution_unknown"] * 4
    assert order.status == OrderStatus.NOT_PLACED
    assert order.reserved_quote == 0
    assert desk.exchange.orders() == []
    assert Probe.objects.filter(order=order, answer="absent", method="scan").count() == 1


def test_bot_that_was_down_past_the_deadline_asks_on_before_it_calls_a_person(desk: Desk) -> None:
    desk.exchange.arm(kind="status", method="POST", path="/api/v3/order", status=503, count=1)
    order = desk.buy()

    back = clock.now() + timedelta(hours=1)
    services.probe_unknown(exchange=services.gateway(), now=back)
    order.refresh_from_db()
    assert order.status == OrderStatus.UNKNOWN
    assert order.reserved_quote > 0

    for seconds in (60, 120):
        services.probe_unknown(exchange=services.gateway(), now=back + timedelta(seconds=seconds))
    order.refresh_from_db()
    assert order.status == OrderStatus.NOT_PLACED
    assert order.probes.filter(method="scan", answer="absent").exists()


def test_failed_queries_never_make_an_order_absent_and_a_person_decides(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/order", status=503, code=-1008, phase="before", count=1
    )
    order = desk.buy()
    desk.exchange.arm(kind="status", method="GET", path="/api/v3/order", status=503, phase="before", count=99)

    for seconds in range(10, 700, 40):
        services.probe_unknown(exchange=services.gateway(), now=order.sent_at + timedelta(seconds=seconds))

    order.refresh_from_db()
    assert order.status == OrderStatus.MANUAL_REVIEW
    assert order.reserved_quote > 0
    assert Alert.objects.filter(kind="manual_review", severity="critical", resolved_at=None).exists()


def test_definite_refusal_releases_the_reservation(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status",
        method="POST",
        path="/api/v3/order",
        status=400,
        code=-2010,
        msg="Account has insufficient balance for requested action.",
        phase="before",
        count=1,
    )

    order = desk.buy()

    assert order.status == OrderStatus.REJECTED
    assert order.reserved_quote == 0
    assert "-2010" in order.reason


def test_refused_connection_is_not_placed_not_unknown(desk: Desk) -> None:
    order = desk.claim(desk.assess(desk.propose()))
    desk.exchange.stop()
    try:
        status = services.send_order(order_id=order.pk, now=clock.now())
    finally:
        desk.exchange.start()

    assert status == OrderStatus.NOT_PLACED


def test_worker_lost_after_sending_becomes_unknown_then_confirmed(desk: Desk) -> None:
    """SIGKILL between the answer and its record: the sweep finds the order and the exchange is asked."""
    order = desk.claim(desk.assess(desk.propose()))
    from execution.services import sending

    request = sending.request_of(order)
    sending._begin(selectors.orders_of(order.intent), request, clock.now())
    services.gateway().place_order(request)  # the answer is lost with the worker

    services.mark_silent_sends_unknown(now=clock.now() + timedelta(seconds=60))
    services.probe_unknown(exchange=services.gateway(), now=clock.now() + timedelta(seconds=90))

    order.refresh_from_db()
    assert order.status == OrderStatus.CONFIRMED
    assert len(desk.exchange.orders()) == 1


def test_worker_lost_before_sending_aborts_the_intent(desk: Desk) -> None:
    order = desk.claim(desk.assess(desk.propose()))

    assert services.abort_stale_intents(now=clock.now()) == 0
    assert services.abort_stale_intents(now=clock.now() + timedelta(seconds=10)) == 1

    order.refresh_from_db()
    assert order.status == OrderStatus.ABORTED
    assert services.send_order(order_id=order.pk, now=clock.now()) == OrderStatus.ABORTED
    assert desk.exchange.orders() == []


def test_late_request_is_refused_by_the_exchange_itself(desk: Desk) -> None:
    """The signed timestamp is the claim's: a worker that slept cannot place the order (invariant 8)."""
    order = desk.claim(desk.assess(desk.propose()), now=clock.now() - timedelta(seconds=4))

    services.send_order(order_id=order.pk, now=clock.now())

    order.refresh_from_db()
    assert order.status == OrderStatus.REJECTED
    assert "-1021" in order.reason
    assert desk.exchange.orders() == []
