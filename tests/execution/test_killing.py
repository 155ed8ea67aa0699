"""The kill with its scopes against the real simulator: what each ends, what it leaves, when it took effect."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks

from execution import selectors, services
from execution.contracts import OrderStatus
from execution.models import OperatorRequest, Order, OrderCancel
from risk import selectors as risk_selectors
from risk import services as risk
from risk.contracts import ControlRefused, KillScope, KillStatus, TradingState
from risk.models import Kill
from tests.desk import SYMBOL, Desk
from tests.execution.protected import buy_at_limit, guard, open_stops, sell_all
from tests.execution.test_operating import carry_out, resting, sold
from tradingbot.core import audit, clock
from tradingbot.core.models import Alert
from tradingbot.operations.roles import ensure_roles

pytestmark = pytest.mark.django_db
OPERATOR = "a-operator"


@pytest.fixture(autouse=True)
def operator(db: None) -> None:
    ensure_roles()
    user = get_user_model().objects.create_user(OPERATOR)
    user.groups.add(Group.objects.get(name="operator"))


def halt(scope: KillScope) -> Kill:
    risk.halt(actor=OPERATOR, reason="a drill", now=clock.now(), scope=scope)
    return Kill.objects.latest("pk")


def work(desk: Desk, kill: Kill) -> Kill:
    """One sweep of the trading worker over kills."""
    desk.refresh_feeds()
    services.carry_out_kills(exchange=services.gateway(), now=clock.now())
    kill.refresh_from_db()
    return kill


def eth_prices(desk: Desk) -> dict[str, str]:
    mid = desk.quote("ETHUSDT").mid
    return {"stop_price": f"{mid * Decimal('0.98'):.2f}", "target_price": f"{mid * Decimal('1.05'):.2f}"}


def claimed_exit(desk: Desk) -> Order:
    """The sale of what is held, committed and not sent yet."""
    guard(desk)
    desk.reconcile()
    exit_ = sell_all(desk)
    services.prepare_exit(proposal_id=exit_.pk, exchange=services.gateway(), now=clock.now())
    return desk.claim(exit_)


def test_stop_leaves_an_open_entry_on_the_exchange(desk: Desk) -> None:
    resting(desk)

    kill = work(desk, halt(KillScope.STOP_ENTRIES))

    assert kill.status == KillStatus.DONE
    assert risk_selectors.trading_state() == TradingState.HALTED
    assert not OrderCancel.objects.exists()


def test_entry_that_was_claimed_before_the_halt_is_not_sent_after_it(desk: Desk) -> None:
    order = desk.claim(desk.assess(desk.propose()))
    halt(KillScope.STOP_ENTRIES)

    services.send_order(order_id=order.pk, now=clock.now())

    order.refresh_from_db()
    assert (order.status, desk.exchange.orders()) == (OrderStatus.ABORTED, [])
    assert order.reserved_quote == 0
    assert "trading control" in order.reason


def test_entry_that_was_claimed_before_a_halt_is_not_sent_once_trading_is_armed_again(desk: Desk) -> None:
    order = desk.claim(desk.assess(desk.propose()))
    halt(KillScope.STOP_ENTRIES)
    desk.arm()

    services.send_order(order_id=order.pk, now=clock.now())

    order.refresh_from_db()
    assert (order.status, desk.exchange.orders()) == (OrderStatus.ABORTED, [])


def test_exit_that_was_claimed_is_sent_while_only_exits_are_ordered(desk: Desk) -> None:
    buy_at_limit(desk)
    sale = claimed_exit(desk)
    risk.set_trading_state(
        state=TradingState.REDUCING, actor="risk-manager", reason="a drill", now=clock.now()
    )

    services.send_order(order_id=sale.pk, now=clock.now())

    sale.refresh_from_db()
    assert (sale.status, sale.exchange_status) == (OrderStatus.CONFIRMED, "FILLED")


def test_exit_that_was_claimed_is_not_sent_after_a_halt(desk: Desk) -> None:
    buy_at_limit(desk)
    sale = claimed_exit(desk)
    halt(KillScope.STOP_ENTRIES)

    services.send_order(order_id=sale.pk, now=clock.now())

    sale.refresh_from_db()
    assert sale.status == OrderStatus.ABORTED


def test_cancel_ends_open_entries_and_keeps_what_protects(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    entry = resting(desk)

    kill = work(desk, halt(KillScope.CANCEL_ENTRIES))

    entry.refresh_from_db()
    assert (kill.status, entry.exchange_status) == (KillStatus.DONE, "CANCELED")
    assert len(open_stops(desk)) == 1
    assert risk_selectors.trading_state() == TradingState.HALTED
    assert [link["action"] for link in audit.history(f"kill:{kill.pk}")] == ["kill.under_way", "kill.done"]


def test_entry_that_was_put_at_another_price_is_cancelled_as_well(desk: Desk) -> None:
    entry = resting(desk)
    services.ask_replace(
        order_id=entry.pk,
        version=entry.version,
        price=(entry.price or 0) + Decimal("1"),
        reason="nearer",
        actor=OPERATOR,
        now=clock.now(),
    )
    carry_out(desk)
    assert [order.intent.kind for order in selectors.open_entries()] == ["replace"]

    kill = work(desk, halt(KillScope.CANCEL_ENTRIES))

    assert kill.status == KillStatus.DONE
    assert {order["status"] for order in desk.exchange.orders()} == {"CANCELED"}


def test_measured_times_and_what_was_found_are_kept(
    desk: Desk, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    resting(desk)
    with django_capture_on_commit_callbacks(execute=True):
        kill = halt(KillScope.CANCEL_ENTRIES)

    work(desk, kill)

    assert kill.switched_ms is not None and kill.effective_ms is not None
    assert 0 <= kill.switched_ms <= kill.effective_ms
    assert (kill.touched["entries"], kill.touched["positions"]) == (1, 0)


def test_cancel_that_gets_no_answer_is_finished_by_a_later_sweep(desk: Desk) -> None:
    resting(desk)
    kill = halt(KillScope.CANCEL_ENTRIES)
    desk.exchange.arm(kind="drop_answer", method="DELETE", path="/api/v3/orderList", count=1)

    assert work(desk, kill).status == KillStatus.UNDER_WAY
    services.resolve_cancels(exchange=services.gateway(), now=clock.now())

    assert work(desk, kill).status == KillStatus.DONE
    assert OrderCancel.objects.count() == 1


def test_switch_stands_while_the_exchange_refuses_every_cancel(desk: Desk) -> None:
    resting(desk)
    kill = halt(KillScope.CANCEL_ENTRIES)
    desk.exchange.arm(
        kind="status", method="DELETE", path="/api/v3/orderList", status=503, code=-1008, phase="before", count=9
    )  # fmt: skip

    assert work(desk, kill).status == KillStatus.UNDER_WAY
    assert risk_selectors.trading_state() == TradingState.HALTED


def test_kill_ends_when_somebody_arms_and_touches_nothing_more(desk: Desk) -> None:
    entry = resting(desk)
    kill = halt(KillScope.CANCEL_ENTRIES)
    desk.arm()

    work(desk, kill)

    entry.refresh_from_db()
    assert (kill.status, entry.exchange_status) == (KillStatus.SUPERSEDED, "NEW")


def test_flatten_sells_each_position_once_and_halts_at_the_end(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    resting(desk)
    kill = halt(KillScope.FLATTEN)
    assert risk_selectors.trading_state() == TradingState.REDUCING

    for _ in range(3):
        work(desk, kill)
        carry_out(desk)
        guard(desk)
    work(desk, kill)

    assert kill.status == KillStatus.DONE
    assert len(sold(desk)) == 1 and open_stops(desk) == []
    assert selectors.sellable_positions() == [] and selectors.open_entries() == []
    assert risk_selectors.trading_state() == TradingState.HALTED


def test_flatten_sells_the_rest_while_the_fate_of_an_entry_is_unknown(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/order", count=1)
    lost = desk.buy(symbol="ETHUSDT", **eth_prices(desk))
    assert lost.status == OrderStatus.UNKNOWN
    kill = halt(KillScope.FLATTEN)

    work(desk, kill)
    carry_out(desk)

    assert work(desk, kill).status == KillStatus.UNDER_WAY
    assert [position.symbol for position in selectors.sellable_positions()] == []
    assert risk_selectors.trading_state() == TradingState.REDUCING


def test_flatten_waits_for_the_trades_of_a_purchase_that_are_not_told_yet(desk: Desk) -> None:
    """A query said that it was filled: what it bought is on nobody's books yet, and is to be sold."""
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/order", count=1)
    bought = desk.buy()
    services.probe_unknown(exchange=services.gateway(), now=clock.now() + timedelta(minutes=1))
    bought.refresh_from_db()
    assert (bought.exchange_status, bought.fills.count()) == ("FILLED", 0)

    kill = work(desk, halt(KillScope.FLATTEN))

    assert (kill.status, risk_selectors.trading_state()) == (KillStatus.UNDER_WAY, TradingState.REDUCING)


