"""Claim: the transaction that turns an approved proposal into a committed intent (invariants 2, 3, 4)."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import transaction

from execution import rules, selectors
from execution.contracts import OrderStatus
from execution.models import Account, ExecutionIntent, Order
from proposals import selectors as proposal_selectors
from proposals import services as proposals
from proposals.contracts import QuantisedOrder, Side
from proposals.models import Proposal
from risk import selectors as risk_selectors
from risk import services as risk
from risk.contracts import NotAuthorised
from tradingbot.core import audit
from tradingbot.core.alerts import raise_alert
from tradingbot.core.announce import announce
from tradingbot.core.clock import to_milliseconds
from tradingbot.core.decimals import ZERO
from tradingbot.core.transitions import StaleState, transition

INTENT_SETTLE = timedelta(seconds=2)


def claim_proposal(*, proposal_id: UUID, actor: str, now: datetime, recv_window_ms: int) -> Order:
    """Claim an approved proposal and commit its intent, its order and the reservation of exposure.

    The gate binds here: it runs again with live numbers under the account's row lock. When it refuses, the
    order is committed as `aborted` with the reason, and nothing is ever sent for it. Raises DecisionRefused
    when the proposal was claimed before, has expired, or no longer matches its digest.
    """
    with transaction.atomic():
        account, _ = Account.objects.select_for_update().get_or_create(environment=selectors.ENVIRONMENT)
        seen = Proposal.objects.get(pk=proposal_id)
        proposal = proposals.claim_for_execution(
            proposal_id=proposal_id, digest=seen.digest, actor=actor, now=now
        )
        wanted = proposal_selectors.order_of(proposal)
        refusal = _refusal_of_gate(proposal, wanted, now)
        intent = _create_intent(proposal, wanted, account, now, recv_window_ms)
        order = _create_order(intent, proposal)
        audit.record(
            action="order.intent",
            subject=f"order:{order.pk}",
            actor=actor,
            now=now,
            proposal=str(proposal.pk),
            client_order_id=intent.client_order_id,
            digest=intent.digest,
        )
        announce(Order.TOPIC, order.pk, event="intent")
        if refusal:
            _abort(order, refusal, now)
    return order


def _refusal_of_gate(proposal: Proposal, wanted: QuantisedOrder, now: datetime) -> str:
    books = selectors.portfolio(now=now, excluding=proposal.pk)
    try:
        risk.authorise_order(proposal=proposal, order=wanted, portfolio=books, now=now)
    except NotAuthorised as error:
        return str(error)
    return ""


def _create_intent(
    proposal: Proposal, wanted: QuantisedOrder, account: Account, now: datetime, recv_window_ms: int
) -> ExecutionIntent:
    control = risk_selectors.control()
    return ExecutionIntent.objects.create(
        environment=selectors.ENVIRONMENT,
        proposal=proposal,
        client_order_id=rules.client_order_id(selectors.ENVIRONMENT, proposal.pk),
        symbol=wanted.symbol,
        side=wanted.side,
        order_type=wanted.order_type,
        time_in_force=wanted.time_in_force or "",
        quantity=wanted.quantity,
        price=wanted.price,
        stop_price=wanted.stop_price,
        target_price=wanted.target_price,
        digest=proposal.digest,
        limits_version=proposal.limits_version or 0,
        control_version=control.version if control else 0,
        timestamp_ms=to_milliseconds(now) + (account.clock_offset_ms or 0),
        recv_window_ms=recv_window_ms,
        created_at=now,
    )


def _create_order(intent: ExecutionIntent, proposal: Proposal) -> Order:
    buying = intent.side == Side.BUY
    worst_cost: Decimal = (proposal.notional_quote or ZERO) + (proposal.fee_quote or ZERO)
    return Order.objects.create(
        environment=intent.environment,
        intent=intent,
        symbol=intent.symbol,
        side=intent.side,
        client_order_id=intent.client_order_id,
        quantity=intent.quantity,
        price=intent.price,
        reserved_quote=worst_cost if buying else ZERO,
        reserved_base=ZERO if buying else intent.quantity,
        created_at=intent.created_at,
    )


def _abort(order: Order, reason: str, now: datetime) -> None:
    transition(
        order,
        to=OrderStatus.ABORTED,
        actor="execution",
        now=now,
        reason=reason,
        reserved_quote=ZERO,
        reserved_base=ZERO,
        closed_at=now,
    )
    raise_alert(
        kind="order_aborted",
        severity="high",
        subject=f"order:{order.pk}",
        title=f"{order.side} {order.symbol} was approved and not sent",
        detail=reason,
        now=now,
    )


def abort_stale_intents(*, now: datetime) -> int:
    """Abort intents whose worker stopped before it sent: their request window has passed, nothing was sent.

    A worker that wakes up later finds the order moved on and does not send; were it to send all the same,
    the exchange would refuse the timestamp (invariant 8).
    """
    aborted = 0
    for order in Order.objects.filter(
        environment=selectors.ENVIRONMENT, status=OrderStatus.INTENT
    ).select_related("intent")[:100]:
        window = timedelta(milliseconds=order.intent.recv_window_ms)
        if now - order.intent.created_at < window + INTENT_SETTLE:
            continue
        try:
            with transaction.atomic():
                _abort(order, "the worker stopped before sending and the request window has passed", now)
        except StaleState:
            continue
        aborted += 1
    return aborted
