"""Alerts: one open row per cause, counted; closed when the cause ends; acknowledged once."""

from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import NOW
from tests.proposals.races import race
from tradingbot.core import alerts, audit
from tradingbot.core.models import Alert, AlertNotice

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=1)


def raise_one(**changes: Any) -> int:
    values = {"kind": "test", "severity": "info", "title": "a test", "subject": "thing:1", "now": NOW}
    return alerts.raise_alert(**values | changes)


def test_a_repeat_is_counted_on_the_open_alert() -> None:
    first = raise_one()

    second = raise_one(title="again", severity="high", now=LATER)

    row = Alert.objects.get()
    assert first == second == row.pk
    assert (row.count, row.title, row.severity) == (2, "again", "high")
    assert (row.first_seen_at, row.last_seen_at) == (NOW, LATER)


def test_different_subjects_are_different_alerts() -> None:
    assert raise_one() != raise_one(subject="thing:2")


def test_a_cause_that_returns_after_its_end_is_a_new_alert() -> None:
    first = raise_one()
    assert alerts.resolve_alerts(dedupe_key="test:thing:1", now=NOW) == 1

    assert raise_one() != first
    assert Alert.objects.filter(resolved_at=None).count() == 1


def test_closing_what_is_not_open_closes_nothing() -> None:
    assert alerts.resolve_alerts(dedupe_key="test:thing:1", now=NOW) == 0


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(ValueError):
        raise_one(severity="terrible")


def test_an_alert_is_acknowledged_once_and_that_is_audited() -> None:
    alert = raise_one()

    assert alerts.acknowledge_alert(alert_id=alert, actor="alice", now=LATER)
    assert not alerts.acknowledge_alert(alert_id=alert, actor="bob", now=LATER)

    assert Alert.objects.get().acknowledged_by == "alice"
    assert [link["actor"] for link in audit.history(f"alert:{alert}")] == ["alice"]


def test_a_long_title_is_cut_and_not_refused() -> None:
    raise_one(title="x" * 500)

    assert len(Alert.objects.get().title) == 200


@pytest.mark.django_db(transaction=True)
def test_raised_by_many_at_once_it_is_one_row_with_the_count_of_all() -> None:
    outcomes = race([raise_one] * 6)

    assert len(set(outcomes)) == 1
    assert Alert.objects.get().count == 6


def test_info_alert_lapses_when_nothing_renews_it_and_a_condition_does_not() -> None:
    raise_one(subject="moment")
    condition = raise_one(subject="condition", severity="high")

    assert alerts.lapse_info_alerts(now=NOW + alerts.INFO_LAPSES_AFTER) == 0
    assert alerts.lapse_info_alerts(now=NOW + alerts.INFO_LAPSES_AFTER + timedelta(seconds=1)) == 1

    assert list(Alert.objects.filter(resolved_at=None).values_list("pk", flat=True)) == [condition]


# --- rounds: when people are told again --------------------------------------------------------------------
def rounds() -> int:
    return AlertNotice.objects.count()


def test_a_repeat_starts_no_new_round() -> None:
    raise_one(severity="critical")
    raise_one(severity="critical", now=LATER)

    assert rounds() == 1


def test_what_becomes_worse_starts_a_round_and_takes_the_acknowledgement_back() -> None:
    alert = raise_one(severity="high")
    alerts.acknowledge_alert(alert_id=alert, actor="alice", now=NOW)

    raise_one(severity="critical", now=NOW)

    row = Alert.objects.get()
    assert (row.round, rounds(), row.acknowledged_at, row.acknowledged_by) == (2, 2, None, "")


def test_what_becomes_milder_is_counted_only() -> None:
    raise_one(severity="critical")
    raise_one(severity="high", now=LATER)

    assert rounds() == 1


def test_a_cause_that_is_counted_all_the_time_does_not_undo_its_acknowledgement() -> None:
    alert = raise_one(severity="critical")
    alerts.acknowledge_alert(alert_id=alert, actor="alice", now=NOW)

    for seconds in range(2, 120, 2):
        raise_one(severity="critical", now=NOW + timedelta(seconds=seconds))

    assert Alert.objects.get().acknowledged_by == "alice"
    assert rounds() == 1


def test_a_cause_that_counts_again_after_a_quiet_minute_undoes_its_acknowledgement() -> None:
    alert = raise_one(severity="critical")
    alerts.acknowledge_alert(alert_id=alert, actor="alice", now=NOW)

    raise_one(severity="critical", now=NOW + timedelta(seconds=alerts.QUIET_SECONDS))

    row = Alert.objects.get()
    assert (row.acknowledged_at, row.count, rounds()) == (None, 2, 2)


@pytest.mark.parametrize("severity", ["critical", "high"])
def test_an_acknowledgement_lapses_in_time_while_the_cause_lasts(severity: str) -> None:
    alert = raise_one(severity=severity)
    alerts.acknowledge_alert(alert_id=alert, actor="alice", now=NOW)
    end = NOW + alerts.ACKNOWLEDGED_FOR[Alert.Severity(severity)]

    assert alerts.lapse_acknowledgements(now=end) == 0
    assert alerts.lapse_acknowledgements(now=end + timedelta(seconds=1)) == 1
    assert alerts.lapse_acknowledgements(now=end + timedelta(seconds=2)) == 0

    assert Alert.objects.get().acknowledged_by == ""
    assert rounds() == 2
    assert alerts.acknowledge_alert(alert_id=alert, actor="bob", now=end + timedelta(seconds=3))


@pytest.mark.parametrize(
    "kind", ["order_aborted", "order_rejected", "order_not_placed", "account_event_unreadable"]
)
def test_what_was_over_when_it_was_told_is_closed_by_who_has_seen_it(kind: str) -> None:
    alert = raise_one(kind=kind, severity="high")

    assert alerts.acknowledge_alert(alert_id=alert, actor="ana", now=LATER)

    assert Alert.objects.get().resolved_at == LATER
    assert alerts.lapse_acknowledgements(now=NOW + timedelta(hours=5)) == 0


def test_the_acknowledgement_of_a_closed_alert_stays_on_record() -> None:
    alert = raise_one(severity="critical")
    alerts.acknowledge_alert(alert_id=alert, actor="alice", now=NOW)
    alerts.resolve_alerts(dedupe_key="test:thing:1", now=NOW)

    assert alerts.lapse_acknowledgements(now=NOW + timedelta(days=1)) == 0
    assert Alert.objects.get().acknowledged_by == "alice"
