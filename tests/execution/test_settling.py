"""A person settles divergences; the testnet's wipe is one of them, not a hundred."""

from datetime import timedelta
from typing import Any

import pytest

from execution import selectors, services
from execution.contracts import AnswerRefused, Decision, DivergenceKind, OrderStatus, RequestKind
from execution.models import Account, Divergence, Fill, OperatorRequest, Order, Position, ReconciliationRun
from tests.desk import SYMBOL, Desk
from tests.exchange import SimulatedExchange
from tradingbot.core import audit, clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
ADOPT, IGNORE = Decision.ADOPT, Decision.IGNORE


def settle(divergence: Divergence, decision: Decision, **values: Any) -> Divergence:
    stated: dict[str, Any] = {
        "divergence_id": divergence.pk, "version": divergence.version, "decision": decision,
        "reason": "we know of it", "actor": "ana", "now": clock.now(),
    }  # fmt: skip
    return services.settle_divergence(**(stated | values))


def ask(divergence: Divergence, kind: RequestKind) -> OperatorRequest:
    services.ask_settlement(
        divergence_id=divergence.pk, version=divergence.version, kind=kind, reason="by hand", actor="ana",
        now=clock.now(),
    )  # fmt: skip
    services.carry_out_requests(exchange=services.gateway(), now=clock.now())
    return OperatorRequest.objects.latest("id")


def by_hand(**parameters: str) -> None:
    stated = {"symbol": SYMBOL, "side": "BUY", "newClientOrderId": "by-hand"}
    services.gateway()._client.create_order(**(stated | parameters))


def one_open(kind: DivergenceKind) -> Divergence:
    return Divergence.objects.get(kind=kind, closed_at=None)


def deposit(desk: Desk, amount: str) -> None:
    desk.exchange.post("/sim/deposit", {"apiKey": desk.exchange.api_key, "asset": "USDT", "amount": amount})


def test_adopted_trades_of_a_foreign_order_make_the_balances_agree(desk: Desk) -> None:
    by_hand(type="MARKET", quoteOrderQty="50")
    desk.reconcile()
    assert SYMBOL in selectors.portfolio(now=clock.now()).blocked_symbols

    request = ask(one_open(DivergenceKind.FOREIGN_ORDER), RequestKind.ADOPT_ORDER)

    assert request.succeeded, request.detail
    run = desk.reconcile()
    assert (run.status, run.note) == ("clean", "")
    assert not Position.objects.filter(quantity__gt=0).exists()
    assert Divergence.objects.get(kind="balance", amount_asset="BTC").outcome == "gone"
    assert SYMBOL not in selectors.portfolio(now=clock.now()).blocked_symbols


def test_open_foreign_order_is_cancelled_on_the_exchange_and_settled(desk: Desk) -> None:
    by_hand(
        type="LIMIT", timeInForce="GTC", quantity="0.001", price=f"{desk.quote(SYMBOL).bid * 98 / 100:.2f}"
    )
    desk.reconcile()

    request = ask(one_open(DivergenceKind.FOREIGN_ORDER), RequestKind.CANCEL_ORDER)

    assert request.succeeded, request.detail
    assert [row["status"] for row in desk.exchange.orders()] == ["CANCELED"]
    assert Divergence.objects.get(kind="foreign_order").outcome == "cancelled"
    assert desk.reconcile().status == "clean"


def test_cancel_with_a_lost_answer_is_not_sent_again(desk: Desk) -> None:
    by_hand(
        type="LIMIT", timeInForce="GTC", quantity="0.001", price=f"{desk.quote(SYMBOL).bid * 98 / 100:.2f}"
    )
    desk.reconcile()
    desk.exchange.arm(kind="drop_answer", method="DELETE", path="/api/v3/order", count=1)

    request = ask(one_open(DivergenceKind.FOREIGN_ORDER), RequestKind.CANCEL_ORDER)

    assert not request.succeeded
    assert "not known" in request.detail
    assert services.carry_out_requests(exchange=services.gateway(), now=clock.now()) == 0
    desk.reconcile()
    assert one_open(DivergenceKind.FOREIGN_ORDER).theirs["status"] == "CANCELED"


def test_cancel_whose_worker_was_lost_is_not_sent_again_by_itself(desk: Desk) -> None:
    by_hand(
        type="LIMIT", timeInForce="GTC", quantity="0.001", price=f"{desk.quote(SYMBOL).bid * 98 / 100:.2f}"
    )
    desk.reconcile()
    found = one_open(DivergenceKind.FOREIGN_ORDER)
    services.ask_settlement(
        divergence_id=found.pk, version=found.version, kind=RequestKind.CANCEL_ORDER, reason="by hand",
        actor="ana", now=clock.now(),
    )  # fmt: skip
    OperatorRequest.objects.update(taken_at=clock.now() - timedelta(hours=1))

    services.carry_out_requests(exchange=services.gateway(), now=clock.now())

    assert "was lost while it sent the cancel" in OperatorRequest.objects.get().detail
    assert [row["status"] for row in desk.exchange.orders()] == ["NEW"]


