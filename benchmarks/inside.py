"""Runs inside a stack, with its settings: changes made through the real services, rows read as they are stored.

`python -m benchmarks.inside` reads one JSON object a line from its input, {"name", "arguments"}, and writes
{"result"} or {"error"}. Instants are microseconds since the epoch.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import django
import redis
from channels.layers import get_channel_layer

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from benchmarks.inside_queue import change_queue, fill_queue, watch_queue  # noqa: E402
from benchmarks.inside_rows import ACTOR, make_proposal  # noqa: E402
from execution import tasks as execution_tasks  # noqa: E402
from execution.models import Order  # noqa: E402
from market import selectors as market  # noqa: E402
from market.models import Candle  # noqa: E402
from proposals import services as proposals  # noqa: E402
from proposals.models import Decision, Proposal, Strategy  # noqa: E402
from risk import selectors as risk_selectors  # noqa: E402
from risk import services as risk  # noqa: E402
from risk.contracts import TradingState  # noqa: E402
from tradingbot.core import alerts, clock  # noqa: E402
from tradingbot.core.announce import GROUP, announce  # noqa: E402
from tradingbot.operations.rehearsal.limits import WIDE  # noqa: E402

POLL_SECONDS = 0.05
LAST_DECISIONS_SECONDS = 3
ALERTS_OPEN_MAX = 5
CHANNEL = "benchmark"


def arm(*, threshold_quote: str | None) -> None:
    """Arm trading; with a threshold the limits are opened wide, without one they stay as installed."""
    now = clock.now()
    if threshold_quote is not None:
        values = asdict(risk_selectors.current_limits())
        del values["version"]
        values |= {**WIDE, "allowed_symbols": settings.SYMBOLS}
        values["approval_threshold_quote"] = Decimal(threshold_quote)
        risk.save_limits(values=values, actor=ACTOR, confirmed_by="second", reason="benchmark", now=now)
    risk.set_trading_state(state=TradingState.ACTIVE, actor=ACTOR, reason="benchmark", now=now)


def ask_on_every_candle() -> None:
    """Let the installed strategies decide on each closed candle of each symbol."""
    for strategy in Strategy.objects.all():
        strategy.symbols = list(settings.SYMBOLS)
        strategy.min_seconds_between, strategy.decisions_per_hour_max = 0, 1_000_000
        proposals.save_strategy(strategy=strategy, actor=ACTOR, now=clock.now())


def silence_strategies() -> None:
    """No proposals but our own: what they decided just before is judged and then ended."""
    for strategy in Strategy.objects.all():
        strategy.enabled = False
        proposals.save_strategy(strategy=strategy, actor=ACTOR, now=clock.now())
    time.sleep(LAST_DECISIONS_SECONDS)
    end_what_waits()


def end_what_waits() -> None:
    """End every proposal that waits: the gate refuses a second one of the same symbol."""
    proposals.cancel_pending(actor=ACTOR, reason="benchmark", now=clock.now())


# --- candle to proposal -----------------------------------------------------------------------------------
def decisions(*, since_us: int) -> dict[str, Any]:
    """Each good decision begun since an instant with the stamps of its way, and what else there was."""
    since = _instant(since_us)
    found = Decision.objects.filter(started_at__gt=since, finished_at__isnull=False)
    candles = {
        (symbol, opened): received
        for symbol, opened, received in Candle.objects.filter(
            interval="1m", received_at__gt=since
        ).values_list("symbol", "open_time", "received_at")
    }
    orders = {
        order.intent.proposal_id: order.acknowledged_at
        for order in Order.objects.filter(acknowledged_at__isnull=False).select_related("intent")
    }
    rows = []
    for decision in found.filter(outcome="OK").select_related("proposal"):
        received = candles.get((decision.symbol, decision.candle_open_time))
        if received is None:
            continue  # the candle closed before the measurement began
        rows.append(
            {
                "id": str(decision.proposal.pk),
                "received": _us(received),
                "started": _us(decision.started_at),
                "model_ms": decision.latency_ms,
                "proposed": _us(decision.proposal.created_at),
                "judged": _us(decision.proposal.validated_at),
                "acknowledged": _us(orders.get(decision.proposal.pk)),
            }
        )
    failed = found.exclude(outcome="OK").values_list("outcome", flat=True)
    return {"rows": rows, "candles": len(candles), "failed": sorted(failed)}


def hear_proposals(*, wait_seconds: float) -> dict[str, int]:
    """When the first announcement of each proposal, sent after its commit, arrived in this process."""
    heard: dict[str, int] = {}

    async def listen() -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(GROUP, channel)
        while True:
            message = await layer.receive(channel)
            if message["topic"] == Proposal.TOPIC:
                heard.setdefault(message["row_id"], _now_us())

    async def listen_for_a_while() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listen(), wait_seconds)

    asyncio.run(listen_for_a_while())
    return heard


def model_requests(*, count: int) -> list[dict[str, Any]]:
    """The last requests as they went to the model."""
    rows = Decision.objects.filter(outcome="OK").order_by("-started_at")
    return [request for request in rows.values_list("request", flat=True)[:count] if request]


# --- approval to order ------------------------------------------------------------------------------------
def propose(*, symbol: str, quote_amount: str, wait_seconds: float) -> dict[str, Any]:
    """A BUY at market as the advisor leaves it; returns when the stack's gate has judged it."""
    now = clock.now()
    quote = market.latest_quote(symbol)
    if quote is None:
        return {"status": "no quote", "why": symbol}
    with transaction.atomic():
        proposal = make_proposal(symbol, quote.mid, quote_amount, now)
        announce(Proposal.TOPIC, proposal.pk, event=proposal.status)
    deadline = clock.monotonic_seconds() + wait_seconds
    while proposal.status == "proposed" and clock.monotonic_seconds() < deadline:
        time.sleep(POLL_SECONDS)
        proposal.refresh_from_db()
    return {"id": str(proposal.pk), "status": proposal.status, "why": proposal.refusal}


