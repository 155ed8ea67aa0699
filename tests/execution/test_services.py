"""Execution against the real simulator: claim, send once, unknown outcomes, the saga, reconciliation."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import Error, transaction

from execution import selectors, services
from execution.contracts import Decision, OrderStatus
from execution.models import (
    Divergence,
    ExecutionIntent,
    Fill,
    Order,
    OrderLifecycleEvent,
    Position,
    Probe,
    ReconciliationRun,
)
from proposals.contracts import DecisionRefused
from proposals.models import Proposal
from risk import selectors as risk_selectors
from risk import services as risk
from risk.contracts import TradingState
from risk.models import RiskLimits
from tests.desk import SYMBOL, Desk
from tradingbot.core import audit, clock
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
D = Decimal


def test_small_buy_goes_from_proposal_to_position_without_a_person(desk: Desk) -> None:
    order = desk.buy()

    assert (order.status, order.exchange_status) == (OrderStatus.CONFIRMED, "FILLED")
    position = Position.objects.get(symbol=SYMBOL)
    assert position.quantity == order.executed_quantity * D("0.999")
    assert len(desk.exchange.orders()) == 1
    assert order.reserved_quote == 0


def test_reconciliation_after_a_fill_is_clean(desk: Desk) -> None:
    desk.buy()

    run = desk.reconcile()

    assert (run.status, run.divergence_count, run.note) == ("clean", 0, "")


def test_timeline_holds_submitted_and_filled_with_hashes(desk: Desk) -> None:
    order = desk.buy()

    kinds = list(OrderLifecycleEvent.objects.filter(order=order).values_list("kind", flat=True))
    assert kinds[0] == "submitted"
    assert "filled" in kinds
    assert len(order.request_sha256) == len(order.response_sha256) == 64
    actions = [link["action"] for link in audit.history(f"order:{order.pk}")]
    assert actions == [
        "order.intent",
        "order.submitted_to_exchange",
        "exchange.answered",
        "order.execution_confirmed",
    ]


def test_hashes_of_request_and_answer_are_in_the_audit_chain(desk: Desk) -> None:
    order = desk.buy()

    answered = next(a for a in audit.history(f"order:{order.pk}") if a["action"] == "exchange.answered")
    assert answered["payload"] == {
        "request_sha256": order.request_sha256,
        "response_sha256": order.response_sha256,
    }


def test_proposal_can_be_claimed_once_only(desk: Desk) -> None:
    proposal = desk.assess(desk.propose())
    desk.claim(proposal)

    with pytest.raises(DecisionRefused):
        desk.claim(proposal)
    assert ExecutionIntent.objects.count() == 1


def test_order_is_sent_once_however_often_it_is_asked_for(desk: Desk) -> None:
    order = desk.claim(desk.assess(desk.propose()))

    for _ in range(3):
        services.send_order(order_id=order.pk, now=clock.now())

    assert len(desk.exchange.orders()) == 1


def test_claim_after_halt_aborts_and_nothing_is_sent(desk: Desk) -> None:
    proposal = desk.assess(desk.propose())
    risk.halt(actor="operator", reason="test", now=clock.now())

    order = desk.claim(proposal)
    services.send_order(order_id=order.pk, now=clock.now())

    assert order.status == OrderStatus.ABORTED
    assert "HALTED" in order.reason
    assert desk.exchange.orders() == []


def test_claim_with_stale_quote_aborts_with_reason_and_alert(desk: Desk) -> None:
    proposal = desk.assess(desk.propose())

    order = desk.claim(proposal, now=clock.now() + timedelta(seconds=20))

    assert order.status == OrderStatus.ABORTED
    assert "old" in order.reason or "stale" in order.reason.lower()
    assert Alert.objects.filter(kind="order_aborted", subject=f"order:{order.pk}").exists()
    services.send_order(order_id=order.pk, now=clock.now())
    assert desk.exchange.orders() == []


def test_intent_and_events_cannot_be_changed_in_the_database(desk: Desk) -> None:
    order = desk.buy()

    for rows, change in [
        (ExecutionIntent.objects.all(), {"quantity": D(99)}),
        (Fill.objects.all(), {"price": D(1)}),
        (OrderLifecycleEvent.objects.filter(order=order), {"detail": "x"}),
    ]:
        with pytest.raises(Error, match="append-only"), transaction.atomic():
            rows.update(**change)
        with pytest.raises(Error, match="append-only"), transaction.atomic():
            rows._raw_delete("default")


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


def test_events_and_rest_answer_come_to_one_position(desk: Desk) -> None:
    order = desk.buy()
    before = Position.objects.get(symbol=SYMBOL)
    fill = Fill.objects.get(order=order)
    event = {
        "e": "executionReport", "E": 1, "s": SYMBOL, "c": order.client_order_id, "S": "BUY", "o": "MARKET",
        "f": "GTC", "q": str(order.quantity), "p": "0", "P": "0", "F": "0", "g": -1, "C": "", "x": "TRADE",
        "X": "FILLED", "r": "NONE", "i": order.exchange_order_id, "l": str(fill.quantity),
        "z": str(order.executed_quantity), "L": str(fill.price), "n": str(fill.commission),
        "N": fill.commission_asset, "T": clock.to_milliseconds(fill.at), "t": fill.trade_id, "I": 5, "w": False,
        "m": False, "M": True, "O": 1, "Z": str(order.cumulative_quote), "Y": str(fill.quote_quantity), "Q": "0",
        "V": "EXPIRE_MAKER",
    }  # fmt: skip
    desk.hear(event)

    assert services.fold_pending_events(now=clock.now()) == 1

    after = Position.objects.get(symbol=SYMBOL)
    assert (after.quantity, after.cost_quote) == (before.quantity, before.cost_quote)
    assert Fill.objects.filter(order=order).count() == 1


def test_unreadable_event_is_alarmed_and_does_not_hold_up_the_next(desk: Desk) -> None:
    desk.hear({"e": "executionReport", "s": SYMBOL})
    desk.hear(
        {"u": clock.to_milliseconds(clock.now()), "B": [{"a": "USDT", "f": "5", "l": "1"}]},
        "outboundAccountPosition",
    )

    assert services.fold_pending_events(now=clock.now()) == 2

    assert Alert.objects.filter(kind="account_event_unreadable").exists()
    assert selectors.portfolio(now=clock.now()).free_quote == 5


def test_foreign_order_is_a_divergence_and_blocks_its_symbol(desk: Desk) -> None:
    services.gateway()._client.create_order(
        symbol=SYMBOL, side="BUY", type="MARKET", quoteOrderQty="50", newClientOrderId="by-hand"
    )

    run = desk.reconcile()

    kinds = set(Divergence.objects.filter(closed_at=None).values_list("kind", flat=True))
    assert run.status == "divergent"
    assert kinds == {"foreign_order", "balance"}
    assert SYMBOL in selectors.portfolio(now=clock.now()).blocked_symbols


def test_person_settles_divergences_and_the_books_agree_from_then_on(desk: Desk) -> None:
    services.gateway()._client.create_order(
        symbol=SYMBOL, side="BUY", type="MARKET", quoteOrderQty="50", newClientOrderId="by-hand"
    )
    desk.reconcile()

    for divergence in Divergence.objects.filter(closed_at=None):
        services.settle_divergence(
            divergence_id=divergence.pk,
            version=divergence.version,
            decision=Decision.ADOPT if divergence.kind == "balance" else Decision.IGNORE,
            reason="bought by hand",
            actor="operator",
            now=clock.now(),
        )

    assert desk.reconcile().status == "clean"


def test_fill_missed_by_stream_and_answer_is_posted_from_the_exchanges_record(desk: Desk) -> None:
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/order", count=1)
    order = desk.buy()

    run = desk.reconcile()

    order.refresh_from_db()
    assert order.status == OrderStatus.CONFIRMED
    assert Fill.objects.filter(order=order).exists()
    assert run.status == "clean"


def test_failed_query_degrades_the_run_and_changes_nothing(desk: Desk) -> None:
    order = desk.buy()
    desk.exchange.arm(
        kind="status", method="GET", path="/api/v3/openOrders", status=503, phase="before", count=1
    )

    run = desk.reconcile()

    assert run.status == "degraded"
    assert Order.objects.get(pk=order.pk).status == OrderStatus.CONFIRMED
    assert not Divergence.objects.exists()
    assert not selectors.reconciliation_state(clock.now())[0]


def test_degraded_reconciliation_is_an_alert_until_a_run_completes(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status", method="GET", path="/api/v3/openOrders", status=503, phase="before", count=1
    )

    desk.reconcile()
    assert Alert.objects.get(kind="reconciliation_degraded").resolved_at is None
    desk.reconcile()

    assert Alert.objects.get(kind="reconciliation_degraded").resolved_at is not None


def test_withdrawal_is_booked_as_a_foreign_movement(desk: Desk) -> None:
    desk.exchange.post("/sim/deposit", {"apiKey": desk.exchange.api_key, "asset": "USDT", "amount": "-100"})
    desk.hear(
        {"e": "balanceUpdate", "E": 1, "a": "USDT", "d": "-100.00000000", "T": 1772452800000}, "balanceUpdate"
    )
    services.fold_pending_events(now=clock.now())

    assert desk.reconcile().status == "clean"


def test_sell_of_the_whole_position_realises_its_result_net_of_fees(desk: Desk) -> None:
    bought = desk.buy()
    desk.reconcile()  # brings the balances, as the stream would

    sold = desk.buy(  # the same way, with a SELL
        action="SELL", quote_amount=None, position_share_pct=100, stop_price=None, target_price=None
    )

    assert sold.exchange_status == "FILLED", sold.reason
    position = Position.objects.get(symbol=SYMBOL)
    cash = sum(
        (f.quote_quantity if f.side == "SELL" else -f.quote_quantity)
        - (f.commission if f.commission_asset == "USDT" else 0)
        for f in Fill.objects.all()
    )
    assert bought.executed_quantity >= sold.executed_quantity
    assert abs(position.realised_pnl_quote - position.cost_quote - cash) < D("1E-12")
    assert desk.reconcile().status == "clean"


def test_requests_leave_their_hash_and_no_signature_anywhere(desk: Desk) -> None:
    order = desk.buy()

    text = str(list(OrderLifecycleEvent.objects.values())) + str(list(ExecutionIntent.objects.values()))
    assert "signature" not in text
    assert desk.exchange.api_key not in text
    assert order.request_sha256 == audit.sha256_hex(
        audit.canonical_json(
            {
                **order.intent.parameters,
                "timestamp": order.intent.timestamp_ms,
                "recvWindow": order.intent.recv_window_ms,
            }
        )
    )


def test_pending_and_unknown_orders_count_as_exposure(desk: Desk) -> None:
    pending = desk.assess(desk.propose(quote_amount="100"))
    assert pending.status == "pending_approval"

    books = selectors.portfolio(now=clock.now())

    assert books.reserved_quote[SYMBOL] == pending.notional_quote + pending.fee_quote
    assert selectors.portfolio(now=clock.now(), excluding=pending.pk).reserved_quote.get(SYMBOL, 0) == 0


def test_approval_of_a_moved_price_is_refused_with_the_drift(desk: Desk) -> None:
    proposal = desk.assess(desk.propose(quote_amount="100"))
    quote = desk.quote(SYMBOL)
    from market import services as market_services
    from market.contracts import Quote

    moved = Quote(SYMBOL, quote.bid * D("1.02"), quote.ask * D("1.02"), D(1), D(1), clock.now())
    market_services.record_quotes(quotes=[moved])

    with pytest.raises(DecisionRefused, match=r"price moved") as refusal:
        services.approve_proposal(
            proposal_id=proposal.pk,
            version=proposal.version,
            digest=proposal.digest,
            actor="ana",
            now=clock.now(),
        )
    assert refusal.value.code == "PRICE_MOVED"


def test_approved_proposal_is_ordered(desk: Desk) -> None:
    proposal = desk.assess(desk.propose(quote_amount="100"))

    services.approve_proposal(
        proposal_id=proposal.pk,
        version=proposal.version,
        digest=proposal.digest,
        actor="ana",
        now=clock.now(),
    )
    order = desk.claim(proposal)
    services.send_order(order_id=order.pk, now=clock.now())

    order.refresh_from_db()
    assert order.exchange_status == "FILLED"


def test_dust_left_by_a_fee_is_a_residue_not_a_position(desk: Desk) -> None:
    """Seen in the first replay: the advisor went on selling 0.0000075 BTC that nobody can sell."""
    desk.buy()
    desk.reconcile()
    desk.buy(action="SELL", quote_amount=None, position_share_pct=100, stop_price=None, target_price=None)
    desk.reconcile()
    assert Position.objects.get(symbol=SYMBOL).quantity > 0

    books = selectors.portfolio(now=clock.now())

    assert SYMBOL not in books.holdings
    assert selectors.advisor_account(SYMBOL, clock.now()).position is None
    assert books.equity_quote is not None


def test_exit_can_be_approved_while_reducing_and_an_entry_cannot(desk: Desk) -> None:
    desk.buy()
    desk.reconcile()
    limits = risk_selectors.current_limits()
    assert limits.approval_threshold_quote > 0
    values = {
        **RiskLimits.objects.filter(environment=selectors.ENVIRONMENT).latest().__dict__,
        "approval_threshold_quote": D(0),
    }
    risk.save_limits(
        values=only_limits(values), actor="risk-manager", reason="always a person", now=clock.now()
    )
    desk.refresh_feeds()
    leave = desk.assess(
        desk.propose(
            action="SELL", quote_amount=None, position_share_pct=100, stop_price=None, target_price=None
        )
    )
    desk.refresh_feeds()
    enter = desk.assess(desk.propose())
    assert (leave.status, enter.status) == ("pending_approval", "pending_approval")
    risk.set_trading_state(state=TradingState.REDUCING, actor="risk-manager", reason="test", now=clock.now())

    approve(leave)
    with pytest.raises(DecisionRefused) as refusal:
        approve(enter)

    assert refusal.value.code == "NOT_ARMED"
    leave.refresh_from_db()
    assert leave.status == "approved"


def approve(proposal: Proposal) -> None:
    services.approve_proposal(
        proposal_id=proposal.pk,
        version=proposal.version,
        digest=proposal.digest,
        actor="ana",
        now=clock.now(),
    )


def only_limits(values: dict[str, object]) -> dict[str, object]:
    """The columns of a limits row that a person sets."""
    own = {"_state", "id", "environment", "version", "created_at", "created_by", "reason"}
    return {name: value for name, value in values.items() if name not in own}


def test_run_whose_worker_died_is_done_again_at_once(desk: Desk) -> None:
    """Found by rehearsal seed 12: the first run was lost to a crash and no trigger asked for another."""
    ReconciliationRun.objects.all().delete()
    ReconciliationRun.objects.create(environment="simulator", trigger="start", started_at=clock.now())

    assert selectors.reconciliation_is_due() == "start"
    assert desk.reconcile("start").status == "clean"
    assert selectors.reconciliation_is_due() is None
