"""Alert channels: made, changed, tested and switched off. Their addresses go to files, never to rows."""

from datetime import datetime
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.db import transaction

from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.models import AlertChannel, AlertDelivery
from tradingbot.operations import secret_files, senders, webpush

DEVICES_MAX = 10
_SHOWN = ("name", "kind", "service", "severity_min", "is_backup", "enabled", "owner")


class ChannelRefused(Exception):
    """The channel cannot be as it was given; the text says why, without the address."""


@transaction.atomic
def save_channel(*, channel: AlertChannel, address: str, actor: str, now: datetime) -> None:
    """Store a channel as edited; a blank `address` keeps the one it has. Raises ChannelRefused."""
    before = AlertChannel.objects.select_for_update().filter(pk=channel.pk).first() if channel.pk else None
    if before is None and not address:
        raise ChannelRefused("Enter the address: it is kept in a file and not shown again.")
    if address:
        channel.service = check_address(address)
        # A new file for a new address: a delivery under way goes on reading the old one.
        _forget(channel.secret_name)
        channel.secret_name = secret_files.fresh_name("channel")
        secret_files.write(channel.secret_name, address)
    if before is None:
        channel.created_at, channel.created_by = now, actor
    channel.save()
    audit.record(
        action="alert_channel.saved",
        subject=f"alert_channel:{channel.pk}",
        actor=actor,
        now=now,
        before=_shown(before) if before else None,
        after=_shown(channel),
        address="changed" if address else "kept",
    )
    announce("alert_delivery", channel.pk)


def check_address(address: str) -> str:
    """The name of the service of an Apprise address; raises ChannelRefused."""
    from tradingbot.operations import apprise_sender

    try:
        return apprise_sender.service_of(address)
    except senders.NotDelivered as error:
        raise ChannelRefused(str(error)) from None


@transaction.atomic
def remove_channel(*, channel_id: int, actor: str, now: datetime, owner: str | None = None) -> bool:
    """Delete a channel with its receipts and its address; of `owner` only, when one is named. False: no such."""
    rows = AlertChannel.objects.select_for_update().filter(pk=channel_id)
    channel = (rows if owner is None else rows.filter(owner=owner)).first()
    if channel is None:
        return False
    audit.record(
        action="alert_channel.removed",
        subject=f"alert_channel:{channel.pk}",
        actor=actor,
        now=now,
        before=_shown(channel),
    )
    _forget(channel.secret_name)
    channel.delete()
    announce("alert_delivery", channel_id)
    return True


@transaction.atomic
def subscribe_device(*, subscription: str, name: str, actor: str, now: datetime) -> AlertChannel:
    """Tell the browser that holds `subscription` (JSON) from now on; once for each browser. Raises ChannelRefused."""
    try:
        found = webpush.parse_subscription(subscription)
    except webpush.MalformedSubscription as error:
        raise ChannelRefused(str(error)) from None
    endpoint = found["endpoint"]
    if not senders.is_push_service(endpoint):
        raise ChannelRefused("Its push service is not among those that are used (PUSH_HOSTS).")
    digest = audit.sha256_hex(endpoint)
    if AlertChannel.objects.filter(owner=actor).exclude(endpoint_sha256=digest).count() >= DEVICES_MAX:
        raise ChannelRefused(f"You have {DEVICES_MAX} devices: remove one of them first.")
    for older in AlertChannel.objects.select_for_update().filter(endpoint_sha256=digest):
        remove_channel(channel_id=older.pk, actor=actor, now=now)
    channel = AlertChannel(
        name=_free_name(f"{actor[:24]}: {name.strip()[:20] or 'browser'}"),
        kind=AlertChannel.Kind.WEB_PUSH,
        secret_name=secret_files.fresh_name("device"),
        service=f"Web Push, {(urlsplit(endpoint).hostname or '')[:48]}",
        owner=actor,
        endpoint_sha256=digest,
        created_at=now,
        created_by=actor,
    )
    secret_files.write(channel.secret_name, subscription)
    channel.save()
    audit.record(
        action="alert_channel.subscribed",
        subject=f"alert_channel:{channel.pk}",
        actor=actor,
        now=now,
        after=_shown(channel),
    )
    announce("alert_delivery", channel.pk)
    return channel


@transaction.atomic
def switch_off_devices_left(*, now: datetime) -> None:
    """Switch off browsers whose person may not sign in any more: they would go on being told of the desk."""
    people = get_user_model().objects.filter(is_active=True).values("username")
    left = AlertChannel.objects.filter(enabled=True).exclude(owner="").exclude(owner__in=people)
    for channel_id in left.values_list("pk", flat=True):
        switch_off(channel_id=channel_id, reason="its person may not sign in any more", now=now)


def switch_off(*, channel_id: int, reason: str, now: datetime) -> None:
    """Use a channel no longer. The caller holds the transaction."""
    if AlertChannel.objects.filter(pk=channel_id, enabled=True).update(enabled=False):
        audit.record(
            action="alert_channel.switched_off",
            subject=f"alert_channel:{channel_id}",
            actor="alerts",
            now=now,
            reason=reason,
        )


@transaction.atomic
def request_test(*, channel_id: int, actor: str, now: datetime) -> AlertDelivery:
    """Put a test in the outbox of one channel; its receipt shows beside the channel. Raises ChannelRefused."""
    channel = AlertChannel.objects.select_for_update().filter(pk=channel_id).first()
    if channel is None:
        raise ChannelRefused("That channel is gone.")
    if channel.deliveries.filter(notice=None, sent_at=None, given_up_at=None).exists():
        raise ChannelRefused("A test is under way: wait for its receipt.")
    row = AlertDelivery.objects.create(channel=channel, requested_by=actor, created_at=now, due_at=now)
    audit.record(action="alert_channel.tested", subject=f"alert_channel:{channel.pk}", actor=actor, now=now)
    # The topic of alerts, so that the worker is rung.
    announce("alert", f"test-{row.pk}")
    return row


def _shown(channel: AlertChannel) -> dict[str, object]:
    return {name: getattr(channel, name) for name in _SHOWN}


def _forget(secret_name: str) -> None:
    if secret_name:
        transaction.on_commit(lambda: secret_files.remove(secret_name), robust=True)


def _free_name(wanted: str) -> str:
    taken = set(AlertChannel.objects.filter(name__startswith=wanted).values_list("name", flat=True))
    numbered = (f"{wanted} ({number})" for number in range(2, 1000))
    return wanted if wanted not in taken else next(name for name in numbered if name not in taken)
