"""Every pair of statuses: the table's edges move the row, all others leave it."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from itertools import product

import pytest
from django.db import IntegrityError, transaction

from proposals.contracts import TRANSITIONS, ProposalStatus
from proposals.models import Proposal
from tradingbot.core.audit import history
from tradingbot.core.transitions import IllegalTransition, StaleState
from tradingbot.core.transitions import transition as move

EDGES = {
    ("proposed", "no_trade"),
    ("proposed", "risk_rejected"),
    ("proposed", "validated"),
    ("proposed", "expired"),
    ("validated", "auto_approved"),
    ("validated", "pending_approval"),
    ("validated", "shadow"),
    ("auto_approved", "expired"),
    ("pending_approval", "approved"),
    ("pending_approval", "rejected"),
    ("pending_approval", "expired"),
    ("approved", "expired"),
}


def test_table_names_every_status() -> None:
    assert set(TRANSITIONS) == {status.value for status in ProposalStatus}


@pytest.mark.parametrize(("seen", "to"), list(product(ProposalStatus, ProposalStatus)))
def test_only_edges_of_the_design_move_a_proposal(
    proposed: Callable[..., Proposal], now: datetime, seen: ProposalStatus, to: ProposalStatus
) -> None:
    shadow = seen == "shadow" or (seen, to) == ("validated", "shadow")
    row = proposed(status=seen, quantity=Decimal(1), digest="" if shadow else "d" * 64, shadow=shadow)
    legal = (seen.value, to.value) in EDGES

    if legal:
        move(row, to=to, actor="test", now=now)
    else:
        with pytest.raises(IllegalTransition):
            move(row, to=to, actor="test", now=now)

    row.refresh_from_db()
    assert (row.status, row.version) == ((to, 2) if legal else (seen, 1))
    assert [link["action"] for link in history(f"proposal:{row.pk}")] == ([f"proposal.{to}"] if legal else [])


def test_row_moved_by_another_process_is_not_moved_again(
    proposed: Callable[..., Proposal], now: datetime
) -> None:
    row = proposed()
    stale = Proposal.objects.get(pk=row.pk)
    move(row, to="expired", actor="one", now=now)

    with pytest.raises(StaleState):
        move(stale, to="no_trade", actor="two", now=now)


@pytest.mark.parametrize("missing", [{"quantity": None}, {"quantity": Decimal(0)}, {"digest": ""}])
def test_database_refuses_an_approvable_proposal_without_order(
    proposed: Callable[..., Proposal], missing: dict[str, object]
) -> None:
    whole = {"status": "approved", "quantity": Decimal(1), "digest": "d" * 64}

    with pytest.raises(IntegrityError), transaction.atomic():
        proposed(**(whole | missing))


def test_database_refuses_a_decision_without_its_person(
    proposed: Callable[..., Proposal], now: datetime
) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        proposed(decided_at=now)
