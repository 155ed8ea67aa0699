"""Shadow strategies: judged and kept like any other, never queued, never ordered, in nobody's way."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.test import Client

from market.models import Candle
from proposals import selectors, services
from proposals.contracts import ProposalStatus
from proposals.models import AdvisorBreaker, Decision, Proposal, Strategy
from tests.proposals.conftest import SYMBOL, buy, judge
from tests.proposals.model_server import Server, echoes, fails
from tests.proposals.test_approvals import DENY, approve, claim, code_of, stored
from tests.web import seeding
from tradingbot.core import clock
from tradingbot.core.models import Alert

Make = Callable[..., Proposal]
Market = Callable[..., Candle]
OUT_OF_REACH = ["pending_approval", "auto_approved", "approved", "rejected"]


@pytest.fixture
def shadow(strategy: Strategy) -> Strategy:
    """A second strategy on the same symbol, in shadow."""
    return Strategy.objects.create(name="shadow", symbols=[SYMBOL], shadow=True, model="other-model")


@pytest.mark.parametrize("needs_person", [True, False])
def test_shadow_that_passes_the_gate_ends_there_without_an_alert(
    proposed: Make, now: datetime, needs_person: bool
) -> None:
    row = stored(judge(proposed(shadow=True), now, needs_person=needs_person))

    assert (row.status, row.digest, row.quantity) == ("shadow", "", Decimal("0.0025"))
    assert row.verdict
    assert (selectors.pending(now), selectors.approved_unclaimed(10, now)) == ([], [])
    assert not Alert.objects.exists()


def test_shadow_that_the_gate_refuses_says_why_without_an_alert(proposed: Make, now: datetime) -> None:
    row = stored(judge(proposed(shadow=True), now, verdict=[DENY]))

    assert (row.status, row.refusal) == ("risk_rejected", "Too wide.")
    assert not Alert.objects.exists()


@pytest.mark.parametrize("status", OUT_OF_REACH)
def test_database_refuses_a_shadow_in_the_queue(proposed: Make, now: datetime, status: str) -> None:
    row = judge(proposed(shadow=True), now)

    with pytest.raises(IntegrityError), transaction.atomic():
        Proposal.objects.filter(pk=row.pk).update(status=status)


@pytest.mark.parametrize("changes", [{"claimed_at": clock.now()}, {"digest": "d" * 64}, {"shadow": False}])
def test_database_refuses_to_claim_or_to_free_a_shadow(
    proposed: Make, now: datetime, changes: dict[str, object]
) -> None:
    row = judge(proposed(shadow=True), now)

    with pytest.raises(IntegrityError), transaction.atomic():
        Proposal.objects.filter(pk=row.pk).update(**changes)


def test_database_refuses_a_proposal_out_of_the_shadow_of_its_decision(proposed: Make, now: datetime) -> None:
    decision = proposed(shadow=True).decision
    Proposal.objects.all().delete()

    with pytest.raises(IntegrityError, match="as its decision is"), transaction.atomic():
        proposed(decision=decision)
    with pytest.raises(IntegrityError, match="stays in shadow"), transaction.atomic():
        Decision.objects.filter(pk=decision.pk).update(shadow=False)


def test_shadow_can_be_neither_approved_nor_claimed(proposed: Make, now: datetime) -> None:
    row = judge(proposed(shadow=True), now)

    assert code_of(lambda: approve(row, now)) == "NOT_PENDING"
    assert code_of(lambda: claim(row, now)) == "SHADOW"


def test_status_shadow_is_for_shadows_only(proposed: Make) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        proposed(status=ProposalStatus.SHADOW)


# --- in nobody's way -------------------------------------------------------------------------------------
def test_both_decide_on_the_same_candle_and_the_shadow_comes_second(
    strategy: Strategy, shadow: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(buy)]
    assert selectors.due_decisions(now) == [(strategy, SYMBOL), (shadow, SYMBOL)]

    rows = [services.advise(strategy=each, symbol=SYMBOL, now=now) for each in (shadow, strategy)]

    assert [(row.shadow, row.decision.shadow) for row in rows if row] == [(True, True), (False, False)]
    assert [r["body"]["model"] for r in model_server.requests] == ["other-model", settings.ADVISOR_MODEL]
    assert selectors.proposals_to_assess(10) == [row.pk for row in reversed(rows) if row]


def test_shadow_under_way_holds_up_shadows_only(
    strategy: Strategy, shadow: Strategy, market: Market, now: datetime
) -> None:
    Decision.objects.create(
        environment=settings.TRADING_ENVIRONMENT, strategy=shadow, shadow=True, symbol="ETHUSDT",
        candle_open_time=now, prompt_version="v1", started_at=now,
    )  # fmt: skip

    assert selectors.due_decisions(now) == [(strategy, SYMBOL)]


def test_neither_is_told_what_the_other_proposed(
    strategy: Strategy, shadow: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(buy)]
    for each in (strategy, shadow):
        services.advise(strategy=each, symbol=SYMBOL, now=now)
    market(1)
    later = now + timedelta(minutes=1)

    for each in (strategy, shadow):
        (own,) = selectors.recent_proposals(each, SYMBOL, 5)
        assert own.decision.strategy == each
        assert services.advise(strategy=each, symbol=SYMBOL, now=later)


def test_failures_of_the_shadow_open_no_breaker_of_the_advisor_that_trades(
    strategy: Strategy, shadow: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    Strategy.objects.update(model="same-model", min_seconds_between=0)
    shadow.refresh_from_db()
    strategy.refresh_from_db()
    model_server.scripts = [fails(400)]
    for minute in range(3):
        services.advise(strategy=shadow, symbol=SYMBOL, now=now + timedelta(minutes=minute))
        market(minute + 1)
    assert AdvisorBreaker.objects.get().state == "open"
    assert (selectors.breakers(), len(selectors.breakers(shadow=True))) == ([], 1)
    assert Alert.objects.get(kind="advisor_breaker").severity == "info"
    model_server.scripts = [echoes(buy)]

    row = services.advise(strategy=strategy, symbol=SYMBOL, now=now + timedelta(minutes=3))

    assert row is not None
    assert row.decision.outcome == "OK"


@pytest.mark.django_db
def test_list_and_card_mark_what_is_in_shadow(client: Client, now: datetime) -> None:
    seeding.starting_rows(now)
    row = seeding.proposal(clock.now(), status="shadow", shadow=True, digest="")
    client.force_login(seeding.operator())

    assert "shadow, passed the gate" in client.get("/proposals/?status=shadow").content.decode()
    card = client.get(f"/approvals/{row.pk}/").content.decode()
    assert "can never be approved or ordered" in card
    assert 'id="approve-form"' not in card.replace('form="approve-form"', "")
    assert str(row.pk) not in client.get("/approvals/").content.decode()
