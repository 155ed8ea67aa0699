"""Doorbells of the trading worker. Each is safe to run twice and finds its rows by itself."""

import logging
import os
import socket
import threading
from typing import Any

from celery import shared_task
from django.conf import settings

from execution import selectors, services
from execution.contracts import QueryFailed
from proposals import selectors as proposals
from proposals.contracts import DecisionRefused
from risk import services as risk
from risk.contracts import NotAssessable
from tradingbot.core.clock import now

logger = logging.getLogger(__name__)
BATCH = 20


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"


@shared_task
def assess_proposals(**_: Any) -> None:
    """Run the gate over every proposal that waits for it."""
    for proposal_id in proposals.proposals_to_assess(BATCH):
        books = selectors.portfolio(now=now(), excluding=proposal_id)
        try:
            risk.assess_proposal(proposal_id=proposal_id, portfolio=books, now=now())
        except (NotAssessable, DecisionRefused) as refusal:
            logger.info("not assessed", extra={"proposal": str(proposal_id), "reason": str(refusal)})


@shared_task
def execute_approved(**_: Any) -> None:
    """Claim and send every approved proposal; never retried by Celery."""
    services.abort_stale_intents(now=now())
    for proposal_id in proposals.approved_unclaimed(BATCH, now()):
        if not services.prepare_exit(proposal_id=proposal_id, exchange=services.gateway(), now=now()):
            continue
        try:
            order = services.claim_proposal(
                proposal_id=proposal_id,
                actor="execution",
                now=now(),
                recv_window_ms=settings.RECV_WINDOW_MS,
            )
        except DecisionRefused as refusal:
            logger.info("not claimed", extra={"proposal": str(proposal_id), "code": refusal.code})
            continue
        services.try_first(order_id=order.pk, exchange=services.gateway(), now=now())
        services.send_order(order_id=order.pk, now=now())


@shared_task
def guard_positions(**_: Any) -> None:
    """See that everything held is protected on the exchange."""
    services.guard_positions(exchange=services.gateway(), now=now())


@shared_task
def fold_account_events(**_: Any) -> None:
    """Fold stored user-data events into orders, fills, positions and balances."""
    services.fold_pending_events(now=now())


@shared_task
def resolve_unknown(**_: Any) -> None:
    """Find sends whose worker was lost, and ask about orders of unknown fate."""
    services.mark_silent_sends_unknown(now=now())
    services.probe_unknown(exchange=services.gateway(), now=now())


@shared_task
def reconcile(**_: Any) -> None:
    """The poll of every 60 s."""
    services.reconcile(exchange=services.gateway(), trigger="poll", holder=_holder(), now=now())


@shared_task
def reconcile_requested(**_: Any) -> None:
    """Reconcile at once when somebody asked, at the start and after each reconnect of the account stream."""
    trigger = selectors.reconciliation_is_due()
    if trigger is not None:
        measure_clock()
        services.reconcile(exchange=services.gateway(), trigger=trigger, holder=_holder(), now=now())


@shared_task
def measure_clock(**_: Any) -> None:
    """Keep the offset between the exchange's clock and ours fresh; without it the gate denies."""
    try:
        services.measure_clock(exchange=services.gateway(), now=now())
    except QueryFailed as error:
        logger.warning("clock not measured", extra={"error": str(error)})


@shared_task
def record_equity(**_: Any) -> None:
    """A point of the equity curve, once a minute."""
    services.record_equity(now=now())


@shared_task
def carry_out_requests(**_: Any) -> None:
    """What people decided on review and divergence pages, as far as it needs the exchange."""
    services.carry_out_requests(exchange=services.gateway(), now=now())


@shared_task
def carry_out_kills(**_: Any) -> None:
    """Whatever a kill asks for beyond the switch: cancels of open entries, sales of what is held."""
    services.carry_out_kills(exchange=services.gateway(), now=now())


@shared_task
def watch_autonomy(**_: Any) -> None:
    """Bring what the desk may do by itself to what the health of its parts allows."""
    risk.follow_health(health=selectors.health_of_parts(now()), now=now())
