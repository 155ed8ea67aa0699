"""What the database itself refuses to change."""

from datetime import datetime

import pytest
from django.db import IntegrityError, transaction
from django.db.models import Model

from market.models import AccountEvent, Snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def event(now: datetime) -> AccountEvent:
    return AccountEvent.objects.create(
        environment="simulator",
        event_type="executionReport",
        event_time=now,
        received_at=now,
        payload={"e": "executionReport"},
        sha256="0" * 64,
    )


@pytest.fixture
def snapshot(now: datetime) -> Snapshot:
    return Snapshot.objects.create(
        environment="simulator",
        symbol="BTCUSDT",
        interval="1m",
        as_of=now,
        payload={},
        sha256="0" * 64,
        indicator_version="1",
        created_at=now,
    )


def assert_refused(row: Model, **changes: object) -> None:
    rows = type(row)._default_manager.filter(pk=row.pk)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        rows.update(**changes) if changes else rows.delete()


def test_a_snapshot_cannot_be_changed_or_deleted(snapshot: Snapshot) -> None:
    assert_refused(snapshot, symbol="ETHUSDT")
    assert_refused(snapshot)


def test_an_account_event_cannot_be_changed_or_deleted(event: AccountEvent) -> None:
    assert_refused(event, payload={})
    assert_refused(event)


def test_an_account_event_is_folded_once(event: AccountEvent, now: datetime) -> None:
    AccountEvent.objects.filter(pk=event.pk).update(folded_at=now)

    assert_refused(event, folded_at=None)