def fate(*, proposal_id: str, wait_seconds: float) -> dict[str, Any]:
    """The stamps of a proposal's order, once the exchange has acknowledged it."""
    deadline = clock.monotonic_seconds() + wait_seconds
    while True:
        order = (
            Order.objects.filter(intent__proposal_id=UUID(proposal_id), intent__kind="proposal", role="order")
            .select_related("intent__proposal")
            .first()
        )
        if order is not None and (order.acknowledged_at or order.closed_at):
            break
        if clock.monotonic_seconds() > deadline:
            return {"status": "no order", "why": Proposal.objects.get(pk=proposal_id).status}
        time.sleep(POLL_SECONDS)
    return {
        "status": order.status,
        "why": order.reason,
        "client_order_id": order.client_order_id,
        "judged": _us(order.intent.proposal.validated_at),
        "decided": _us(order.intent.proposal.decided_at),
        "claimed": _us(order.intent.created_at),
        "sent": _us(order.sent_at),
        "acknowledged": _us(order.acknowledged_at),
    }


def order_here(*, symbol: str, quote_amount: str) -> dict[str, Any]:
    """The same way without Celery: gate, claim and send called one after the other in this process.

    The stack's own trading worker must stand still. `began` is when `execute_approved` was called.
    """
    quote = market.latest_quote(symbol)
    if quote is None:
        return {"status": "no quote", "why": symbol}
    execution_tasks.watch_autonomy()  # nothing is ordered while nobody watches
    with transaction.atomic():
        proposal = make_proposal(symbol, quote.mid, quote_amount, clock.now())
    execution_tasks.assess_proposals()
    began = _now_us()
    execution_tasks.execute_approved()
    return fate(proposal_id=str(proposal.pk), wait_seconds=0) | {"began": began}


def keep_books_here() -> None:
    """What the trading worker does beside ordering: measure the clock and compare the books."""
    execution_tasks.measure_clock()
    execution_tasks.reconcile()


def nothing_is_held() -> bool:
    """Whether no other process is in the middle of a transaction: a stopped one would keep its locks."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '0.3 s'"
        )
        return bool(cursor.fetchone()[0] == 0)


def unknown_orders() -> list[dict[str, Any]]:
    """Every order whose outcome was unknown for a time: since when, until when, and what it came to."""
    rows = []
    for order in Order.objects.filter(unknown_since__isnull=False).select_related("intent"):
        resolved = order.acknowledged_at if order.status == "execution_confirmed" else order.closed_at
        rows.append(
            {
                "client_order_id": order.client_order_id,
                "status": order.status,
                "claimed": _us(order.intent.created_at),
                "unknown": _us(order.unknown_since),
                "resolved": _us(resolved),
                "window_ms": order.intent.recv_window_ms,
            }
        )
    return rows


# --- commit to page ---------------------------------------------------------------------------------------
def raise_alerts(*, count: int, gap_seconds: list[float], seed: int) -> dict[str, Any]:
    """Alerts with titles of their own at random gaps, and midway between two of them a bare Redis PUBLISH.

    Answers when each was committed and when each PUBLISH was called. At most ALERTS_OPEN_MAX stay open.
    """
    random_gap = random.Random(seed)
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5)
    committed: dict[int, int] = {}
    published: dict[int, int] = {}
    for number in range(count):
        gap = random_gap.uniform(*gap_seconds)
        with transaction.atomic():
            # Registered first, so that it runs before the announcement is queued.
            transaction.on_commit(lambda n=number: committed.__setitem__(n, _now_us()))
            alerts.raise_alert(
                kind=ACTOR,
                severity="critical",
                title=f"benchmark event {number} end",
                dedupe_key=f"{ACTOR}:{number}",
                now=clock.now(),
            )
            alerts.resolve_alerts(dedupe_key=f"{ACTOR}:{number - ALERTS_OPEN_MAX}", now=clock.now())
        time.sleep(gap / 2)
        published[number] = _now_us()
        client.publish(CHANNEL, number)
        time.sleep(gap / 2)
    client.publish(CHANNEL, -1)
    client.close()
    return {"committed": committed, "published": published}


def hear_publishes(*, wait_seconds: float) -> dict[int, int]:
    """When each bare PUBLISH arrived in this process."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=wait_seconds)
    heard: dict[int, int] = {}
    deadline = clock.monotonic_seconds() + wait_seconds
    with client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(CHANNEL)
        while clock.monotonic_seconds() < deadline:
            message = subscription.get_message(timeout=1.0)
            if message is None:
                continue
            arrived = _now_us()
            number = int(message["data"])
            if number < 0:
                break
            heard[number] = arrived
    client.close()
    return heard


def _now_us() -> int:
    return time.time_ns() // 1000


def _us(instant: datetime | None) -> int | None:
    return None if instant is None else round(instant.timestamp() * 1_000_000)


def _instant(microseconds: int) -> datetime:
    return clock.from_milliseconds(microseconds // 1000)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        arm,
        ask_on_every_candle,
        silence_strategies,
        decisions,
        hear_proposals,
        model_requests,
        propose,
        fate,
        order_here,
        keep_books_here,
        nothing_is_held,
        unknown_orders,
        raise_alerts,
        hear_publishes,
        fill_queue,
        change_queue,
        watch_queue,
    )
}


def main() -> None:
    """Serve calls until the input ends; what a function prints must not get between the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        call = json.loads(line)
        try:
            answer = {"result": FUNCTIONS[call["name"]](**call["arguments"])}
        except Exception as error:
            answer = {"error": f"{call['name']}: {type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
