"""The only place where a status changes. Driven through the switch, the smallest row with a status."""

from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from risk.contracts import TradingState
from risk.models import TradingControl
from tests.conftest import NOW
from tests.proposals.races import race
from tradingbot.core import announce as announce_module
from tradingbot.core import audit
from tradingbot.core.transitions import IllegalTransition, StaleState, transition

pytestmark = pytest.mark.django_db


@pytest.fixture
def row(db: None) -> TradingControl:
    TradingControl.objects.filter(pk=settings.TRADING_ENVIRONMENT).delete()
    return TradingControl.objects.create(environment=settings.TRADING_ENVIRONMENT)


def move(row: TradingControl, to: str, **more: Any) -> None:
    transition(row, to=to, actor="alice", now=NOW, **more)


def test_a_legal_move_changes_status_version_and_columns(row: TradingControl) -> None:
    move(row, "ACTIVE", reason="go", changed_by="alice")

    stored = TradingControl.objects.get(pk=row.pk)
    assert (stored.status, stored.version, stored.changed_by) == ("ACTIVE", 2, "alice")
    assert (row.status, row.version, row.changed_by) == ("ACTIVE", 2, "alice")


def test_a_move_leaves_an_audit_link_with_before_and_reason(row: TradingControl) -> None:
    move(row, "ACTIVE", reason="go", payload={"seen": 3})

    link = audit.history(f"control:{row.pk}")[-1]
    assert (link["action"], link["actor"]) == ("control.ACTIVE", "alice")
    assert link["payload"] == {"before": "HALTED", "reason": "go", "seen": 3}


def test_a_move_that_the_table_lacks_is_refused(row: TradingControl) -> None:
    with pytest.raises(IllegalTransition, match="HALTED -> HALTED"):
        move(row, "HALTED")

    assert TradingControl.objects.get(pk=row.pk).version == 1


def test_a_row_that_moved_meanwhile_is_refused(row: TradingControl) -> None:
    seen = TradingControl.objects.get(pk=row.pk)
    move(row, "ACTIVE")

    with pytest.raises(StaleState):
        move(seen, "REDUCING")

    assert TradingControl.objects.get(pk=row.pk).status == "ACTIVE"


def test_a_version_that_moved_and_came_back_is_refused(row: TradingControl) -> None:
    seen = TradingControl.objects.get(pk=row.pk)
    move(row, "ACTIVE")
    move(row, "HALTED")

    with pytest.raises(StaleState):
        move(seen, "REDUCING")


def test_a_guard_that_no_longer_holds_is_refused_and_leaves_no_trace(row: TradingControl) -> None:
    with pytest.raises(StaleState):
        move(row, "ACTIVE", guard=Q(changed_by="bob"))

    assert audit.history(f"control:{row.pk}") == []
    assert row.status == TradingState.HALTED


def test_a_move_is_announced_after_the_commit(
    row: TradingControl, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(
        announce_module, "_publisher", lambda: type("P", (), {"put": staticmethod(told.append)})
    )

    with django_capture_on_commit_callbacks(execute=True):
        move(row, "ACTIVE")
        told_before_commit = list(told)

    assert told_before_commit == []
    assert [(m.topic, m.row_id) for m in told] == [("control", settings.TRADING_ENVIRONMENT)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", range(10))
def test_of_two_movers_at_the_same_instant_one_wins(row: TradingControl, attempt: int) -> None:
    def mover(to: str) -> Any:
        seen = TradingControl.objects.get(pk=row.pk)

        def run() -> str:
            with transaction.atomic():
                move(seen, to)
            return to

        return run

    outcomes = race([mover("ACTIVE"), mover("REDUCING")])

    winners = [o for o in outcomes if isinstance(o, str)]
    assert len(winners) == 1
    assert sum(isinstance(o, StaleState) for o in outcomes) == 1
    assert TradingControl.objects.get(pk=row.pk).status == winners[0]
    assert len(audit.history(f"control:{row.pk}")) == 1
