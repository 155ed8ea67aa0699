"""From the outbox to people, with real local servers: what is sent, tried again, passed on and kept as receipt."""

import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.db import connection

from tests.conftest import NOW
from tests.operations.push_service import Browser, Sink, running_sink
from tests.proposals.races import race
from tests.web.conftest import wait_for
from tradingbot.core import alerts, audit, clock, silences
from tradingbot.core.models import Alert, AlertChannel, AlertDelivery, AlertNotice
from tradingbot.operations import channels, delivery

pytestmark = pytest.mark.django_db
SECRET = "xoxb-obviously-fake-token"


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, settings: Any) -> Path:
    settings.ALERT_SECRETS_DIR = tmp_path / "alert-channels"
    settings.PUBLIC_URL = "https://desk.example"
    return settings.ALERT_SECRETS_DIR


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as server:
        yield server


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the worker's sweep at an instant of the test's choosing."""

    def sweep(seconds: float = 0) -> int:
        now = NOW + timedelta(seconds=seconds)
        monkeypatch.setattr(clock, "now", lambda: now)
        return delivery.run(now=now)

    return sweep


def raise_one(seconds: float = 0, **changes: Any) -> Alert:
    values = {"kind": "divergence", "severity": "high", "title": "Books differ", "detail": "BTC: 0.1 against 0.2",
              "subject": "divergence:7", "now": NOW + timedelta(seconds=seconds)}  # fmt: skip
    return Alert.objects.get(pk=alerts.raise_alert(**values | changes))


def channel(sink: Sink, name: str = "webhook", path: str = SECRET, **changes: Any) -> AlertChannel:
    row = AlertChannel(name=name, **changes)
    channels.save_channel(channel=row, address=f"json://127.0.0.1:{sink.port}/{path}", actor="rita", now=NOW)
    return row


# --- one message -----------------------------------------------------------------------------------------
def test_an_alert_is_told_once_with_a_link_to_its_page_and_leaves_a_receipt(sink: Sink, at: Any) -> None:
    channel(sink)
    alert = raise_one()

    assert at(2) == 1
    assert at(4) == 0

    (told,) = sink.json
    assert told["title"] == "[SIMULATOR] high: Books differ"
    assert "BTC: 0.1 against 0.2" in told["message"]
    assert f"https://desk.example/alerts/#alert-{alert.pk}" in told["message"]
    receipt = AlertDelivery.objects.get()
    assert (receipt.attempts, receipt.sent_at, receipt.last_error) == (1, NOW + timedelta(seconds=2), "")


def test_the_link_in_a_message_opens_a_page_and_does_nothing(sink: Sink, at: Any, client: Any) -> None:
    channel(sink)
    raise_one(kind="approval_waiting", subject="proposal:1", title="BUY waits for approval")
    at(2)

    (told,) = sink.json
    links = [word for word in told["message"].split() if "://" in word]
    assert [link.partition("#")[0] for link in links] == ["https://desk.example/alerts/"]
    assert client.get("/alerts/").status_code == 302  # who is not signed in has to sign in first


def test_the_notice_is_written_in_the_transaction_of_the_alert() -> None:
    from django.db import transaction

    with transaction.atomic():
        raise_one()
        transaction.set_rollback(True)

    assert not AlertNotice.objects.exists()


def test_a_repeat_is_counted_and_not_told_again(sink: Sink, at: Any) -> None:
    channel(sink)
    raise_one()
    at(2)

    raise_one(10)
    at(12)

    assert len(sink.received) == 1


def test_what_becomes_worse_is_told_again(sink: Sink, at: Any) -> None:
    channel(sink)
    raise_one()
    at(2)

    raise_one(10, severity="critical")
    at(12)

    assert [told["title"].split()[1] for told in sink.json] == ["high:", "critical:"]


def test_a_channel_is_told_of_its_least_severity_and_above(sink: Sink, at: Any) -> None:
    channel(sink, "all", "all", severity_min="info")
    channel(sink, "worst", "worst", severity_min="critical")
    raise_one(severity="info")

    at(2)

    assert [path for path, _, _ in sink.received] == ["/all"]


def test_what_closed_before_anybody_was_told_is_not_told_unless_it_was_critical(sink: Sink, at: Any) -> None:
    channel(sink)
    for severity in ("high", "critical"):
        raise_one(severity=severity, subject=severity)
        alerts.resolve_alerts(dedupe_key=f"divergence:{severity}", now=NOW)

    at(2)

    (told,) = sink.json
    assert "critical" in told["title"]
    assert "Closed at" in told["message"]


def test_a_mail_reaches_a_mail_server(at: Any) -> None:
    with mail_server() as (port, mails):
        row = AlertChannel(name="mail")
        address = (
            f"mailto://desk:{SECRET}@127.0.0.1:{port}/?from=desk@example.com&to=ops@example.com&mode=insecure"
        )
        channels.save_channel(channel=row, address=address, actor="rita", now=NOW)
        raise_one(title="Books differ")

        at(2)

    assert AlertDelivery.objects.get().sent_at, AlertDelivery.objects.get().last_error
    assert "Books differ" in mails[0]


# --- failures --------------------------------------------------------------------------------------------
def test_a_failure_is_kept_and_tried_again_later_each_time(sink: Sink, at: Any) -> None:
    channel(sink)
    raise_one()
    sink.status = 500

    seconds = 2.0
    at(seconds)
    assert at(seconds + 1) == 0  # not before its time
    for pause in delivery.BACK_OFF_SECONDS:
        seconds += pause
        assert at(seconds) == 1
    assert at(seconds + 86400) == 0

    receipt = AlertDelivery.objects.get()
    assert receipt.attempts == len(sink.received) == len(delivery.BACK_OFF_SECONDS) + 1
    assert receipt.given_up_at is not None
    assert "500" in receipt.last_error


def test_a_failure_that_passes_is_delivered_at_the_next_attempt(sink: Sink, at: Any) -> None:
    channel(sink)
    raise_one()
    sink.status = 503
    at(2)

    sink.status = 200
    at(12)

    receipt = AlertDelivery.objects.get()
    assert (receipt.attempts, receipt.last_error, receipt.sent_at) == (2, "", NOW + timedelta(seconds=12))


def test_a_redirect_or_a_closed_port_is_a_failure_with_its_reason(at: Any) -> None:
    with running_sink() as gone:
        pass
    channel(gone)
    raise_one()

    at(2)

    receipt = AlertDelivery.objects.get()
    assert receipt.sent_at is None
    assert receipt.last_error


def test_a_fault_of_a_plugin_is_a_receipt_and_holds_up_no_other_channel(
    sink: Sink, at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tradingbot.operations import apprise_sender

    sent = apprise_sender.send

    def send(address: str, message: Any) -> None:
        if "broken" in address:
            raise ZeroDivisionError(address)
        sent(address, message)

    monkeypatch.setattr(apprise_sender, "send", send)
    channel(sink, "broken", "broken")
    channel(sink, "works", "works")
    raise_one()

    at(2)

    assert [path for path, _, _ in sink.received] == ["/works"]
    assert "ZeroDivisionError" in AlertDelivery.objects.get(channel__name="broken").last_error


def test_the_second_channel_is_told_as_soon_as_a_first_one_fails(sink: Sink, at: Any) -> None:
    with running_sink() as broken:
        broken.status = 500
        channel(broken, "first")
        channel(sink, "second", is_backup=True)
        raise_one()

        at(2)

    assert len(sink.received) == 1


def test_the_second_channel_is_left_alone_while_the_first_one_works(sink: Sink, at: Any) -> None:
    with running_sink() as works:
        channel(works, "first")
        channel(sink, "second", is_backup=True)
        raise_one()

        at(2)
        at(3600)

    assert len(works.received) == 1
    assert sink.received == []


def test_a_critical_alert_that_nobody_acknowledges_goes_to_the_second_channel_once(
    sink: Sink, at: Any
) -> None:
    with running_sink() as works:
        channel(works, "first")
        channel(sink, "second", is_backup=True)
        raise_one(severity="critical")
        at(2)

        at(2 + 299)
        assert sink.received == []
        at(2 + 300)
        at(2 + 600)

    assert len(sink.received) == 1


def test_an_acknowledged_critical_alert_is_not_escalated(sink: Sink, at: Any) -> None:
    with running_sink() as works:
        channel(works, "first")
        channel(sink, "second", is_backup=True)
        alert = raise_one(severity="critical")
        at(2)
        alerts.acknowledge_alert(alert_id=alert.pk, actor="ana", now=NOW + timedelta(seconds=60))

        at(2 + 600)

    assert sink.received == []


def test_without_a_first_channel_the_second_is_told(sink: Sink, at: Any) -> None:
    channel(sink, is_backup=True)
    raise_one()

    at(2)

    assert len(sink.received) == 1


def test_a_worker_that_died_with_a_claim_leaves_a_delivery_that_is_taken_up_again(
    sink: Sink, at: Any
) -> None:
    channel(sink)
    raise_one()
    delivery.plan_deliveries(now=NOW)
    assert delivery.claim_next(now=NOW) is not None

    assert at(60) == 0
    assert at(121) == 1


@pytest.mark.django_db(transaction=True)
def test_a_server_that_hangs_holds_up_its_own_channel_only(sink: Sink) -> None:
    with running_sink() as hangs:
        hangs.may_answer.clear()
        channel(hangs, "hangs", severity_min="info")
        channel(sink, "works", severity_min="info")
        for number in range(3):
            raise_one(subject=f"divergence:{number}", now=clock.now())
        delivery.plan_deliveries(now=clock.now())

        def worker() -> None:
            delivery.run(now=clock.now())
            connection.close()

        stuck = threading.Thread(target=worker)
        stuck.start()
        wait_for(lambda: hangs.received)
        race([worker])
        told_meanwhile = len(sink.received)
        hangs.may_answer.set()
        stuck.join(30)

    assert told_meanwhile + len(hangs.received) >= 4
    assert len(sink.received) == 3


@pytest.mark.django_db(transaction=True)
def test_two_workers_take_each_delivery_once(sink: Sink) -> None:
    channel(sink)
    for number in range(6):
        raise_one(subject=f"divergence:{number}", now=clock.now())

    tried = race([lambda: delivery.run(now=clock.now())] * 3)

    assert sum(tried) == len(sink.received) == 6


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


class _Mail(socketserver.StreamRequestHandler):
    """Enough of RFC 5321 to take a mail."""

    def handle(self) -> None:
        lines: list[str] = []
        self._say("220 sink")
        while word := self.rfile.readline().decode("utf-8", "replace").strip():
            verb = word.split()[0].upper()
            if verb == "EHLO":
                self._say("250-sink\r\n250 AUTH PLAIN LOGIN")
            elif verb == "AUTH":
                self._say("235 fine")
            elif verb == "DATA":
                self._say("354 go on")
                while (line := self.rfile.readline().decode("utf-8", "replace").rstrip("\r\n")) != ".":
                    lines.append(line)
                self.server.mails.append("\n".join(lines))  # type: ignore[attr-defined]
                self._say("250 taken")
            elif verb == "QUIT":
                self._say("221 bye")
                break
            else:
                self._say("250 fine")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail)
    server.mails = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], server.mails  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