def test_open_foreign_order_cannot_be_adopted(desk: Desk) -> None:
    by_hand(
        type="LIMIT", timeInForce="GTC", quantity="0.001", price=f"{desk.quote(SYMBOL).bid * 98 / 100:.2f}"
    )
    desk.reconcile()

    with pytest.raises(AnswerRefused, match="still open on the exchange"):
        ask(one_open(DivergenceKind.FOREIGN_ORDER), RequestKind.ADOPT_ORDER)


def test_adopted_difference_of_balance_is_booked_as_a_movement(desk: Desk) -> None:
    deposit(desk, "5")
    desk.reconcile()

    settled = settle(one_open(DivergenceKind.BALANCE), ADOPT)

    assert (settled.outcome, settled.closed_by, settled.resolution) == ("adopted", "ana", "we know of it")
    assert desk.reconcile().status == "clean"


def test_ignored_difference_is_not_reported_again_until_it_changes(desk: Desk) -> None:
    deposit(desk, "5")
    desk.reconcile()
    settle(one_open(DivergenceKind.BALANCE), IGNORE)

    assert desk.reconcile().status == "clean"
    deposit(desk, "1")
    assert desk.reconcile().status == "divergent"
    assert one_open(DivergenceKind.BALANCE).amount == 6


def test_second_decision_is_refused_with_who_and_when(desk: Desk) -> None:
    deposit(desk, "5")
    desk.reconcile()
    seen = one_open(DivergenceKind.BALANCE)
    settle(seen, ADOPT)

    with pytest.raises(AnswerRefused, match=r"adopted by ana at \d\d:\d\d:\d\d UTC: we know of it"):
        settle(seen, IGNORE, actor="bob")


def test_decision_on_records_that_changed_since_is_refused(desk: Desk) -> None:
    deposit(desk, "5")
    desk.reconcile()
    seen = one_open(DivergenceKind.BALANCE)
    deposit(desk, "1")
    desk.reconcile()

    with pytest.raises(AnswerRefused, match="the records changed"):
        settle(seen, ADOPT)


def test_fee_that_differs_stays_open_until_a_person_corrects_it(desk: Desk) -> None:
    """It closed by itself: a booked trade is only looked at again for five minutes."""
    order = desk.buy()
    fill = Fill.objects.get(order=order)
    run = ReconciliationRun.objects.latest("id")
    words = {"price": "1", "quantity": "1", "commissionAsset": fill.commission_asset}
    found = Divergence.objects.create(
        environment="simulator", kind="fee", symbol=SYMBOL, subject=f"trade:{SYMBOL}:1", first_run=run,
        ours=words | {"commission": "0.1"}, theirs=words | {"commission": "0.3"}, last_run=run,
        first_seen_at=clock.now(), last_seen_at=clock.now(),
    )  # fmt: skip

    desk.reconcile()
    assert one_open(DivergenceKind.FEE) == found
    before = selectors.expected_balances()[fill.commission_asset]
    settle(found, ADOPT)

    assert before - selectors.expected_balances()[fill.commission_asset] == pytest.approx(0, abs=0.3)
    assert str(before - selectors.expected_balances()[fill.commission_asset]).startswith("0.2")


def test_order_that_the_exchange_lost_reserves_nothing_once_a_person_takes_it_as_ended(desk: Desk) -> None:
    bid = desk.quote(SYMBOL).bid
    order = desk.buy(
        order_type="LIMIT", time_in_force="GTC", limit_price=f"{bid * 98 / 100:.2f}",
        stop_price=f"{bid * 95 / 100:.2f}", target_price=f"{bid * 110 / 100:.2f}",
    )  # fmt: skip
    run = ReconciliationRun.objects.latest("id")
    found = Divergence.objects.create(
        environment="simulator", kind="order_missing_there", symbol=SYMBOL, first_run=run, last_run=run,
        subject=f"order:{order.client_order_id}", first_seen_at=clock.now(), last_seen_at=clock.now(),
    )  # fmt: skip

    settle(found, ADOPT)

    books = selectors.portfolio(now=clock.now())
    assert (books.open_order_count, sum(books.reserved_quote.values())) == (0, 0)


# --- the wipe -------------------------------------------------------------------------------------------


def wiped(desk: Desk) -> None:
    """A desk with a position, an open order and fills, whose exchange forgets everything."""
    bid = desk.quote(SYMBOL).bid
    desk.buy()
    desk.buy(
        order_type="LIMIT", time_in_force="GTC", limit_price=f"{bid * 98 / 100:.2f}",
        stop_price=f"{bid * 95 / 100:.2f}", target_price=f"{bid * 110 / 100:.2f}",
    )  # fmt: skip
    assert desk.reconcile().status == "clean"
    desk.exchange.post("/sim/reset", {"balances": {"USDT": "777", "BTC": "1", "ETH": "10", "SOL": "50"}})
    Order.objects.update(acknowledged_at=clock.now() - timedelta(minutes=5))


