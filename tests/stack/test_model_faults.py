"""The model stand-in's own faults through the running product: each is a NO_TRADE with its reason, then it goes on."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.launcher.conftest import server_folder
from tests.stack.running import RunningStack, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
# One symbol: its decisions follow each other, so that a fault and its repetition meet the same one.
ONE_SYMBOL = """
from proposals import services
from proposals.models import Strategy
from tradingbot.core import clock
for strategy in Strategy.objects.all():
    strategy.symbols = ["BTCUSDT"]
    services.save_strategy(strategy=strategy, actor="test", now=clock.now())
"""
SAME_API = """
from proposals import services
from proposals.models import Strategy
from tradingbot.core import clock
for strategy in Strategy.objects.all():
    strategy.api = "{api}"
    services.save_strategy(strategy=strategy, actor="test", now=clock.now())
"""
# What the model does, and the code on the decision. A passing trouble is asked once more, so it comes twice.
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "malformed"}, "NOT_JSON"),
    ({"kind": "refusal"}, "REFUSAL"),
    ({"kind": "cut"}, "CUT_OFF"),
    ({"kind": "status", "status": 429, "count": 2}, "HTTP_429"),
    ({"kind": "slow", "ms": 30_000}, "TIMEOUT"),
]
DECISION = (
    "SELECT p.id, p.action, p.status, p.refusal, p.quantity FROM proposals_decision d "
    "JOIN proposals_proposal p ON p.decision_id = d.id "
    "WHERE d.{instant} > %s AND d.outcome = %s"
)
DECISION_SECONDS_MAX = 90


@pytest.fixture(scope="module")
def stack(artifacts: Path) -> Iterator[RunningStack]:
    """The running product with a short patience for its model."""
    with server_folder() as folder:
        running = RunningStack(folder)
        try:
            running.start(ADVISOR_TIMEOUT_SECONDS="4")
            running.quicken()
            running.manage("shell", "-c", ONE_SYMBOL)
            yield running
        finally:
            running.kill_all()
            shutil.copytree(running.data / "logs", artifacts / "logs-faults", dirs_exist_ok=True)


def next_decision(stack: RunningStack, since: Any, code: str, instant: str) -> tuple[Any, ...]:
    """The first decision with `code` whose `instant`, started_at or finished_at, is after `since`."""
    found: list[tuple[Any, ...]] = wait_for(
        lambda: stack.rows(DECISION.format(instant=instant), since, code),
        f"a decision that ends with {code}",
        DECISION_SECONDS_MAX,
    )
    return found[0]


@pytest.fixture(scope="module", params=["chat_completions", "responses"])
def api(stack: RunningStack, request: pytest.FixtureRequest) -> str:
    """Every strategy asks over this interface."""
    chosen: str = request.param
    stack.manage("shell", "-c", SAME_API.format(api=chosen))
    return chosen


@pytest.mark.parametrize(("fault", "code"), FAULTS, ids=[code for _, code in FAULTS])
def test_fault_of_the_model_is_a_no_trade_and_the_next_decision_is_sound(
    stack: RunningStack, api: str, fault: dict[str, Any], code: str
) -> None:
    since = stack.value("SELECT now()")
    armed = requests.post(f"{stack.model_url}/sim/faults", json=fault, timeout=10)
    assert armed.ok, armed.text

    # One that had begun may meet the fault.
    proposal_id, action, status, refusal, quantity = next_decision(stack, since, code, "finished_at")

    assert (action, status, quantity) == ("NO_TRADE", "no_trade", None)
    assert refusal.startswith(f"{code}: ")
    assert code in stack.get(f"/approvals/{proposal_id}/").text
    asked = (
        "SELECT request ? 'input' FROM proposals_decision d JOIN proposals_proposal p ON p.decision_id = d.id"
    )
    assert stack.value(f"{asked} WHERE p.id = %s", proposal_id) == (api == "responses")
    after = stack.value("SELECT now()")
    next_decision(stack, after, "OK", "started_at")
    assert stack.value("SELECT count(*) FROM execution_order o JOIN execution_executionintent i "
                       "ON i.id = o.intent_id WHERE i.proposal_id = %s", proposal_id) == 0  # fmt: skip


def test_every_fault_has_fired(stack: RunningStack) -> None:
    told = requests.get(f"{stack.model_url}/sim/faults", timeout=10).json()["faults"]

    assert {fault["kind"] for fault in told if fault["fired_at_ms"]} == {
        "slow", "malformed", "refusal", "cut", "status",
    }  # fmt: skip
