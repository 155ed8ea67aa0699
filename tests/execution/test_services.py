"""Execution against the real simulator: claim, send once, what an approval and a position come to."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import Error, transaction

from execution import selectors, services
from execution.contracts import OrderStatus
from execution.models import (
    ExecutionIntent,
    Fill,
    OrderLifecycleEvent,
    Position,
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
    User.objects.create(username="ana", is_superuser=True)
    proposal = desk.assess(desk.propose(quote_amount="100"))

    approve(proposal)
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
