"""Autonomy follows health: down at once, up by itself after a while, out of HALTED only with a person."""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from proposals.contracts import ProposalStatus
from proposals.models import Proposal
from risk import selectors, services
from risk.contracts import AutonomyLevel, ControlRefused, Health, NotAuthorised, TradingState
from risk.models import Autonomy, Kill, TradingControl
from risk.rules import autonomy as rules
from tests.conftest import NOW
from tests.risk.test_gate_services import assess, authorise
from tradingbot.core import audit
from tradingbot.core.models import Alert
from tradingbot.operations.rehearsal.streams import ALL_WELL

AUTO, APPROVAL, EXITS, HALTED = AutonomyLevel
LATER = rules.RECOVERS_AFTER
STALE = replace(ALL_WELL, stale_feeds=("market: not connected",))
OPEN = replace(ALL_WELL, open_breakers=("rehearsal-1",))
REFUSED = replace(ALL_WELL, rejected_in_a_row=5)


def level_of(health: Health, failing_for: timedelta = timedelta(0)) -> AutonomyLevel:
    results = rules.check_health(health)
    since = {result.name: NOW - failing_for for result in results}
    return rules.wanted_level(results, since, NOW)


# --- pure ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("health", "level", "red"),
    [
        (ALL_WELL, AUTO, []),
        (STALE, EXITS, ["feeds"]),
        (replace(ALL_WELL, reconciled=False), EXITS, ["reconciliation"]),
        (replace(ALL_WELL, unresolved_orders=1), AUTO, []),
        (replace(ALL_WELL, unresolved_orders=2), EXITS, ["unknown orders"]),
        (replace(ALL_WELL, rejected_in_a_row=4), AUTO, []),
        (REFUSED, HALTED, ["rejections"]),
        (OPEN, APPROVAL, ["advisor"]),
        (replace(ALL_WELL, orders_last_hour=20, orders_failed_last_hour=1), AUTO, []),
        (replace(ALL_WELL, orders_last_hour=20, orders_failed_last_hour=2), APPROVAL, ["error budget"]),
        (replace(ALL_WELL, orders_last_hour=19, orders_failed_last_hour=19), AUTO, []),
        (replace(ALL_WELL, speed_samples=20, proposal_to_execution_p95_ms=4999), AUTO, []),
        (replace(ALL_WELL, speed_samples=20, proposal_to_execution_p95_ms=5000), APPROVAL, ["speed budget"]),
        (replace(STALE, open_breakers=("x",)), EXITS, ["feeds", "advisor"]),
    ],
)
def test_each_check_lowers_to_its_own_level_and_the_lowest_counts(
    health: Health, level: AutonomyLevel, red: list[str]
) -> None:
    assert level_of(health) is level
    assert [result.name for result in rules.check_health(health) if not result.passes] == red


@pytest.mark.parametrize(("health", "minutes"), [(STALE, 5), (replace(ALL_WELL, reconciled=False), 15)])
def test_what_stays_red_for_long_halts(health: Health, minutes: int) -> None:
    assert level_of(health, timedelta(minutes=minutes, seconds=-1)) is EXITS
    assert level_of(health, timedelta(minutes=minutes)) is HALTED


@given(st.sampled_from([field.name for field in fields(Health) if field.name != "reconciliation_note"]))
def test_missing_input_never_allows_more(name: str) -> None:
    busy = replace(ALL_WELL, speed_samples=20, proposal_to_execution_p95_ms=1)

    results = rules.check_health(replace(busy, **{name: None}))

    assert sum(not result.passes for result in results) == 1


JUNK = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.none(), max_size=2), st.floats())


@given(st.fixed_dictionaries({field.name: JUNK for field in fields(Health)}))
def test_no_health_raises(values: dict[str, Any]) -> None:
    results = rules.check_health(Health(**values))

    assert len(results) == len(rules.CHECKS)


@given(st.sampled_from(AutonomyLevel), st.sampled_from(AutonomyLevel), st.integers(-10, 10))
def test_level_only_rises_when_better_for_long_enough(
    present: AutonomyLevel, wanted: AutonomyLevel, seconds: int
) -> None:
    found = rules.next_level(present, wanted, NOW - timedelta(seconds=seconds), NOW)

    rises = wanted.rank > present.rank and seconds >= LATER.total_seconds() and present is not HALTED
    assert found is (wanted if rises or wanted.rank <= present.rank else present)


# --- stored ----------------------------------------------------------------------------------------------
def look(health: Health, at: datetime = NOW) -> str:
    return services.follow_health(health=health, now=at).status


def state() -> str:
    return TradingControl.objects.get(pk=settings.TRADING_ENVIRONMENT).status


@pytest.mark.django_db
def test_it_starts_with_exits_only_and_rises_once_all_is_green(db: None) -> None:
    assert look(ALL_WELL) == EXITS

    assert look(ALL_WELL, NOW + LATER) == AUTO


