"""From the outbox to people, with real local servers: what is sent, tried again and passed on."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from risk import selectors as risk
from risk import services as risk_services
from risk.rules.limits import LIMIT_NAMES
from tests.conftest import NOW
from tests.operations.outbox import SECRET, channel, mail_server, raise_one
from tests.operations.push_service import Sink, running_sink
from tests.proposals.races import race
from tests.web.conftest import wait_for
from tradingbot.core import alerts, clock, silences
from tradingbot.core.models import Alert, AlertChannel, AlertDelivery, AlertNotice
from tradingbot.operations import channels, delivery

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_files")]


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


def change_limits(seconds: float = 0, **changes: Any) -> None:
    """A new version in force, confirmed where it is looser."""
    values = {name: getattr(risk.limits_history()[0], name) for name in LIMIT_NAMES} | changes
    risk_services.save_limits(
        values=values, actor="rita", confirmed_by="sam", reason="calm", now=NOW + timedelta(seconds=seconds)
    )


def test_each_loosening_of_the_limits_is_told_by_a_channel_as_it_is_installed(sink: Sink, at: Any) -> None:
    channel(sink)
    change_limits(orders_per_hour_max=400)
    at(2)
    change_limits(10, orders_per_hour_max=401)
    change_limits(11, open_positions_max=1)  # what is tightened right after does not cover it up
    at(12)

    told = [(message["title"], message["message"].splitlines()[1]) for message in sink.json]
    assert told == [
        ("[SIMULATOR] high: limits changed: version 2 by rita, confirmed by sam, loosened",
         "orders_per_hour_max: 300 -> 400"),
        ("[SIMULATOR] high: limits changed: version 3 by rita, confirmed by sam, loosened",
         "orders_per_hour_max: 400 -> 401"),
    ]  # fmt: skip


def test_a_tightening_of_the_limits_is_on_the_page_and_told_to_nobody(sink: Sink, at: Any) -> None:
    channel(sink)

    change_limits(open_positions_max=1)
    at(2)

    assert Alert.objects.get(kind="limits_changed").severity == "info"
    assert sink.received == []


def test_an_acknowledged_loosening_is_closed_and_never_told_again(sink: Sink, at: Any) -> None:
    channel(sink)
    change_limits(orders_per_hour_max=400)
    at(2)
    alert = Alert.objects.get(kind="limits_changed")

    alerts.acknowledge_alert(alert_id=alert.pk, actor="sam", now=NOW + timedelta(seconds=30))
    alerts.lapse_acknowledgements(now=NOW + timedelta(days=1))
    at(86_402)

    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.resolved_at) == ("sam", NOW + timedelta(seconds=30))
    assert len(sink.received) == 1


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


def test_the_address_is_not_logged_when_its_server_answers_with_nonsense(
    sink: Sink, at: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """urllib3 warns of headers that it cannot read and quotes the whole URL, with the token in its path."""
    sink.headers = {"Server": "x\r\nno header at all\r\nAge: 1"}
    channel(sink)
    raise_one()

    at(2)

    assert len(sink.received) == 1
    assert SECRET not in caplog.text


def test_the_second_channel_is_told_as_soon_as_a_first_one_fails(sink: Sink, at: Any) -> None:
    with running_sink() as broken:
        broken.status = 500
        channel(broken, "first")
        channel(sink, "second", is_backup=True)
        raise_one()

        at(2)

    assert len(sink.received) == 1


def test_the_second_channel_is_told_of_a_failure_after_a_worker_died_at_the_first_attempt(
    sink: Sink, at: Any
) -> None:
    with running_sink() as broken:
        broken.status = 500
        channel(broken, "first")
        channel(sink, "second", is_backup=True)
        raise_one()
        delivery.plan_deliveries(now=NOW)
        assert delivery.claim_next(now=NOW) is not None

        at(121)

    assert len(broken.received) == 1
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


def test_silenced_alert_goes_to_the_second_channel_only_when_the_silence_has_ended(
    sink: Sink, at: Any
) -> None:
    with running_sink() as works:
        channel(works, "first")
        channel(sink, "second", is_backup=True)
        raise_one(severity="critical")
        at(2)
        silences.add_silence(
            kind="divergence",
            lasts=timedelta(hours=1),
            reason="known",
            actor="ana",
            now=NOW + timedelta(seconds=60),
        )

        at(60 + 3599)
        told_meanwhile = len(sink.received)
        at(60 + 3600)

    assert told_meanwhile == 0
    assert len(sink.received) == 1


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


def test_a_message_that_every_worker_dies_of_is_given_up_and_told_by_the_second_channel(
    sink: Sink, at: Any
) -> None:
    with running_sink() as first:
        channel(first, "first")
        channel(sink, "second", is_backup=True)
        raise_one()
        delivery.plan_deliveries(now=NOW)
        for number in range(delivery.ATTEMPTS_MAX):
            assert delivery.claim_next(now=NOW + number * delivery.CLAIM_LASTS) is not None

        at(3600)

    assert first.received == []
    assert AlertDelivery.objects.get(channel__name="first").given_up_at is not None
    assert len(sink.received) == 1


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
