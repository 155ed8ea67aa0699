"""The alerts page and the back office of channels: what shows, what is refused, and what never shows."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.operations.push_service import Browser, Sink, running_sink
from tests.web import seeding
from tradingbot.core import alerts, clock, silences
from tradingbot.core.models import Alert, AlertChannel, AlertDelivery, AlertSilence, AuditRecord
from tradingbot.operations import channels, delivery

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}
SECRET = "obviously-fake-token-of-a-service"


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, settings: Any) -> Path:
    seeding.starting_rows(clock.now())
    settings.ALERT_SECRETS_DIR = tmp_path / "alert-channels"
    return settings.ALERT_SECRETS_DIR


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as server:
        yield server


def sign_in(*roles: str, name: str = "rita") -> Client:
    client = Client()
    client.force_login(seeding.person(name, *roles, is_staff=True))
    return client


def made(address: str, **changes: Any) -> AlertChannel:
    row = AlertChannel(**{"name": "webhook"} | changes)
    channels.save_channel(channel=row, address=address, actor="rita", now=clock.now())
    return row


def raised(**changes: Any) -> int:
    values = {"kind": "divergence", "severity": "high", "title": "Books differ", "now": clock.now()}
    return alerts.raise_alert(**values | changes)


def page(client: Client) -> str:
    return client.get(reverse("alerts")).content.decode()


# --- receipts --------------------------------------------------------------------------------------------
def test_a_test_is_sent_and_its_receipt_shows_on_the_page(sink: Sink) -> None:
    client = sign_in("operator")
    row = made(f"json://127.0.0.1:{sink.port}/x")

    answer = client.post(reverse("test_channel", args=[row.pk]), **HTMX)
    delivery.run(now=clock.now())

    assert answer.status_code == 200
    assert "on its way" in answer.content.decode()
    assert len(sink.received) == 1
    assert "test by rita" in page(client)
    assert '<span class="good">sent</span>' in page(client)


def test_a_failure_shows_why_and_without_any_part_of_the_address(sink: Sink) -> None:
    client = sign_in("operator")
    made(f"json://{SECRET}:{SECRET}@127.0.0.1:{sink.port}/{SECRET}?+x-token={SECRET}")
    sink.status = 500
    raised()

    delivery.run(now=clock.now())

    assert "error=500" in page(client)
    assert SECRET not in page(client)


def test_what_waits_to_be_told_is_said_on_the_page() -> None:
    raised()

    assert "1 alert waits to be told" in " ".join(page(sign_in("operator")).split())


def test_a_viewer_sees_receipts_and_no_button() -> None:
    row = made("json://127.0.0.1:1/x")

    html = page(sign_in("viewer"))

    assert f'id="channel-{row.pk}"' in html
    assert "Send a test" not in html
    assert "Acknowledge" not in html


# --- the back office -------------------------------------------------------------------------------------
FIELDS = {"name": "mail", "severity_min": "high", "enabled": "on"}


def test_a_channel_is_made_in_the_admin_and_its_address_never_comes_back() -> None:
    client = sign_in("risk_manager")
    address = f"ntfys://{SECRET}"

    answer = client.post(reverse("admin:core_alertchannel_add"), FIELDS | {"address": address})

    assert answer.status_code == 302
    row = AlertChannel.objects.get()
    shown = [
        client.get(reverse("admin:core_alertchannel_change", args=[row.pk])),
        client.get(reverse("admin:core_alertchannel_changelist")),
        client.get(reverse("admin:core_auditrecord_changelist")),
        client.get(reverse("admin:core_alertchannel_history", args=[row.pk])),
    ]
    assert all(found.status_code == 200 and SECRET not in found.content.decode() for found in shown)
    assert not AuditRecord.objects.filter(body__contains=SECRET).exists()


def test_a_refused_form_does_not_give_the_address_back() -> None:
    client = sign_in("risk_manager")

    answer = client.post(
        reverse("admin:core_alertchannel_add"), FIELDS | {"name": "", "address": f"ntfys://{SECRET}"}
    )

    assert answer.status_code == 200
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("address", ["", "nonsense", "ftp://x/y", "json://", "mailto://"])
def test_a_channel_without_a_usable_address_is_refused_beside_the_field(address: str) -> None:
    client = sign_in("risk_manager")

    answer = client.post(reverse("admin:core_alertchannel_add"), FIELDS | {"address": address})

    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert not AlertChannel.objects.exists()


def test_a_channel_is_changed_without_its_address_being_entered_again(own_files: Path) -> None:
    client = sign_in("risk_manager")
    row = made(f"ntfys://{SECRET}")

    client.post(
        reverse("admin:core_alertchannel_change", args=[row.pk]), FIELDS | {"address": "", "name": "new"}
    )

    row.refresh_from_db()
    assert row.name == "new"
    assert SECRET in (own_files / row.secret_name).read_text()


def test_a_removed_channel_takes_its_file_along(
    own_files: Path, django_capture_on_commit_callbacks: Any
) -> None:
    client = sign_in("risk_manager")
    row = made(f"ntfys://{SECRET}")
    channels.request_test(channel_id=row.pk, actor="rita", now=clock.now())

    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("admin:core_alertchannel_delete", args=[row.pk]), {"post": "yes"})

    assert not AlertChannel.objects.exists()
    assert list(own_files.iterdir()) == []


# --- silences --------------------------------------------------------------------------------------------
def silence(client: Client, alert_id: int, **changes: str) -> Any:
    fields = {"covers": "kind", "hours": "1", "reason": "known since noon"} | changes
    path = reverse("silence_alert", args=[alert_id])
    return client.post(path, {f"{alert_id}-{name}": value for name, value in fields.items()}, **HTMX)


def test_an_alert_is_silenced_from_the_page_and_stays_on_it() -> None:
    client = sign_in("operator")
    alert = raised()

    answer = silence(client, alert)

    assert answer.status_code == 200
    html = page(client)
    assert "Books differ" in html
    assert "Nobody is told until" in html
    assert "known since noon" in html


def test_a_silence_from_the_page_hides_nothing_worse_of_the_same_kind() -> None:
    """Of the alerts worker it was said; the trading worker then stands still."""
    silence(sign_in("operator"), raised(kind="queue_silent", subject="alerts", severity="high"))

    worse = Alert.objects.get(pk=raised(kind="queue_silent", subject="trading", severity="critical"))

    assert silences.silenced_until(worse, silences.running_silences(clock.now())) is None


@pytest.mark.parametrize("changes", [{"hours": "0"}, {"hours": "100000"}, {"covers": "all"}, {"reason": ""}])
def test_a_silence_without_reason_or_with_another_length_is_refused(changes: dict[str, str]) -> None:
    answer = silence(sign_in("operator"), raised(), **changes)

    assert answer.status_code == 422
    assert not AlertSilence.objects.exists()


def test_what_must_be_heard_has_no_button_and_is_refused() -> None:
    client = sign_in("operator")
    alert = raised(kind="trading_control", severity="high")

    answer = silence(client, alert)

    assert answer.status_code == 409
    assert not AlertSilence.objects.exists()
    assert f'id="silence-{alert}"' not in page(client)


def test_a_silence_is_ended_from_the_page() -> None:
    client = sign_in("operator")
    row = silences.add_silence(
        kind="divergence", lasts=timedelta(hours=1), reason="r", actor="ana", now=clock.now()
    )

    assert client.post(reverse("end_silence", args=[row.pk]), **HTMX).status_code == 200
    assert client.post(reverse("end_silence", args=[row.pk]), **HTMX).status_code == 409


# --- devices ---------------------------------------------------------------------------------------------
def test_anybody_may_have_his_own_browser_told_and_remove_it_but_no_other() -> None:
    ana, bob = sign_in("viewer", name="ana"), sign_in("operator", name="bob")
    subscription = Browser("https://fcm.googleapis.com/fcm/send/abc").subscription

    answer = ana.post(reverse("add_device"), {"subscription": subscription, "name": "phone"}, **HTMX)

    row = AlertChannel.objects.get()
    assert (answer.status_code, row.owner, row.kind) == (200, "ana", "webpush")
    assert "fcm/send/abc" not in page(ana) + page(bob)
    assert bob.post(reverse("remove_device", args=[row.pk]), **HTMX).status_code == 404
    assert ana.post(reverse("remove_device", args=[row.pk]), **HTMX).status_code == 200
    assert not AlertChannel.objects.exists()


def test_a_subscription_to_another_machine_is_refused() -> None:
    subscription = Browser("http://127.0.0.1:6379/").subscription

    answer = sign_in("operator").post(reverse("add_device"), {"subscription": subscription}, **HTMX)

    assert answer.status_code == 409
    assert not AlertChannel.objects.exists()


def test_devices_are_bounded_in_number() -> None:
    client = sign_in("operator")
    answers = [
        client.post(
            reverse("add_device"),
            {"subscription": Browser(f"https://fcm.googleapis.com/{number}").subscription},
            **HTMX,
        ).status_code
        for number in range(channels.DEVICES_MAX + 1)
    ]

    assert answers == [200] * channels.DEVICES_MAX + [409]


def test_the_page_shows_even_when_no_key_can_be_kept(settings: Any) -> None:
    settings.ALERT_SECRETS_DIR = Path("/proc/nowhere")

    assert 'data-push-key=""' in page(sign_in("operator"))


def test_the_service_worker_comes_from_the_root_and_is_never_cached(client: Client) -> None:
    answer = client.get("/sw.js")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert "no-store" in answer.headers["Cache-Control"]


def test_receipts_of_deliveries_name_no_address_in_the_admin(sink: Sink) -> None:
    client = sign_in("risk_manager")
    client.force_login(seeding.person("root", is_staff=True, is_superuser=True))
    made(f"json://127.0.0.1:{sink.port}/{SECRET}")
    sink.status = 500
    raised()
    delivery.run(now=clock.now())

    assert AlertDelivery.objects.count() == Alert.objects.count() == 1
    assert SECRET not in client.get(reverse("admin:core_alertdelivery_changelist")).content.decode()
