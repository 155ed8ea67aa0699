"""Claim: the transaction that turns an approved proposal into a committed intent (invariants 2, 3, 4)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import transaction

from execution import rules, selectors
from execution.contracts import IntentKind, OrderStatus, Plan
from execution.models import Account, ExecutionIntent, OperatorRequest, Order
from execution.rules import lists
from market.contracts import SymbolFilters
from proposals import selectors as proposal_selectors
from proposals import services as proposals
from proposals.contracts import DecisionRefused, QuantisedOrder, Side
from proposals.models import Proposal
from risk import selectors as risk_selectors
from risk import services as risk
from risk.contracts import LimitsMissing, NotAuthorised
from tradingbot.core import audit
from tradingbot.core.alerts import raise_alert
from tradingbot.core.announce import announce
from tradingbot.core.clock import to_milliseconds
from tradingbot.core.decimals import ZERO, floor_to_step
from tradingbot.core.transitions import StaleState, transition

INTENT_SETTLE = timedelta(seconds=2)


def request_digest(endpoint: str, parameters: Mapping[str, str]) -> str:
    """SHA-256 of a request as it is committed: where it goes and every parameter, all ids among them."""
    return audit.sha256_hex(audit.canonical_json({"endpoint": endpoint, "parameters": dict(parameters)}))


def claim_proposal(*, proposal_id: UUID, actor: str, now: datetime, recv_window_ms: int) -> Order:
    """Claim an approved proposal and commit its intent, its order and the reservation of exposure.

    The gate binds here: it runs again with live numbers under the account's row lock. When it refuses, the
    order is committed as `aborted` with the reason, and nothing is ever sent for it. Raises DecisionRefused
    when the proposal was claimed before, has expired, no longer matches its digest, or is an exit whose coins
    our own protection still holds (`prepare_exit` comes first).
    """
    with transaction.atomic():
        account, _ = Account.objects.select_for_update().get_or_create(environment=selectors.ENVIRONMENT)
        seen = Proposal.objects.get(pk=proposal_id)
        proposal = proposals.claim_for_execution(
            proposal_id=proposal_id, digest=seen.digest, actor=actor, now=now
        )
        wanted = proposal_selectors.order_of(proposal)
        refusal = _refusal_of_gate(proposal, wanted, now)
        if not refusal:
            _refuse_while_protected(wanted)
        intent, plan = _create_intent(proposal, wanted, account, now, recv_window_ms)
        refusal = refusal or refusal_of_exchange(wanted, plan, now)
        order = _create_order(intent, plan, proposal)
        audit.record(
            action="order.intent",
            subject=f"order:{order.pk}",
            actor=actor,
            now=now,
            proposal=str(proposal.pk),
            client_order_id=intent.client_order_id,
            digest=intent.digest,
            request_digest=intent.request_digest,
        )
        announce(Order.TOPIC, order.pk, event="intent")
        if refusal:
            abort_intent(selectors.orders_of(intent), refusal, now)
            order.refresh_from_db()
    return order


def _refuse_while_protected(wanted: QuantisedOrder) -> None:
    """An exit is claimed once nothing of ours holds the coins any more; until then it waits as approved."""
    if wanted.side == Side.SELL and any(g.holds_coins for g in selectors.guards(wanted.symbol)):
        raise DecisionRefused("PROTECTED", "The protection on the exchange must be cancelled first.")


def _refusal_of_gate(proposal: Proposal, wanted: QuantisedOrder, now: datetime) -> str:
    books = selectors.portfolio(now=now, excluding=proposal.pk)
    try:
        risk.authorise_order(proposal=proposal, order=wanted, portfolio=books, now=now)
    except NotAuthorised as error:
        return str(error)
    return ""


def would_be_refused(*, proposal: Proposal, now: datetime) -> str:
    """Why a claim made now would be refused, by a dry run of the binding gate that leaves nothing behind."""
    with transaction.atomic():
        refusal = _refusal_of_gate(proposal, proposal_selectors.order_of(proposal), now)
        transaction.set_rollback(True)
    return refusal


def _create_intent(
    proposal: Proposal, wanted: QuantisedOrder, account: Account, now: datetime, recv_window_ms: int
) -> tuple[ExecutionIntent, Plan]:
    plan = plan_order(wanted, rules.client_order_id(selectors.ENVIRONMENT, proposal.pk))
    control = risk_selectors.control()
    intent = create_intent(
        kind=IntentKind.PROPOSAL,
        proposal=proposal,
        plan=plan,
        side=wanted.side,
        time_in_force=wanted.time_in_force or "",
        stop_price=wanted.stop_price,
        target_price=wanted.target_price,
        control_version=control.version if control else 0,
        timestamp_ms=to_milliseconds(now) + (account.clock_offset_ms or 0),
        recv_window_ms=recv_window_ms,
        now=now,
    )
    return intent, plan


def plan_order(wanted: QuantisedOrder, base_id: str) -> Plan:
    """The request for an order, with its protection where it can take it along."""
    return lists.plan_entry(
        base_id=base_id,
        symbol=wanted.symbol,
        side=wanted.side,
        order_type=wanted.order_type,
        time_in_force=wanted.time_in_force or "",
        quantity=wanted.quantity,
        price=wanted.price,
        stop_price=wanted.stop_price,
        target_price=wanted.target_price,
        filters=selectors.filters_of(wanted.symbol) if settings.PROTECT_ON_EXCHANGE else None,
        fee_rate=_fee_rate(),
    )


def _fee_rate() -> Decimal:
    try:
        return risk_selectors.current_limits().fee_rate
    except LimitsMissing:
        return ZERO  # the gate refuses without limits


def create_intent(
    *,
    kind: IntentKind,
    proposal: Proposal,
    plan: Plan,
    side: str,
    time_in_force: str,
    stop_price: Decimal | None,
    target_price: Decimal | None,
    control_version: int,
    timestamp_ms: int,
    recv_window_ms: int,
    now: datetime,
    operator_request: OperatorRequest | None = None,
) -> ExecutionIntent:
    """Write down a request before it is sent: its ids, its parameters to the letter and their digest.

    A second intent for the same `operator_request` is refused by the database.
    """
    first = plan.legs[0]
    return ExecutionIntent.objects.create(
        environment=selectors.ENVIRONMENT,
        kind=kind,
        proposal=proposal,
        operator_request=operator_request,
        client_order_id=first.client_order_id,
        list_kind=plan.list_kind,
        list_client_order_id=plan.list_client_order_id,
        endpoint=plan.endpoint,
        parameters=plan.parameters,
        request_digest=request_digest(plan.endpoint, plan.parameters),
        symbol=plan.parameters["symbol"],
        side=side,
        order_type=first.order_type,
        time_in_force=time_in_force,
        quantity=first.quantity,
        price=first.price,
        stop_price=stop_price,
        target_price=target_price,
        digest=proposal.digest,
        limits_version=proposal.limits_version or 0,
        control_version=control_version,
        timestamp_ms=timestamp_ms,
        recv_window_ms=recv_window_ms,
        created_at=now,
    )


def create_orders(intent: ExecutionIntent, plan: Plan, *, worst_cost: Decimal = ZERO) -> list[Order]:
    """The orders of a plan, the first one first; each reserves what it may cost or sell at most.

    The legs of a list that protects share one balance; each reserves it, so that each is accounted for.
    """
    return [
        Order.objects.create(
            environment=intent.environment,
            intent=intent,
            role=leg.role,
            symbol=intent.symbol,
            side=leg.side,
            client_order_id=leg.client_order_id,
            quantity=leg.quantity,
            price=leg.price,
            trigger_price=leg.trigger_price,
            reserved_quote=worst_cost if leg.side == Side.BUY else ZERO,
            reserved_base=ZERO if leg.side == Side.BUY else leg.quantity,
            created_at=intent.created_at,
        )
        for leg in plan.legs
    ]


def _create_order(intent: ExecutionIntent, plan: Plan, proposal: Proposal) -> Order:
    worst_cost: Decimal = (proposal.notional_quote or ZERO) + (proposal.fee_quote or ZERO)
    return create_orders(intent, plan, worst_cost=worst_cost)[0]


def refusal_of_exchange(wanted: QuantisedOrder, plan: Plan, now: datetime) -> str:
    """What the exchange would refuse the protecting legs for, or the books an exit; empty when nothing."""
    if wanted.side == Side.SELL:
        return selectors.why_not_sellable(wanted.symbol, wanted.quantity, now)
    filters = selectors.filters_of(wanted.symbol)
    if not settings.PROTECT_ON_EXCHANGE or filters is None or wanted.stop_price is None:
        return ""
    protection = plan if plan.list_kind else _protection_to_come(wanted, plan, filters)
    broken = lists.broken_legs(
        protection, filters, wanted.reference_price, **selectors.open_counts(wanted.symbol)
    )
    return f"protection: {'; '.join(broken)}" if broken else ""


def _protection_to_come(wanted: QuantisedOrder, plan: Plan, filters: SymbolFilters) -> Plan:
    """What will protect an order that goes alone: judged before it is sent, so that it can be protected."""
    return lists.plan_protection(
        base_id=lists.attempt_id(plan.legs[0].client_order_id, "p", 1),
        symbol=wanted.symbol,
        quantity=floor_to_step(wanted.quantity * (1 - _fee_rate()), filters.quantity_step),
        stop_price=wanted.stop_price or ZERO,
        target_price=wanted.target_price,
        filters=filters,
    )


def abort_intent(orders: list[Order], reason: str, now: datetime) -> None:
    """End an intent that was never sent; the caller holds the transaction. Raises StaleState."""
    for order in orders:
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
    first = orders[0]
    raise_alert(
        kind="order_aborted",
        severity="high",
        subject=f"order:{first.pk}",
        title=f"{first.side} {first.symbol} was approved and not sent",
        detail=reason,
        now=now,
    )


def abort_stale_intents(*, now: datetime) -> int:
    """Abort intents whose worker stopped before it sent: their request window has passed, nothing was sent.

    A worker that wakes up later finds the order moved on and does not send; were it to send all the same,
    the exchange would refuse the timestamp (invariant 8). All orders of a list go together.
    """
    aborted = 0
    waiting = ExecutionIntent.objects.filter(
        environment=selectors.ENVIRONMENT, orders__status=OrderStatus.INTENT
    ).distinct()
    for intent in waiting.order_by("created_at", "pk")[:100]:
        window = timedelta(milliseconds=intent.recv_window_ms)
        if now - intent.created_at < window + INTENT_SETTLE:
            continue
        try:
            with transaction.atomic():
                abort_intent(
                    selectors.orders_of(intent),
                    "the worker stopped before sending and the request window has passed",
                    now,
                )
        except StaleState:
            continue
        aborted += 1
    return aborted