def test_lowering_is_told_with_reason_and_way_back_and_closed_on_the_way_up(control: TradingControl) -> None:
    assert look(STALE) == EXITS
    alert = Alert.objects.get(kind="autonomy")
    assert "market: not connected" in alert.detail and "every stream has to be connected" in alert.detail

    assert look(ALL_WELL, NOW + timedelta(seconds=2)) == EXITS
    assert look(ALL_WELL, NOW + timedelta(seconds=2) + LATER) == AUTO

    alert.refresh_from_db()
    assert alert.resolved_at is not None
    subject = f"autonomy:{settings.TRADING_ENVIRONMENT}"
    assert [link["action"] for link in audit.history(subject)] == ["autonomy.exits", "autonomy.auto"]
    assert state() == TradingState.ACTIVE


def test_one_red_look_on_the_way_up_starts_the_wait_anew(control: TradingControl) -> None:
    look(STALE)
    look(ALL_WELL, NOW + timedelta(seconds=2))
    look(STALE, NOW + timedelta(seconds=4))
    look(ALL_WELL, NOW + timedelta(seconds=6))

    assert look(ALL_WELL, NOW + timedelta(seconds=6) + LATER / 2) == EXITS


def test_long_staleness_halts_trading_by_itself_and_only_a_person_leads_back(control: TradingControl) -> None:
    for seconds in range(0, 301, 20):
        look(STALE, NOW + timedelta(seconds=seconds))
    assert state() == TradingState.HALTED
    assert Kill.objects.get().actor == "autonomy"

    after = NOW + timedelta(seconds=310)
    assert look(ALL_WELL, after) == HALTED
    assert look(ALL_WELL, after + LATER * 2) == HALTED
    services.set_trading_state(state=TradingState.ACTIVE, actor="rita", reason="feeds are back", now=after)

    assert Autonomy.objects.get(pk=settings.TRADING_ENVIRONMENT).status == EXITS
    look(ALL_WELL, after + timedelta(seconds=12))
    assert look(ALL_WELL, after + timedelta(seconds=12) + LATER) == AUTO
    assert state() == TradingState.ACTIVE


def test_arming_is_refused_while_a_check_still_asks_for_a_halt(control: TradingControl) -> None:
    look(REFUSED)
    assert state() == TradingState.HALTED

    with pytest.raises(ControlRefused, match="rejections"):
        services.set_trading_state(state=TradingState.ACTIVE, actor="rita", reason="again", now=NOW)


def test_time_in_which_nobody_looked_does_not_count_as_red(control: TradingControl) -> None:
    look(STALE)

    assert look(STALE, NOW + timedelta(hours=1)) == EXITS
    assert state() == TradingState.ACTIVE


def test_older_look_of_another_worker_changes_nothing(control: TradingControl) -> None:
    look(ALL_WELL, NOW + timedelta(seconds=2))

    assert look(STALE, NOW) == AUTO


def test_watch_goes_on_when_the_clock_was_set_back(control: TradingControl) -> None:
    """The newest look is dated long after now: no other worker looked later, the clock did."""
    look(ALL_WELL, NOW + timedelta(hours=1))

    assert look(STALE, NOW) == EXITS


# --- enforced --------------------------------------------------------------------------------------------
Propose = Callable[..., Proposal]
SMALL = {"quote_amount": "49"}


def test_approval_only_lets_no_small_order_be_approved_by_itself(propose: Propose) -> None:
    look(OPEN)

    assert assess(propose(answer=SMALL)).status == ProposalStatus.PENDING_APPROVAL


def test_automatic_approval_given_before_is_not_ordered_under_approval_only(propose: Propose) -> None:
    proposal = assess(propose(answer=SMALL))
    assert proposal.status == ProposalStatus.AUTO_APPROVED
    look(OPEN)

    with pytest.raises(NotAuthorised, match="autonomy: every entry waits for a person"):
        authorise(proposal)


def test_approval_of_a_person_is_ordered_under_approval_only(propose: Propose) -> None:
    proposal = assess(propose())
    Proposal.objects.filter(pk=proposal.pk).update(status=ProposalStatus.APPROVED)
    proposal.refresh_from_db()
    look(OPEN)

    authorise(proposal)

    assert proposal.assessments.get(binding=True).passed


def test_entry_may_only_be_looked_at_while_only_exits_are_ordered(propose: Propose) -> None:
    look(STALE)

    proposal = assess(propose(answer=SMALL))

    assert proposal.status == ProposalStatus.PENDING_APPROVAL
    armed, reasons = selectors.trading_armed(NOW)
    assert not armed and "only exits are ordered" in reasons[0]
    assert selectors.trading_armed(NOW, leaving=True) == (True, [])


def test_watch_that_is_silent_stops_everything(propose: Propose) -> None:
    Autonomy.objects.update(seen_at=NOW - timedelta(seconds=31))

    assert assess(propose(answer=SMALL)).status == ProposalStatus.RISK_REJECTED
    assert selectors.trading_armed(NOW, leaving=True)[0] is False


def test_look_dated_long_after_now_stops_everything(propose: Propose) -> None:
    Autonomy.objects.update(seen_at=NOW + timedelta(hours=1))

    assert assess(propose(answer=SMALL)).status == ProposalStatus.RISK_REJECTED
    assert selectors.trading_armed(NOW, leaving=True)[0] is False
