"""Readiness names what is not ready; the watch raises an alert for it and closes it again."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.db.utils import OperationalError
from django.test import RequestFactory

from tests.conftest import NOW
from tests.operations.conftest import WELL
from tradingbot.core import clock, heartbeats
from tradingbot.core.models import Alert, Heartbeat
from tradingbot.operations import health, selectors, services, tasks

STALE = replace(WELL[0], stale=True, reason="no message for 9.0 s (limit 5 s)")


def not_ready(parts: dict[str, Any]) -> dict[str, str]:
    return {name: part["detail"] for name, part in parts.items() if not part["ok"]}


# --- readiness -------------------------------------------------------------------------------------------
def test_ready_when_all_parts_are_well(parts: SimpleNamespace) -> None:
    ok, found = selectors.readiness(NOW)

    assert (ok, not_ready(found)) == (True, {})
    assert {
        "database",
        "redis",
        "migrations",
        "instruments",
        "exchange",
        "queue:trading",
        "feed:account",
    } <= set(found)


def test_a_silent_worker_is_not_ready(parts: SimpleNamespace) -> None:
    heartbeats.beat("queue:advisor", now=NOW - timedelta(seconds=21))

    ok, found = selectors.readiness(NOW)

    assert (ok, not_ready(found)) == (False, {"queue:advisor": "last worked 21 s ago"})


def test_a_worker_that_never_worked_is_not_ready(parts: SimpleNamespace) -> None:
    Heartbeat.objects.filter(part="queue:streams").delete()

    assert not_ready(selectors.readiness(NOW)[1]) == {"queue:streams": "has never worked"}


def test_a_stale_feed_is_not_ready(parts: SimpleNamespace) -> None:
    parts.feeds = [STALE, WELL[1]]

    assert not_ready(selectors.readiness(NOW)[1]) == {"feed:market": "no message for 9.0 s (limit 5 s)"}


def test_no_connected_stream_means_no_exchange(parts: SimpleNamespace) -> None:
    parts.feeds = [replace(f, connected=False, stale=True, reason="not connected") for f in WELL]

    assert "exchange" in not_ready(selectors.readiness(NOW)[1])


def test_instruments_that_were_never_read_are_not_ready(parts: SimpleNamespace) -> None:
    parts.instruments = False

    assert "BTCUSDT" in not_ready(selectors.readiness(NOW)[1])["instruments"]


def test_a_missing_migration_is_not_ready(parts: SimpleNamespace) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE id = "
            "(SELECT max(id) FROM django_migrations WHERE app = 'risk')"
        )

    assert "manage.py migrate" in not_ready(selectors.readiness(NOW)[1])["migrations"]


def test_a_dead_redis_is_not_ready(parts: SimpleNamespace, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9699/0"

    assert "does not answer" in not_ready(selectors.readiness(NOW)[1])["redis"]


def test_a_dead_database_is_told_and_raises_nothing(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("the server is gone")

    with monkeypatch.context() as patched:
        patched.setattr(connection, "cursor", refuse)
        ok, found = selectors.readiness(NOW)

    assert not ok
    assert not_ready(found)["database"] == "does not answer (OperationalError)"


def test_readyz_answers_without_a_session(parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)

    answer = health.readyz(RequestFactory().get("/readyz"))

    assert answer.status_code == 200
    assert getattr(health.readyz, "login_required", True) is False


def test_readyz_is_503_while_a_part_is_missing(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW + timedelta(minutes=1))

    assert health.readyz(RequestFactory().get("/readyz")).status_code == 503


def test_livez_asks_no_other_part() -> None:
    assert health.livez(RequestFactory().get("/livez")).status_code == 200


# --- canaries --------------------------------------------------------------------------------------------
@pytest.mark.django_db
@pytest.mark.parametrize("queue", selectors.QUEUES)
def test_a_canary_leaves_its_queues_heartbeat(queue: str) -> None:
    getattr(tasks, f"canary_{queue}")()

    assert heartbeats.age_seconds(f"queue:{queue}", now=clock.now()) is not None


# --- the watch -------------------------------------------------------------------------------------------
@pytest.fixture
def watching(parts: SimpleNamespace) -> SimpleNamespace:
    """The watch has run long enough to complain."""
    services.watch_health(now=NOW - timedelta(seconds=30))
    Heartbeat.objects.filter(part=services.WATCH).update(beat_at=NOW - timedelta(seconds=2))
    return parts


def open_alerts() -> dict[str, str]:
    return dict(Alert.objects.filter(resolved_at=None).values_list("dedupe_key", "severity"))


def test_nothing_is_raised_while_all_is_well(watching: SimpleNamespace) -> None:
    services.watch_health(now=NOW)

    assert open_alerts() == {}


def test_a_stale_feed_raises_a_critical_alert_once(watching: SimpleNamespace) -> None:
    watching.feeds = [STALE, WELL[1]]

    services.watch_health(now=NOW)
    services.watch_health(now=NOW + timedelta(seconds=2))

    assert open_alerts() == {"feed_stale:market": "critical"}
    assert Alert.objects.get().count == 1


def test_the_alert_closes_when_the_feed_is_back(watching: SimpleNamespace) -> None:
    watching.feeds = [STALE, WELL[1]]
    services.watch_health(now=NOW)
    watching.feeds = list(WELL)

    services.watch_health(now=NOW + timedelta(seconds=2))

    assert open_alerts() == {}


def test_a_silent_worker_raises_an_alert(watching: SimpleNamespace) -> None:
    heartbeats.beat("queue:advisor", now=NOW - timedelta(seconds=21))

    services.watch_health(now=NOW)

    assert open_alerts() == {"queue_silent:advisor": "high"}


@pytest.mark.parametrize("finished", [None, NOW - timedelta(seconds=151)])
def test_a_late_reconciliation_raises_an_alert(watching: SimpleNamespace, finished: Any) -> None:
    watching.reconciled_at = finished

    services.watch_health(now=NOW)

    assert open_alerts() == {"reconciliation_late": "high"}


def test_a_watch_that_just_started_gives_the_parts_time(parts: SimpleNamespace) -> None:
    parts.feeds = [STALE, WELL[1]]

    for seconds in range(0, 20, 2):
        services.watch_health(now=NOW + timedelta(seconds=seconds))
        assert open_alerts() == {}
    services.watch_health(now=NOW + timedelta(seconds=20))

    assert open_alerts() == {"feed_stale:market": "critical"}


def test_alerts_of_others_stay_open(watching: SimpleNamespace) -> None:
    from tradingbot.core import alerts

    alerts.raise_alert(kind="divergence", severity="high", title="a divergence", now=NOW)

    services.watch_health(now=NOW)

    assert open_alerts() == {"divergence:": "high"}
