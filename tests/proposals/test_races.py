"""Two hands at one proposal at the same instant, on Postgres, a hundred times each: exactly one outcome."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from proposals import services
from proposals.contracts import DecisionRefused
from proposals.models import ApprovalVote, Proposal
from tests.proposals.conftest import judge
from tests.proposals.races import two_hands

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 100
Make = Callable[..., Proposal]
Race = Callable[[Callable[[], Any], Callable[[], Any]], tuple[Any, Any]]


@pytest.fixture
def race() -> Iterator[Race]:
    """Two threads that keep their connections from round to round, for people who may approve."""
    User.objects.bulk_create(User(username=name, is_superuser=True) for name in ("ana", "bob"))
    with two_hands() as both:
        yield both


def approve(row: Proposal, now: datetime, actor: str) -> Proposal:
    return services.approve_proposal(
        proposal_id=row.pk, version=row.version, digest=row.digest, actor=actor, now=now
    )


def claim(row: Proposal, now: datetime) -> Proposal:
    with transaction.atomic():
        return services.claim_for_execution(proposal_id=row.pk, digest=row.digest, now=now, actor="execution")


def end_of(row: Proposal) -> tuple[str, str, bool]:
    status, by, claimed_at = Proposal.objects.values_list("status", "decided_by", "claimed_at").get(pk=row.pk)
    return status, by, claimed_at is not None


def test_of_two_approvers_one_approves_and_the_other_is_told_who(
    proposed: Make, now: datetime, race: Race
) -> None:
    for _ in range(ROUNDS):
        row = judge(proposed(), now)

        ana, bob = race(lambda r=row: approve(r, now, "ana"), lambda r=row: approve(r, now, "bob"))

        (winner,) = [name for name, o in (("ana", ana), ("bob", bob)) if isinstance(o, Proposal)]
        (refusal,) = [o for o in (ana, bob) if not isinstance(o, Proposal)]
        assert end_of(row) == ("approved", winner, False)
        assert isinstance(refusal, DecisionRefused)
        assert (refusal.code, f"Approved by {winner} at" in refusal.detail) == ("ALREADY_DECIDED", True)
        assert ApprovalVote.objects.filter(proposal=row).count() == 1


def test_same_person_on_two_devices_is_one_of_the_two_people(
    proposed: Make, now: datetime, race: Race
) -> None:
    for _ in range(ROUNDS):
        row = judge(proposed(), now, approvals_required=2)

        outcomes = race(lambda r=row: approve(r, now, "ana"), lambda r=row: approve(r, now, "ana"))

        kinds = Counter(getattr(o, "code", getattr(o, "status", repr(o))) for o in outcomes)
        assert kinds == {"pending_approval": 1, "ALREADY_VOTED": 1}
        assert end_of(row) == ("pending_approval", "", False)


def test_approval_and_expiry_end_in_one_of_both(proposed: Make, now: datetime, race: Race) -> None:
    """The approver's clock says just in time, the sweep's just over: whoever comes first decides."""
    seen: Counter[str] = Counter()
    for _ in range(ROUNDS):
        row = judge(proposed(), now)
        in_time = row.expires_at - timedelta(microseconds=1)

        approved, swept = race(
            lambda r=row, t=in_time: approve(r, t, "ana"),
            lambda r=row: services.expire_overdue(now=r.expires_at),
        )

        # A sweep passes over a row that is being approved; one that comes later ends what was not ordered.
        services.expire_overdue(now=row.expires_at)
        assert end_of(row)[0] == "expired"
        if isinstance(approved, Proposal):
            assert (swept in (0, 1), end_of(row)[1]) == (True, "ana")
        else:
            assert (approved.code, swept, end_of(row)[1]) == ("EXPIRED", 1, "")
        with pytest.raises(DecisionRefused):
            claim(row, row.expires_at)
        seen[type(approved).__name__] += 1
    assert sum(seen.values()) == ROUNDS
