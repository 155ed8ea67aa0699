"""The advisor's breaker: opens, cools down, lets exactly one probe through."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from proposals import rules, services
from proposals.contracts import AdvisorUnavailable
from proposals.models import AdvisorBreaker, Strategy
from proposals.services.breaker import enter_breaker, report_answer, report_failure
from tests.proposals.races import race
from tradingbot.core.audit import history
from tradingbot.core.models import Alert

NAME = "model at host"
LEASE_SECONDS = 50


def enter(now: datetime) -> uuid.UUID | None:
    return enter_breaker(name=NAME, lease_seconds=LEASE_SECONDS, now=now)


def fail(now: datetime, token: uuid.UUID | None = None) -> None:
    report_failure(name=NAME, token=token, reason="HTTP_500: broken", now=now)


def trip(now: datetime) -> None:
    for _ in range(rules.FAILURES_TO_OPEN):
        enter(now)
        fail(now)


def state() -> str:
    return AdvisorBreaker.objects.get(pk=NAME).state


@pytest.mark.django_db
def test_closed_breaker_lets_calls_through_without_a_token(now: datetime) -> None:
    assert enter(now) is None


@pytest.mark.django_db
def test_answer_between_failures_starts_the_count_anew(now: datetime) -> None:
    for _ in range(5):
        enter(now)
        fail(now)
        report_answer(name=NAME, token=None, now=now)

    assert state() == "closed"


@pytest.mark.django_db
def test_failures_in_a_row_open_it_with_alert_and_audit(now: datetime) -> None:
    trip(now)

    with pytest.raises(AdvisorUnavailable, match=r"BREAKER_OPEN.*12:00:30 UTC"):
        enter(now + timedelta(seconds=29))
    alert = Alert.objects.get(kind="advisor_breaker")
    assert (alert.severity, alert.resolved_at) == ("high", None)
    assert "HTTP_500: broken" in alert.detail
    assert [r["action"] for r in history(f"advisor_breaker:{NAME}")] == ["advisor_breaker.opened"]


@pytest.mark.django_db
def test_one_probe_after_the_cool_down_and_the_others_wait(now: datetime) -> None:
    trip(now)
    later = now + timedelta(seconds=30)

    assert enter(later) is not None
    with pytest.raises(AdvisorUnavailable, match="probe is under way"):
        enter(later)


@pytest.mark.django_db
def test_probe_answered_closes_it_and_its_alert(now: datetime) -> None:
    trip(now)
    later = now + timedelta(seconds=30)
    token = enter(later)

    report_answer(name=NAME, token=token, now=later)

    assert state() == "closed"
    assert enter(later) is None
    assert Alert.objects.get(kind="advisor_breaker").resolved_at == later
    assert Alert.objects.get(kind="advisor_breaker_closed").severity == "info"
    assert history(f"advisor_breaker:{NAME}")[-1]["action"] == "advisor_breaker.closed"


@pytest.mark.django_db
def test_failed_probe_doubles_the_cool_down_up_to_the_cap(now: datetime) -> None:
    trip(now)
    waits = []
    for _ in range(7):
        row = AdvisorBreaker.objects.get(pk=NAME)
        assert row.open_until is not None
        token = enter(row.open_until)
        fail(row.open_until, token)
        reopened = AdvisorBreaker.objects.get(pk=NAME)
        assert reopened.open_until is not None
        waits.append(int((reopened.open_until - row.open_until).total_seconds()))

    assert waits == [60, 120, 240, 480, 480, 480, 480]
    assert Alert.objects.filter(kind="advisor_breaker").count() == 1


@pytest.mark.django_db
def test_late_reports_of_calls_from_before_the_opening_change_nothing(now: datetime) -> None:
    trip(now)
    before = AdvisorBreaker.objects.values().get(pk=NAME)

    report_answer(name=NAME, token=None, now=now)
    fail(now)
    report_answer(name=NAME, token=uuid.uuid4(), now=now)

    assert AdvisorBreaker.objects.values().get(pk=NAME) == before


@pytest.mark.django_db
def test_probe_of_a_dead_worker_is_followed_by_another_when_its_lease_ends(now: datetime) -> None:
    trip(now)
    later = now + timedelta(seconds=30)
    lost = enter(later)

    token = enter(later + timedelta(seconds=LEASE_SECONDS))
    fail(later + timedelta(seconds=LEASE_SECONDS), lost)

    assert token not in {None, lost}
    assert state() == "half_open"


@pytest.mark.django_db(transaction=True)
def test_six_workers_race_for_the_probe_and_one_gets_it(now: datetime) -> None:
    trip(now)

    outcomes = race([lambda: enter(now + timedelta(seconds=31))] * 6)

    tokens = [o for o in outcomes if isinstance(o, uuid.UUID)]
    refusals = [o for o in outcomes if isinstance(o, AdvisorUnavailable)]
    assert (len(tokens), len(refusals)) == (1, 5)


@pytest.mark.parametrize(
    ("change", "left"), [({"model": "another"}, "closed"), ({"enabled": False}, "closed"), ({}, "open")]
)
def test_breaker_of_a_model_that_is_asked_no_more_closes_with_its_alert(
    strategy: Strategy, now: datetime, settings: Any, change: dict[str, object], left: str
) -> None:
    """Nobody probed it again, so its alert stayed open for ever and was told anew every four hours."""
    settings.OPENAI_BASE_URL = "http://host/v1"
    Strategy.objects.filter(pk=strategy.pk).update(**{"model": "model", **change})
    trip(now)

    assert services.expire_overdue(now=now + timedelta(minutes=59)) == 0
    services.expire_overdue(now=now + timedelta(minutes=61))

    assert state() == left
    assert Alert.objects.get(kind="advisor_breaker").resolved_at == (
        now + timedelta(minutes=61) if left == "closed" else None
    )


def test_breaker_name_fits_its_row_and_stays_distinct() -> None:
    names = {rules.breaker_name(model="m" * 100 + end, host="host") for end in "ab"}

    assert len(names) == 2
    assert all(len(name) <= 80 for name in names)
