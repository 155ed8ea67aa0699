"""Any part is killed while orders flow: nothing is lost and nothing is ordered twice."""

import random
import time
from collections import Counter, deque
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.stack.person import Operator
from tests.stack.running import RunningStack, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

# What a person would decide is below the threshold, the pace is wide.
FLOW = """
from decimal import Decimal
from proposals.services import cancel_pending
from risk import selectors, services
from risk.models import RiskLimits
from risk.rules.limits import LIMIT_NAMES
from tradingbot.core import clock
newest = selectors.limits_history().first()
values = {name: getattr(newest, name) for name in LIMIT_NAMES} | {
    "approval_threshold_quote": Decimal(1000), "price_drift_max_pct": Decimal(3),
    "daily_loss_max_pct": Decimal(20), "orders_per_minute_max": 200, "orders_per_hour_max": 3000,
    "volatility_max_pct": Decimal(20), "loss_streak_max": 100, "cool_down_seconds": 0,
}
services.save_limits(values=values, actor="test", confirmed_by="second", reason="all by itself",
                     now=clock.now())
if selectors.control().status != "ACTIVE":
    services.set_trading_state(state="ACTIVE", actor="test", reason="kills", now=clock.now())
cancel_pending(actor="test", reason="nothing may wait for a person", now=clock.now())
"""
PLACE = {"method": "POST", "path": "/api/v3/order", "count": 1}
# How the exchange treats the order under which the trading worker dies; None: a random moment.
MOMENTS: list[dict[str, Any] | None] = [
    {"kind": "delay_ms", "phase": "before", "ms": 700},
    None,
    {"kind": "delay_ms", "phase": "after", "ms": 1500},
    {"kind": "drop_answer"},
    None,
    {"kind": "delay_ms", "phase": "after", "ms": 1500},
    {"kind": "delay_ms", "phase": "before", "ms": 700},
]
OTHERS = ["redis", "web", "streams", "advisor", "beat", "alerts"]
QUEUES = ["trading", "streams", "advisor", "alerts"]
BACK_SECONDS_MAX = 60
# The launcher gives up when one part falls more than five times in a minute. One fall is left for Redis: when
# it dies under an acknowledgement of Celery's, the worker ends of itself and is started again.
KILLS_PER_MINUTE_MAX = 4
OPEN_ORDERS = "('intent', 'submitted_to_exchange', 'execution_unknown', 'manual_review_required')"


@pytest.fixture(scope="module")
def after_the_kills(stack: RunningStack) -> RunningStack:
    """The product after kills of every part, halted and come to rest."""
    dice = random.Random(7)
    stack.manage("shell", "-c", FLOW)
    others = list(OTHERS)
    kills: deque[float] = deque(maxlen=KILLS_PER_MINUTE_MAX)
    for moment in MOMENTS:
        if len(kills) == KILLS_PER_MINUTE_MAX:
            time.sleep(max(0.0, kills[0] + 62 - time.monotonic()))
        wait_for_the_moment(stack, moment, dice)
        kills.append(time.monotonic())
        comes_back(stack, "trading", stack.kill("trading"))
        if others:
            part = others.pop(0)
            comes_back(stack, part, stack.kill(part))
    come_to_rest(stack)
    return stack


def wait_for_the_moment(stack: RunningStack, moment: dict[str, Any] | None, dice: random.Random) -> None:
    """Until the order that the armed fault is for is under way; or anything up to two seconds."""
    if moment is None:
        time.sleep(dice.uniform(0, 2))
        return
    fault = stack.exchange("/sim/faults", PLACE | moment)["fault_id"]
    operator = Operator(stack)

    def has_fired() -> bool:
        operator.approve_what_waits()  # unknown orders use up the error budget; then all of them wait
        return fired(stack, fault)

    wait_for(has_fired, f"an order into {moment}", 90)
    time.sleep(dice.uniform(0, 0.3))


def fired(stack: RunningStack, fault_id: int) -> bool:
    return any(row["fault_id"] == fault_id and row["firings"] for row in stack.exchange("/sim/faults"))


def comes_back(stack: RunningStack, part: str, killed_at: datetime) -> None:
    """The part works again, told by what it wrote after its death, and the whole is ready."""
    queues = [part] if part in QUEUES else QUEUES
    names = [f"queue:{queue}" for queue in queues]

    def is_back() -> bool:
        beats = stack.rows("SELECT beat_at FROM core_heartbeat WHERE part = ANY(%s)", names)
        return all(beat > killed_at for (beat,) in beats) and stack.is_ready()

    wait_for(is_back, f"{part} at work again", BACK_SECONDS_MAX)


