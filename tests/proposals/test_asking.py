"""Decisions that people ask for: merged, capped, one at a time, and never approved by their requester alone."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction

from market.models import Candle
from proposals import panels, selectors, services
from proposals.contracts import REQUEST_WAITS_SECONDS_MAX
from proposals.models import ApprovalVote, Decision, DecisionRequest, Proposal, Strategy
from tests.proposals.conftest import SYMBOL, judge, no_trade
from tests.proposals.model_server import Server, echoes
from tests.proposals.races import race
from tests.proposals.test_approvals import approve, claim, code_of, stored
from tests.web import seeding
from tradingbot.core.audit import history

Make = Callable[..., Proposal]
Market = Callable[..., Candle]


def ask(strategy: Strategy, now: datetime, actor: str = "ana", symbol: str = SYMBOL) -> DecisionRequest:
    return services.ask_decision(strategy_id=strategy.pk, symbol=symbol, actor=actor, now=now)


def under_way(strategy: Strategy, now: datetime) -> Decision:
    return Decision.objects.create(
        environment=settings.TRADING_ENVIRONMENT, strategy=strategy, symbol=SYMBOL,
        candle_open_time=now, prompt_version="v1", started_at=now,
    )  # fmt: skip


# --- asking ----------------------------------------------------------------------------------------------
def test_question_is_answered_on_a_candle_that_was_decided_on_already(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    later = now + timedelta(seconds=5)
    request = ask(strategy, later)
    assert selectors.due_decisions(later) == [(strategy, SYMBOL)]

    proposal = services.advise(strategy=strategy, symbol=SYMBOL, now=later)

    request.refresh_from_db()
    assert proposal is not None
    assert (request.decision_id, proposal.decision.on_demand) == (proposal.decision_id, True)
    assert selectors.requesters_of(proposal) == ["ana"]
    assert selectors.due_decisions(later) == []
    assert services.advise(strategy=strategy, symbol=SYMBOL, now=later) is None


def test_question_that_waits_is_merged_with_the_decision_of_the_closed_candle(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    ask(strategy, now)

    proposal = services.advise(strategy=strategy, symbol=SYMBOL, now=now)

    assert proposal is not None
    assert (proposal.decision.on_demand, selectors.requesters_of(proposal)) == (False, ["ana"])
    assert len(model_server.requests) == 1


def test_question_is_answered_on_an_old_candle_after_many_decisions_on_its_symbol(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    """A strategy of the hour beside one of the minute: twenty newer decisions hid that its candle was decided."""
    model_server.scripts = [echoes(no_trade)]
    services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    other = Strategy.objects.create(name="of the minute", symbols=[SYMBOL], enabled=False)
    for minute in range(1, 22):
        Decision.objects.create(
            environment=settings.TRADING_ENVIRONMENT, strategy=other, symbol=SYMBOL, prompt_version="v1",
            candle_open_time=now, on_demand=True, started_at=now + timedelta(minutes=minute),
            finished_at=now + timedelta(minutes=minute, seconds=2),
        )  # fmt: skip
    later = now + timedelta(minutes=30)
    request = ask(strategy, later)

    proposal = services.advise(strategy=strategy, symbol=SYMBOL, now=later)

    request.refresh_from_db()
    assert proposal is not None
    assert request.decision_id == proposal.decision_id


def test_second_person_joins_the_question_and_the_same_person_asks_once(
    strategy: Strategy, now: datetime
) -> None:
    first, again, second = ask(strategy, now), ask(strategy, now), ask(strategy, now, "bob")

    assert (first.pk, first.merged, second.merged) == (again.pk, False, True)
    assert DecisionRequest.objects.count() == 2
    assert history(f"decision_request:{second.pk}")[0]["payload"]["merged"] is True


def test_question_joins_a_decision_under_way(strategy: Strategy, now: datetime) -> None:
    decision = under_way(strategy, now)

    request = ask(strategy, now)

    assert (request.decision, request.merged) == (decision, True)
    assert selectors.due_decisions(now) == []


def test_question_waits_while_another_strategy_decides_on_the_symbol(
    strategy: Strategy, market: Market, now: datetime
) -> None:
    other = Strategy.objects.create(name="other", symbols=[SYMBOL], enabled=False)
    under_way(other, now)
    ask(strategy, now)

    assert selectors.due_decisions(now) == []
    assert services.advise(strategy=strategy, symbol=SYMBOL, now=now) is None


def test_questions_of_the_hour_used_up_are_refused_but_joining_is_not(
    strategy: Strategy, now: datetime
) -> None:
    strategy.requests_per_hour_max = 1
    strategy.symbols = [SYMBOL, "ETHUSDT"]
    strategy.save()
    ask(strategy, now)

    assert code_of(lambda: ask(strategy, now, symbol="ETHUSDT")) == "ASKED_TOO_OFTEN"
    assert ask(strategy, now, "bob").merged
    assert ask(strategy, now + timedelta(minutes=61), symbol="ETHUSDT").merged is False


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"enabled": False}, "NO_STRATEGY"), ({"symbols": ["ETHUSDT"]}, "SYMBOL_NOT_IN_STRATEGY")],
)
def test_question_that_nobody_would_answer_is_refused(
    strategy: Strategy, now: datetime, changes: dict[str, object], code: str
) -> None:
    Strategy.objects.filter(pk=strategy.pk).update(**changes)

    assert code_of(lambda: ask(strategy, now)) == code


def test_question_that_no_worker_takes_up_lapses_and_is_not_answered_later(
    strategy: Strategy, market: Market, now: datetime
) -> None:
    request = ask(strategy, now)
    late = now + timedelta(seconds=REQUEST_WAITS_SECONDS_MAX)

    assert [services.expire_overdue(now=late), services.expire_overdue(now=late)] == [1, 0]

    request.refresh_from_db()
    assert (request.decision, request.lapsed_at) == (None, late)
    assert ask(strategy, late).pk != request.pk


def test_who_asks_again_after_the_question_lapsed_but_before_the_sweep_asks_anew(
    strategy: Strategy, now: datetime
) -> None:
    """With no worker running nothing swept, and the second question was an IntegrityError: a broken page."""
    first = ask(strategy, now)
    late = now + timedelta(seconds=REQUEST_WAITS_SECONDS_MAX)

    again = ask(strategy, late)

    first.refresh_from_db()
    assert (first.lapsed_at, again.merged) == (late, False)
    assert again.pk != first.pk


@pytest.mark.django_db(transaction=True)
def test_questions_on_several_symbols_at_once_do_not_pass_the_cap_of_the_hour(
    strategy: Strategy, now: datetime
) -> None:
    symbols = [f"A{number}USDT" for number in range(6)]
    Strategy.objects.filter(pk=strategy.pk).update(symbols=symbols, requests_per_hour_max=1)

    for hour in range(5):
        at = now + timedelta(hours=2 * hour)
        race([lambda s=symbol, at=at: ask(strategy, at, symbol=s) for symbol in symbols])

        assert DecisionRequest.objects.filter(requested_at=at).count() == 1


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_one_question(strategy: Strategy, now: datetime) -> None:
    rows = race([lambda name=name: ask(strategy, now, name) for name in ("ana", "ana", "bob", "eve")])

    assert sorted(row.requested_by for row in DecisionRequest.objects.all()) == ["ana", "bob", "eve"]
    assert [row.merged for row in rows].count(False) in (1, 2)  # both rows of ana are the same one
    assert DecisionRequest.objects.filter(merged=False).count() == 1


# --- who may approve what came of it ---------------------------------------------------------------------
@pytest.fixture
def asked(proposed: Make, now: datetime) -> Proposal:
    """A proposal that ana asked for and one person must approve."""
    row = proposed()
    DecisionRequest.objects.create(
        environment=row.environment, strategy=row.decision.strategy, symbol=SYMBOL, requested_by="ana",
        requested_at=now, decision=row.decision,
    )  # fmt: skip
    return judge(row, now)


def test_who_asked_cannot_approve_alone_and_somebody_else_can(asked: Proposal, now: datetime) -> None:
    assert code_of(lambda: approve(asked, now, actor="ana")) == "OWN_REQUEST"
    assert (stored(asked).status, ApprovalVote.objects.count()) == ("pending_approval", 0)

    approve(asked, now, actor="bob")

    assert stored(asked).status == "approved"
    assert claim(asked, now).claimed_at == now


def test_who_asked_may_be_the_first_of_two(asked: Proposal, now: datetime) -> None:
    Proposal.objects.update(approvals_required=2)

    approve(asked, now, actor="ana")
    approve(asked, now, actor="bob")

    assert (stored(asked).status, stored(asked).decided_by) == ("approved", "bob")


def test_who_asked_may_be_the_second_of_two(asked: Proposal, now: datetime) -> None:
    Proposal.objects.update(approvals_required=2)

    approve(asked, now, actor="bob")
    approve(asked, now, actor="ana")

    assert stored(asked).status == "approved"


def test_two_who_both_asked_are_not_enough(asked: Proposal, now: datetime) -> None:
    Proposal.objects.update(approvals_required=2)
    DecisionRequest.objects.create(
        environment=asked.environment, strategy=asked.decision.strategy, symbol=SYMBOL, requested_by="bob",
        requested_at=now, decision=asked.decision, merged=True,
    )  # fmt: skip
    approve(asked, now, actor="ana")

    assert code_of(lambda: approve(asked, now, actor="bob")) == "OWN_REQUEST"

    approve(asked, now, actor="eve")
    assert stored(asked).status == "approved"


def test_database_refuses_the_approval_by_the_requester_alone(asked: Proposal, now: datetime) -> None:
    ApprovalVote.objects.create(
        proposal=asked, version=asked.version, digest=asked.digest, actor="ana", at=now
    )

    with pytest.raises(IntegrityError, match="nobody but who asked"), transaction.atomic():
        Proposal.objects.filter(pk=asked.pk).update(status="approved", decided_at=now, decided_by="ana")


def test_vote_of_another_for_another_order_does_not_count_in_the_database(
    asked: Proposal, now: datetime
) -> None:
    ApprovalVote.objects.create(proposal=asked, version=1, digest="0" * 64, actor="bob", at=now)

    with pytest.raises(IntegrityError), transaction.atomic():
        Proposal.objects.filter(pk=asked.pk).update(status="approved", decided_at=now, decided_by="bob")


def test_claim_is_refused_where_only_the_requester_approved(asked: Proposal, now: datetime) -> None:
    row = stored(asked)
    approve(row, now, actor="bob")
    # A request cannot be added to a decision that has ended: only somebody behind our back does this.
    DecisionRequest.objects.create(
        environment=row.environment, strategy=row.decision.strategy, symbol=SYMBOL, requested_by="bob",
        requested_at=now, decision=row.decision,
    )  # fmt: skip

    assert code_of(lambda: claim(row, now)) == "VOTES_MISSING"
    with pytest.raises(IntegrityError), transaction.atomic():
        Proposal.objects.filter(pk=row.pk).update(claimed_at=now)


@pytest.mark.parametrize("change", ["delete", "rename"])
def test_request_that_was_taken_up_stays_as_it_is(asked: Proposal, change: str) -> None:
    taken = DecisionRequest.objects.filter(decision=asked.decision)

    with pytest.raises(IntegrityError), transaction.atomic():
        taken.delete() if change == "delete" else taken.update(requested_by="nobody")


def test_card_tells_who_asked_that_another_must_approve(asked: Proposal, now: datetime) -> None:
    ana, bob = seeding.operator("ana"), seeding.operator("bob")

    assert panels.why_not_by_you(asked, ana) == [
        "you asked for this decision; somebody who did not ask must approve it"
    ]
    assert panels.why_not_by_you(asked, bob) == []
    assert panels.answering(asked, bob)["requesters"] == ["ana"]


def test_card_lets_who_asked_be_one_of_two(asked: Proposal) -> None:
    Proposal.objects.update(approvals_required=2)

    assert panels.why_not_by_you(stored(asked), seeding.operator("ana")) == []