def test_flatten_is_refused_while_halted(desk: Desk) -> None:
    risk.halt(actor=OPERATOR, reason="", now=clock.now())

    with pytest.raises(ControlRefused, match="nothing is sold"):
        halt(KillScope.FLATTEN)

    assert risk_selectors.trading_state() == TradingState.HALTED


def test_halt_during_a_flatten_stops_the_selling(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    kill = halt(KillScope.FLATTEN)
    halt(KillScope.STOP_ENTRIES)

    work(desk, kill)

    assert kill.status == KillStatus.SUPERSEDED
    assert not OperatorRequest.objects.exists()


def test_flatten_that_cannot_sell_tells_a_person(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    kill = halt(KillScope.FLATTEN)
    for _ in range(3):
        work(desk, kill)
        OperatorRequest.objects.filter(done_at=None).update(
            done_at=clock.now(), succeeded=False, detail="no answer"
        )

    work(desk, kill)

    assert kill.status == KillStatus.INCOMPLETE
    assert SYMBOL in Alert.objects.get(kind="kill_incomplete").detail


def test_preview_names_entries_positions_and_amounts(desk: Desk) -> None:
    buy_at_limit(desk)
    guard(desk)
    entry = resting(desk)

    found = selectors.kill_preview(now=clock.now())

    assert [order.order_id for order in found.entries] == [str(entry.pk)]
    assert found.entries_quote == entry.reserved_quote > 0
    assert [(p.symbol, p.protections) for p in found.positions] == [(SYMBOL, 1)]
    assert found.positions_quote and found.positions_quote > 0
