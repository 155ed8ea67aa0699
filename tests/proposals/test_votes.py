"""Approvals by several people, less than was proposed, and the token that says when a card was shown."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from proposals import selectors, services
from proposals.contracts import SHOWN_SECONDS_MAX, DecisionRefused, QuantisedOrder
from proposals.models import ApprovalVote, Proposal
from tests.proposals.conftest import PASS, judge, order
from tests.proposals.test_approvals import approve, claim, code_of, stored
from tradingbot.core.audit import history

Make = Callable[..., Proposal]
HALF = {"quantity": Decimal("0.00125"), "notional_quote": Decimal(25), "fee_quote": Decimal("0.025")}


@pytest.fixture
def large(proposed: Make, now: datetime) -> Proposal:
    """A proposal that two different people must approve."""
    return judge(proposed(), now, approvals_required=2)


# --- two people ------------------------------------------------------------------------------------------
def test_first_of_two_approvals_is_a_vote_and_approves_nothing(large: Proposal, now: datetime) -> None:
    approve(large, now, actor="ana")

    row = stored(large)
    assert (row.status, row.version, row.decided_by) == ("pending_approval", large.version, "")
    vote = ApprovalVote.objects.get(proposal=large)
    assert (vote.actor, vote.version, vote.digest, vote.at) == ("ana", large.version, large.digest, now)
    assert selectors.approved_unclaimed(10, now) == []
    assert history(f"proposal:{large.pk}")[-1]["action"] == "proposal.vote"


def test_second_person_approves_and_both_are_named(large: Proposal, now: datetime) -> None:
    approve(large, now, actor="ana")
    approve(large, now, actor="bob")

    row = stored(large)
    assert (row.status, row.decided_by) == ("approved", "bob")
    assert history(f"proposal:{large.pk}")[-1]["payload"]["approved_by"] == ["ana", "bob"]
    with pytest.raises(DecisionRefused, match="Approved by ana and bob at 12:00:00 UTC"):
        approve(large, now, actor="eve")


def test_same_person_twice_is_refused_and_counts_once(large: Proposal, now: datetime) -> None:
    approve(large, now, actor="ana")

    assert code_of(lambda: approve(large, now, actor="ana")) == "ALREADY_VOTED"
    assert stored(large).status == "pending_approval"
    assert ApprovalVote.objects.count() == 1


@pytest.mark.parametrize("changes", [{"version": 99}, {"digest": "0" * 64}])
def test_second_vote_for_another_order_is_refused(
    large: Proposal, now: datetime, changes: dict[str, Any]
) -> None:
    approve(large, now, actor="ana")

    assert code_of(lambda: approve(large, now, actor="bob", **changes)) == "STALE_PAGE"
    assert stored(large).status == "pending_approval"


def test_vote_does_not_outlive_the_expiry(large: Proposal, now: datetime) -> None:
    approve(large, now, actor="ana")

    assert code_of(lambda: approve(large, large.expires_at, actor="bob")) == "EXPIRED"


def test_row_made_approved_behind_our_back_is_not_claimed_without_the_votes(
    large: Proposal, now: datetime
) -> None:
    approve(large, now, actor="ana")
    Proposal.objects.filter(pk=large.pk).update(status="approved", decided_at=now, decided_by="ana")

    assert code_of(lambda: claim(stored(large), now)) == "VOTES_MISSING"


@pytest.mark.parametrize("statement", ["UPDATE proposals_approvalvote SET actor = 'bob'",
                                       "DELETE FROM proposals_approvalvote"])  # fmt: skip
def test_votes_are_not_changed_or_deleted(large: Proposal, now: datetime, statement: str) -> None:
    approve(large, now, actor="ana")

    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


# --- less of it ------------------------------------------------------------------------------------------
def reduce(proposal: Proposal, now: datetime, less: QuantisedOrder, **changes: Any) -> Proposal:
    arguments: dict[str, Any] = {
        "version": proposal.version,
        "digest": proposal.digest,
        "order": less,
        "verdict": PASS,
        "limits_version": 4,
        "approvals_required": 1,
        "actor": "ana",
        "now": now,
    }
    return services.record_reduction(proposal_id=proposal.pk, **(arguments | changes))


def test_smaller_order_takes_the_place_with_a_new_digest_and_still_waits(
    pending: Proposal, now: datetime
) -> None:
    reduce(pending, now, order(**HALF))

    row = stored(pending)
    assert (row.status, row.version, row.limits_version) == ("pending_approval", pending.version + 1, 4)
    assert selectors.order_of(row) == order(**HALF)
    assert row.digest != pending.digest
    assert row.expires_at == pending.expires_at
    assert row.reduction["from_quantity"] == "0.0025"
    assert history(f"proposal:{row.pk}")[-1]["action"] == "proposal.reduced"


def test_smaller_order_is_approved_by_its_own_digest_only(pending: Proposal, now: datetime) -> None:
    shown_before = {"version": pending.version, "digest": pending.digest}
    reduce(pending, now, order(**HALF))

    assert code_of(lambda: approve(pending, now, **shown_before)) == "STALE_PAGE"
    approve(stored(pending), now)
    assert claim(stored(pending), now).quantity == Decimal("0.00125")


def test_votes_of_the_larger_order_do_not_count_for_the_smaller(large: Proposal, now: datetime) -> None:
    approve(large, now, actor="ana")
    reduce(large, now, order(**HALF), approvals_required=2)

    approve(stored(large), now, actor="bob")

    assert stored(large).status == "pending_approval"
    approve(stored(large), now, actor="ana")
    assert stored(large).status == "approved"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quantity": Decimal("0.00251")},
        {"quantity": Decimal(0)},
        {"notional_quote": Decimal("50.01")},
        {"price": Decimal(20001)},
        {"side": "SELL"},
        {"stop_price": Decimal(19000)},
        {"reference_price": Decimal(20500)},
        {"fee_quote": Decimal("0.06")},
    ],
)
def test_order_that_is_not_less_of_the_same_is_refused(
    pending: Proposal, now: datetime, changes: dict[str, Any]
) -> None:
    less = order(**(HALF | changes)) if changes else order()

    assert code_of(lambda: reduce(pending, now, less)) == "NOT_SMALLER"
    assert stored(pending).digest == pending.digest


def test_decided_proposal_is_not_reduced(pending: Proposal, now: datetime) -> None:
    approve(pending, now)

    assert code_of(lambda: reduce(pending, now, order(**HALF))) == "ALREADY_DECIDED"


# --- shown just now --------------------------------------------------------------------------------------
def check(proposal: Proposal, shown_at: datetime, now: datetime, **changes: Any) -> None:
    given = {
        "token": services.shown_token(proposal=proposal, actor="ana", now=shown_at),
        "proposal_id": proposal.pk,
        "version": proposal.version,
        "digest": proposal.digest,
        "actor": "ana",
        "now": now,
    }
    services.check_shown(**(given | changes))


def test_card_shown_seconds_ago_may_decide(pending: Proposal, now: datetime) -> None:
    check(pending, now, now)
    check(pending, now, now + timedelta(seconds=SHOWN_SECONDS_MAX))


@pytest.mark.parametrize("age_seconds", [SHOWN_SECONDS_MAX + 0.1, 3600, -2])
def test_card_shown_long_ago_or_in_the_future_may_not(
    pending: Proposal, now: datetime, age_seconds: float
) -> None:
    assert code_of(lambda: check(pending, now - timedelta(seconds=age_seconds), now)) == "OLD_PAGE"


@pytest.mark.parametrize(
    "changes",
    [
        {"token": ""},
        {"token": "nonsense"},
        {"token": "W10:forged"},
        {"actor": "bob"},
    ],
)
def test_token_of_another_card_person_or_hand_is_refused(
    pending: Proposal, now: datetime, changes: dict[str, Any]
) -> None:
    assert code_of(lambda: check(pending, now, now, **changes)) == "OLD_PAGE"


def test_token_of_another_version_or_digest_is_refused(pending: Proposal, now: datetime) -> None:
    assert code_of(lambda: check(pending, now, now, version=99)) == "STALE_PAGE"
    assert code_of(lambda: check(pending, now, now, digest="0" * 64)) == "STALE_PAGE"


def test_token_of_another_proposal_is_refused(pending: Proposal, proposed: Make, now: datetime) -> None:
    other = judge(proposed(), now)
    theirs = services.shown_token(proposal=other, actor="ana", now=now)

    assert code_of(lambda: check(pending, now, now, token=theirs)) == "OLD_PAGE"


def test_loser_of_a_race_is_told_so_however_old_the_card(pending: Proposal, now: datetime) -> None:
    approve(pending, now, actor="bob")

    assert code_of(lambda: check(pending, now - timedelta(hours=1), now)) == "ALREADY_DECIDED"
