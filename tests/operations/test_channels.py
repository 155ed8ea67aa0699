"""Channels: their secrets, browsers that subscribe, tests, and what silences and lapses do to delivery."""

import json
import logging
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.db import connection, connections, transaction

from tests.conftest import NOW
from tests.operations.outbox import SECRET, channel, raise_one
from tests.operations.push_service import Browser, Sink, running_sink
from tests.web.conftest import wait_for
from tradingbot.core import alerts, audit, silences
from tradingbot.core.models import AlertChannel, AlertDelivery, AlertNotice
from tradingbot.operations import channels, delivery

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_files")]


# --- secrets ---------------------------------------------------------------------------------------------
def test_the_address_is_in_a_private_file_and_nowhere_else(
    sink: Sink, at: Any, own_files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sink.status = 500
    row = channel(sink)
    raise_one()
    at(2)

    (file,) = own_files.iterdir()
    assert SECRET in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert own_files.stat().st_mode & 0o777 == 0o700
    rows = serializers.serialize("json", [*AlertChannel.objects.all(), *AlertDelivery.objects.all()])
    bodies = "".join(
        link["action"] + json.dumps(link["payload"]) for link in audit.history(f"alert_channel:{row.pk}")
    )
    ours = "".join(record.getMessage() for record in caplog.records if record.name.startswith("tradingbot"))
    for text in (rows, bodies, ours):
        assert SECRET not in text
    assert AlertChannel.objects.get().service == "JSON"


def test_a_new_address_replaces_the_file_and_a_blank_one_keeps_it(
    sink: Sink, own_files: Path, django_capture_on_commit_callbacks: Any
) -> None:
    row = channel(sink)
    (first,) = own_files.iterdir()

    with django_capture_on_commit_callbacks(execute=True):
        channels.save_channel(channel=row, address="", actor="rita", now=NOW)
    assert list(own_files.iterdir()) == [first]
    with django_capture_on_commit_callbacks(execute=True):
        channels.save_channel(channel=row, address="json://127.0.0.1:1/other", actor="rita", now=NOW)

    (second,) = own_files.iterdir()
    assert second != first
    assert "other" in second.read_text()


def test_an_address_that_no_service_has_is_refused_without_repeating_it(sink: Sink) -> None:
    with pytest.raises(channels.ChannelRefused) as refused:
        channels.save_channel(
            channel=AlertChannel(name="x"), address=f"nonsense://{SECRET}", actor="rita", now=NOW
        )

    assert SECRET not in str(refused.value)
    assert not AlertChannel.objects.exists()


def test_a_lost_file_is_a_failure_that_says_what_to_do(sink: Sink, at: Any, own_files: Path) -> None:
    channel(sink)
    for file in own_files.iterdir():
        file.unlink()
    raise_one()

    at(2)

    assert "enter it again" in AlertDelivery.objects.get().last_error


# --- browsers --------------------------------------------------------------------------------------------
def subscribe(sink: Sink, settings: Any) -> tuple[Browser, AlertChannel]:
    settings.PUSH_HOSTS = (f"127.0.0.1:{sink.port}",)
    browser = Browser(f"http://127.0.0.1:{sink.port}/send/abc")
    User.objects.create(username="ana")
    row = channels.subscribe_device(subscription=browser.subscription, name="phone", actor="ana", now=NOW)
    return browser, row


def test_a_browser_gets_an_encrypted_message_that_it_alone_can_read(
    sink: Sink, at: Any, settings: Any
) -> None:
    browser, _ = subscribe(sink, settings)
    alert = raise_one()

    at(2)

    ((path, headers, body),) = sink.received
    assert path == "/send/abc"
    assert headers["content-encoding"] == "aes128gcm"
    assert headers["authorization"].startswith("vapid t=")
    assert headers["urgency"] == "high"
    assert b"Books differ" not in body
    told = json.loads(browser.decrypt(body))
    assert told["title"] == "[SIMULATOR] high: Books differ"
    assert told["path"] == f"/alerts/#alert-{alert.pk}"


def test_a_browser_that_unsubscribed_is_switched_off_and_that_is_audited(
    sink: Sink, at: Any, settings: Any
) -> None:
    _, row = subscribe(sink, settings)
    sink.status = 410
    raise_one()

    at(2)
    raise_one(subject="another", seconds=10)
    at(12)

    row.refresh_from_db()
    assert not row.enabled
    assert len(sink.received) == 1
    assert [link["action"] for link in audit.history(f"alert_channel:{row.pk}")] == [
        "alert_channel.subscribed", "alert_channel.switched_off",
    ]  # fmt: skip


@pytest.mark.parametrize("left", ["deactivated", "deleted"])
def test_a_browser_of_somebody_who_may_not_sign_in_any_more_is_told_nothing(
    sink: Sink, at: Any, settings: Any, left: str
) -> None:
    _, row = subscribe(sink, settings)
    ana = User.objects.filter(username="ana")
    _ = ana.delete() if left == "deleted" else ana.update(is_active=False)
    raise_one()

    at(2)

    row.refresh_from_db()
    assert sink.received == []
    assert not row.enabled
    assert audit.history(f"alert_channel:{row.pk}")[-1]["action"] == "alert_channel.switched_off"


def test_a_push_service_is_not_followed_elsewhere(sink: Sink, at: Any, settings: Any) -> None:
    subscribe(sink, settings)
    with running_sink() as elsewhere:
        sink.status, sink.headers = 307, {"Location": f"http://127.0.0.1:{elsewhere.port}/inside"}
        raise_one()

        at(2)

        assert elsewhere.received == []
    assert "307" in AlertDelivery.objects.get().last_error


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:6379/", "https://10.0.0.1/x", "https://fcm.googleapis.com.evil.example/x",
        "http://fcm.googleapis.com/x", "https://fcm.googleapis.com:8443/x", "https://u:p@fcm.googleapis.com/x",
        "file:///etc/passwd", "https://[bad", "",
    ],
)  # fmt: skip
def test_a_subscription_elsewhere_than_at_a_known_push_service_is_refused(endpoint: str) -> None:
    with pytest.raises(channels.ChannelRefused):
        channels.subscribe_device(
            subscription=Browser(endpoint).subscription, name="x", actor="mallory", now=NOW
        )