def test_wipe_of_the_environment_is_one_divergence_of_its_own_kind(desk: Desk) -> None:
    wiped(desk)

    first, second = desk.reconcile(), desk.reconcile()

    found = Divergence.objects.get()
    assert found.kind == DivergenceKind.ENVIRONMENT_RESET
    assert (first.status, second.status, second.divergence_count) == ("divergent", "divergent", 1)
    assert Alert.objects.filter(kind="divergence", resolved_at=None).count() == 1
    assert set(selectors.portfolio(now=clock.now()).blocked_symbols) >= {SYMBOL, "ETHUSDT"}
    assert found.ours["orders"] == 4  # one of the two took a stop and a target with it


def test_accepted_reset_begins_a_new_ledger_and_keeps_the_history(desk: Desk) -> None:
    wiped(desk)
    desk.reconcile()
    fills = Fill.objects.count()

    settle(one_open(DivergenceKind.ENVIRONMENT_RESET), ADOPT, reason="the monthly wipe")

    assert selectors.reconciliation_is_due() == "reset accepted"
    run = desk.reconcile()
    account = Account.objects.get()
    assert (run.status, run.note) == ("clean", "")
    assert (account.ledger, account.baseline["USDT"]) == (2, "777")
    assert Fill.objects.count() == fills
    assert not Position.objects.filter(quantity__gt=0).exists()
    books = selectors.portfolio(now=clock.now())
    assert (books.open_order_count, sum(books.reserved_quote.values())) == (0, 0)
    link = audit.history("account:simulator")[-2]
    assert (link["action"], link["actor"]) == ("account.reset_accepted", "ana")
    assert SYMBOL in link["payload"]["positions_lost"]


def test_trading_goes_on_after_a_reset_with_the_exchanges_ids_beginning_again(desk: Desk) -> None:
    wiped(desk)
    first_ids = set(Fill.objects.values_list("trade_id", flat=True))
    desk.reconcile()
    settle(one_open(DivergenceKind.ENVIRONMENT_RESET), ADOPT)
    desk.reconcile()
    desk.refresh_feeds()

    order = desk.buy()

    assert order.status == OrderStatus.CONFIRMED, order.reason
    again = Fill.objects.filter(order=order)
    assert again and set(again.values_list("trade_id", flat=True)) <= first_ids
    assert order.events.filter(kind="filled").exists()
    held = sum(again.values_list("quantity", flat=True)) - sum(again.values_list("commission", flat=True))
    assert Position.objects.get(symbol=SYMBOL).quantity == held
    assert desk.reconcile().status == "clean"


def test_wipe_of_an_account_without_orders_is_seen_by_its_balances(
    db: None, redis_server: object, simulator: SimulatedExchange
) -> None:
    desk = Desk(simulator, USDT="10000", BTC="1", ETH="10", SOL="50")
    desk.exchange.post("/sim/reset", {"balances": {"USDT": "777", "BTC": "2", "ETH": "20", "SOL": "50"}})

    desk.reconcile()

    found = Divergence.objects.get()
    assert found.kind == DivergenceKind.ENVIRONMENT_RESET
    assert found.theirs == {"answer": "3 of 4 balances changed at once"}
    settle(found, ADOPT)
    assert desk.reconcile().status == "clean"


def test_deposit_on_an_account_without_orders_is_no_reset(desk: Desk) -> None:
    deposit(desk, "5")

    desk.reconcile()

    assert one_open(DivergenceKind.BALANCE).amount == 5


def test_reset_cannot_be_ignored(desk: Desk) -> None:
    wiped(desk)
    desk.reconcile()

    with pytest.raises(AnswerRefused, match="cannot be ignored"):
        settle(one_open(DivergenceKind.ENVIRONMENT_RESET), IGNORE)


def test_lost_order_beside_known_ones_is_no_reset(desk: Desk) -> None:
    desk.buy()
    deposit(desk, "3")
    Order.objects.update(acknowledged_at=clock.now() - timedelta(minutes=5))

    run = desk.reconcile()

    assert "USDT not judged while orders are in flight" in run.note  # the fill is fresh
    assert not Divergence.objects.exists()


def test_failed_query_never_makes_a_reset(desk: Desk) -> None:
    wiped(desk)
    desk.exchange.arm(kind="status", method="GET", path="/api/v3/order", status=503, phase="before", count=1)

    run = desk.reconcile()

    assert run.status == "degraded"
    assert not Divergence.objects.exists()


def test_unknown_order_of_a_reset_environment_is_ended_with_it(desk: Desk) -> None:
    desk.buy()
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/order", status=503, code=-1008, phase="before", count=1
    )
    desk.refresh_feeds()
    lost = desk.buy(symbol="ETHUSDT")
    assert lost.status == OrderStatus.UNKNOWN
    Order.objects.filter(status="execution_confirmed").update(
        acknowledged_at=clock.now() - timedelta(minutes=5)
    )
    desk.exchange.post("/sim/reset", {"balances": {"USDT": "777"}})
    desk.reconcile()

    settle(one_open(DivergenceKind.ENVIRONMENT_RESET), ADOPT)

    lost.refresh_from_db()
    assert (lost.status, lost.reserved_quote) == (OrderStatus.NOT_PLACED, 0)
    assert lost.reason == "its environment was reset"