def come_to_rest(stack: RunningStack) -> None:
    """Halt, then wait until no order is under way and a comparison has been made since."""
    stack.halt()
    wait_for(
        lambda: stack.value(f"SELECT count(*) FROM execution_order WHERE status IN {OPEN_ORDERS}") == 0,
        "an end for every order that was claimed",
        60,
    )
    last = stack.value("SELECT max(id) FROM execution_reconciliationrun")
    stack.post("/reconciliation/run/")
    wait_for(
        lambda: stack.value(
            "SELECT id FROM execution_reconciliationrun WHERE id > %s AND status <> 'running'", last
        ),
        "a comparison after the last order",
    )
    show(stack)


def show(stack: RunningStack) -> None:
    """What there was, for the reader of a failure (`-rP` shows it always)."""
    states = stack.rows(
        "SELECT status, exchange_status, unknown_since IS NOT NULL, "
        "sent_at IS NOT NULL AND response_sha256 = '', count(*) FROM execution_order GROUP BY 1, 2, 3, 4"
    )
    for status, there, was_unknown, unanswered, count in states:
        notes = (
            f"{', unknown for a time' if was_unknown else ''}{', without an answer' if unanswered else ''}"
        )
        print(f"{count} orders {status} {there}{notes}")
    print(*[line for line in stack.output if "starting it again" in line], sep="\n")


def test_killing_hit_orders_under_way(after_the_kills: RunningStack) -> None:
    submitted = after_the_kills.value("SELECT count(*) FROM execution_order WHERE sent_at IS NOT NULL")
    unanswered = after_the_kills.value(
        "SELECT count(*) FROM execution_order WHERE sent_at IS NOT NULL AND response_sha256 = ''"
    )

    assert submitted >= len(MOMENTS)
    assert unanswered >= 3


def test_every_exchange_order_has_one_intent_and_none_is_there_twice(after_the_kills: RunningStack) -> None:
    there = Counter(order["clientOrderId"] for order in after_the_kills.orders_there())
    ours = after_the_kills.rows("SELECT client_order_id, count(*) FROM execution_order GROUP BY 1")

    assert [name for name, count in there.items() if count > 1] == []
    assert set(there) - {name for name, _ in ours} == set()
    assert [name for name, count in ours if count > 1] == []


def test_no_intent_was_made_twice_for_a_proposal(after_the_kills: RunningStack) -> None:
    twice = after_the_kills.rows(
        "SELECT proposal_id FROM execution_executionintent WHERE kind = 'proposal' "
        "GROUP BY 1 HAVING count(*) > 1"
    )

    assert twice == []


def test_our_orders_say_what_the_exchange_says(after_the_kills: RunningStack) -> None:
    there = {
        order["clientOrderId"]: (order["status"], Decimal(order["executedQty"]))
        for order in after_the_kills.orders_there()
    }
    ours = {
        name: (status, executed)
        for name, status, executed in after_the_kills.rows(
            "SELECT client_order_id, exchange_status, executed_quantity FROM execution_order "
            "WHERE status = 'execution_confirmed'"
        )
    }

    assert ours == there


def test_every_fill_of_the_exchange_is_booked_once(after_the_kills: RunningStack) -> None:
    there = Counter(
        (trade["symbol"], trade["id"], Decimal(trade["qty"]), Decimal(trade["commission"]))
        for trade in after_the_kills.exchange("/sim/orders")["trades"]
    )
    ours = Counter(after_the_kills.rows("SELECT symbol, trade_id, quantity, commission FROM execution_fill"))

    assert ours == there


def test_no_approved_proposal_is_lost(after_the_kills: RunningStack) -> None:
    lost = after_the_kills.rows(
        "SELECT p.id FROM proposals_proposal p LEFT JOIN execution_executionintent i ON i.proposal_id = p.id "
        "WHERE p.status IN ('auto_approved', 'approved') AND (p.claimed_at IS NULL OR i.id IS NULL)"
    )

    assert lost == []


def test_every_order_has_come_to_an_end_without_a_person(after_the_kills: RunningStack) -> None:
    reviewed = after_the_kills.rows(
        "SELECT client_order_id, reason FROM execution_order WHERE status = 'manual_review_required'"
    )

    assert reviewed == []


def test_books_agree_at_the_end(after_the_kills: RunningStack) -> None:
    status = after_the_kills.value("SELECT status FROM execution_reconciliationrun ORDER BY id DESC LIMIT 1")
    still_open = after_the_kills.rows(
        "SELECT kind, subject, ours, theirs FROM execution_divergence WHERE closed_at IS NULL"
    )

    assert still_open == []
    assert status == "clean"


def test_audit_chain_holds(after_the_kills: RunningStack) -> None:
    assert "audit chain holds" in after_the_kills.manage("audit_verify")