def test_known_push_services_are_taken() -> None:
    for number, host in enumerate(
        ("fcm.googleapis.com", "wns2-db5.notify.windows.com", "web.push.apple.com")
    ):
        channels.subscribe_device(
            subscription=Browser(f"https://{host}/x").subscription, name=f"{number}", actor="ana", now=NOW
        )

    assert AlertChannel.objects.count() == 3


def test_a_browser_that_subscribes_again_stays_one_channel(sink: Sink, settings: Any) -> None:
    browser, first = subscribe(sink, settings)

    second = channels.subscribe_device(subscription=browser.subscription, name="phone", actor="ana", now=NOW)

    assert list(AlertChannel.objects.all()) == [second]
    assert second.pk != first.pk


def test_the_signing_key_is_made_once(sink: Sink, own_files: Path) -> None:
    from tradingbot.operations import senders

    assert senders.public_key() == senders.public_key()
    assert (own_files / senders.VAPID_KEY).stat().st_mode & 0o777 == 0o600


# --- tests, silences, lapses ------------------------------------------------------------------------------
def test_a_test_message_is_sent_and_its_receipt_kept(sink: Sink, at: Any) -> None:
    row = channel(sink)

    channels.request_test(channel_id=row.pk, actor="rita", now=NOW)
    at(1)

    assert "Test of webhook" in sink.json[0]["title"]
    assert AlertDelivery.objects.get().sent_at is not None


def test_a_test_that_fails_is_not_tried_again(sink: Sink, at: Any) -> None:
    row = channel(sink)
    sink.status = 404

    channels.request_test(channel_id=row.pk, actor="rita", now=NOW)
    at(1)

    assert at(3600) == 0
    assert AlertDelivery.objects.get().given_up_at is not None


def test_a_second_test_waits_for_the_receipt_of_the_first(sink: Sink) -> None:
    row = channel(sink)
    channels.request_test(channel_id=row.pk, actor="rita", now=NOW)

    with pytest.raises(channels.ChannelRefused):
        channels.request_test(channel_id=row.pk, actor="rita", now=NOW)


def test_a_silenced_alert_is_told_when_the_silence_ends_and_it_still_lasts(sink: Sink, at: Any) -> None:
    channel(sink)
    silences.add_silence(kind="divergence", lasts=timedelta(hours=1), reason="known", actor="ana", now=NOW)
    raise_one(1)

    at(2)
    at(3599)
    assert sink.received == []
    at(3601)

    assert len(sink.received) == 1


def test_a_silenced_alert_is_told_as_soon_as_a_person_ends_the_silence(sink: Sink, at: Any) -> None:
    channel(sink)
    row = silences.add_silence(
        kind="divergence", lasts=timedelta(hours=1), reason="known", actor="ana", now=NOW
    )
    raise_one(1)
    at(2)

    silences.end_silence(silence_id=row.pk, actor="bob", now=NOW + timedelta(seconds=60))
    at(62)

    assert len(sink.received) == 1


@pytest.mark.django_db(transaction=True)
def test_an_alert_that_is_just_being_silenced_is_told_when_a_person_ends_the_silence(sink: Sink) -> None:
    channel(sink)
    silence = silences.add_silence(
        kind="divergence", lasts=timedelta(hours=1), reason="known", actor="ana", now=NOW
    )
    raise_one()
    ended_at = NOW + timedelta(minutes=1)

    def end() -> None:
        silences.end_silence(silence_id=silence.pk, actor="ana", now=ended_at)
        connections.close_all()

    ending = threading.Thread(target=end)
    with transaction.atomic():
        delivery.plan_deliveries(now=NOW + timedelta(seconds=30))
        ending.start()
        wait_for(lambda: not ending.is_alive() or _somebody_waits_for_a_lock())
    ending.join(30)

    assert AlertNotice.objects.get().due_at == ended_at


def _somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_an_alert_that_closed_under_its_silence_is_never_told(sink: Sink, at: Any) -> None:
    channel(sink)
    silences.add_silence(kind="divergence", lasts=timedelta(hours=1), reason="known", actor="ana", now=NOW)
    raise_one(1)
    at(2)
    alerts.resolve_alerts(dedupe_key="divergence:divergence:7", now=NOW)

    at(3601)

    assert sink.received == []


def test_a_lapsed_acknowledgement_is_told_again(sink: Sink, at: Any) -> None:
    channel(sink)
    alert = raise_one()
    at(2)
    alerts.acknowledge_alert(alert_id=alert.pk, actor="ana", now=NOW)

    later = 4 * 3600 + 1
    delivery.tend(now=NOW + timedelta(seconds=later))
    at(later + 2)

    assert len(sink.received) == 2


def test_old_receipts_are_dropped_and_open_notices_are_not(sink: Sink, at: Any) -> None:
    channel(sink)
    raise_one()
    at(2)
    raise_one(subject="waits")

    delivery.tend(now=NOW + timedelta(days=31))

    assert AlertNotice.objects.get().alert.subject == "waits"
    assert not AlertDelivery.objects.exists()
