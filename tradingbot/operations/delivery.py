"""From the outbox to people: notices become deliveries, deliveries are tried until taken or given up.

Runs in the alerts worker only. A delivery is claimed by a committed row, sent outside of any transaction, and
its receipt is a row again; a worker that dies in between leaves a claim that lapses, so a message may come
twice and is never forgotten. Of one channel one delivery is under way at a time: what hangs holds up itself.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Case, Exists, F, IntegerField, OuterRef, Q, Value, When
from django.urls import reverse

from tradingbot.core import alerts, clock, silences
from tradingbot.core.announce import announce
from tradingbot.core.models import Alert, AlertChannel, AlertDelivery, AlertNotice
from tradingbot.operations import channels, secret_files, senders
from tradingbot.operations.senders import Message, NotDelivered

logger = logging.getLogger(__name__)
TOPIC = "alert_delivery"
# Seconds from a failed attempt to the next; after the last it is given up.
BACK_OFF_SECONDS = (10, 30, 90, 300, 900, 1800)
ATTEMPTS_MAX = len(BACK_OFF_SECONDS) + 1
CLAIM_LASTS = timedelta(seconds=120)
RUN_SECONDS_MAX = 30
KEPT = timedelta(days=30)
_RANKS = {Alert.Severity.INFO: 0, Alert.Severity.HIGH: 1, Alert.Severity.CRITICAL: 2}


# --- notices to deliveries -------------------------------------------------------------------------------
@transaction.atomic
def plan_deliveries(*, now: datetime) -> int:
    """Make a delivery of each due notice for each first channel that takes its severity; how many were made."""
    running = silences.hold_running_silences(now)  # first: who ends a silence goes to the notices after it
    waiting = AlertNotice.objects.select_for_update(skip_locked=True, of=("self",)).select_related("alert")
    notices = list(waiting.filter(planned_at=None, due_at__lte=now).order_by("due_at")[:100])
    return sum(_plan(notice, running, now) for notice in notices)


def _plan(notice: AlertNotice, running: Sequence[silences.AlertSilence], now: datetime) -> int:
    alert = notice.alert
    silent_until = silences.silenced_until(alert, running)
    if notice.round < alert.round:
        return _leave(notice, "replaced by a later round", now)
    if alert.resolved_at and alert.severity != Alert.Severity.CRITICAL:
        return _leave(notice, "closed before anybody was told", now)
    if silent_until:
        # Looked at again when the silence ends: what still lasts then is told.
        AlertNotice.objects.filter(pk=notice.pk).update(due_at=silent_until, fate="silenced")
        return 0
    takers = _takers(alert.severity, is_backup=False) or _takers(alert.severity, is_backup=True)
    if not takers:
        return _leave(notice, "no channel takes it", now)
    AlertNotice.objects.filter(pk=notice.pk).update(planned_at=now, fate="")
    return _deliver(notice, takers, now)


def _leave(notice: AlertNotice, fate: str, now: datetime) -> int:
    AlertNotice.objects.filter(pk=notice.pk).update(planned_at=now, fate=fate)
    return 0


def _takers(severity: str, *, is_backup: bool) -> list[AlertChannel]:
    rows = AlertChannel.objects.filter(enabled=True, is_backup=is_backup)
    return [
        row for row in rows if _RANKS[Alert.Severity(row.severity_min)] <= _RANKS[Alert.Severity(severity)]
    ]


def _deliver(notice: AlertNotice, takers: Sequence[AlertChannel], now: datetime) -> int:
    made = AlertDelivery.objects.bulk_create(
        [AlertDelivery(notice=notice, channel=taker, created_at=now, due_at=now) for taker in takers],
        ignore_conflicts=True,
    )
    announce(TOPIC, notice.pk)
    return len(made)


@transaction.atomic
def escalate(*, now: datetime) -> int:
    """Tell the second channels of critical alerts that nobody acknowledged in time; how many alerts.

    What is silenced is told when the silence ends, if nobody has acknowledged it by then.
    """
    running = silences.running_silences(now)
    late = AlertNotice.objects.select_for_update(skip_locked=True, of=("self",)).select_related("alert").filter(
        planned_at__lte=now - timedelta(seconds=settings.ALERT_ESCALATE_AFTER_SECONDS),
        escalated_at=None,
        round=F("alert__round"),
        alert__severity=Alert.Severity.CRITICAL,
        alert__acknowledged_at=None,
        alert__resolved_at=None,
    )  # fmt: skip
    return sum(
        _escalate(notice, now) for notice in late if not silences.silenced_until(notice.alert, running)
    )


def _escalate(notice: AlertNotice, now: datetime) -> int:
    notice.escalated_at = now
    notice.save(update_fields=["escalated_at"])
    return 1 if _deliver(notice, _takers(notice.alert.severity, is_backup=True), now) else 0


# --- deliveries to receipts ------------------------------------------------------------------------------
def run(*, now: datetime) -> int:
    """Plan, then deliver what is due, critical first, until nothing is or the time is up; how many were tried."""
    channels.switch_off_devices_left(now=now)
    plan_deliveries(now=now)
    escalate(now=now)
    until, tried = clock.monotonic_seconds() + RUN_SECONDS_MAX, 0
    while clock.monotonic_seconds() < until and (delivery := claim_next(now=clock.now())) is not None:
        reason = attempt(delivery, now=clock.now())
        record_attempt(delivery_id=delivery.pk, reason=reason, now=clock.now())
        tried += 1
    return tried


@transaction.atomic
def claim_next(*, now: datetime) -> AlertDelivery | None:
    """Take the most pressing delivery of a channel that has none under way."""
    open_ = Q(sent_at=None, given_up_at=None)
    busy = AlertDelivery.objects.filter(open_, channel=OuterRef("channel"), claimed_until__gt=now)
    severity = Case(
        *(When(notice__alert__severity=name, then=Value(rank)) for name, rank in _RANKS.items()),
        default=Value(9),  # a person waits for the receipt of a test
        output_field=IntegerField(),
    )
    found = (
        # The channel's row is locked as well, so that two workers do not take two deliveries of one channel.
        AlertDelivery.objects.select_for_update(skip_locked=True, of=("self", "channel"))
        .select_related("channel")
        .filter(open_, ~Exists(busy), due_at__lte=now)
        .order_by(severity.desc(), "due_at", "pk")
        .first()
    )
    if found is None:
        return None
    found.claimed_until, found.last_attempt_at = now + CLAIM_LASTS, now
    found.attempts += 1
    found.save(update_fields=["claimed_until", "last_attempt_at", "attempts"])
    return found


def attempt(delivery: AlertDelivery, *, now: datetime) -> NotDelivered | None:
    """Send a claimed delivery, in no transaction; why it was not taken, or None."""
    channel = delivery.channel
    try:
        if not channel.enabled and delivery.notice_id is not None:
            raise NotDelivered("the channel was switched off", gone=True)
        if delivery.attempts > ATTEMPTS_MAX:
            raise NotDelivered("every worker that tried it stopped before there was a receipt")
        message = message_of(delivery)
        address = secret_files.read(channel.secret_name)
        if channel.kind == AlertChannel.Kind.WEB_PUSH:
            senders.send_by_web_push(address, message, now=now)
        else:
            from tradingbot.operations import apprise_sender

            apprise_sender.send(address, message)
    except NotDelivered as reason:
        return reason
    except secret_files.SecretMissing as reason:
        return NotDelivered(str(reason))
    except Exception as error:  # noqa: BLE001 - kept as the receipt; one bad address must not hold up the rest
        logger.error("alert delivery failed", extra={"channel": channel.pk, "error": type(error).__name__})  # noqa: TRY400 - a traceback may quote the address
        return NotDelivered(f"sending failed inside ({type(error).__name__})")
    return None


@transaction.atomic
def record_attempt(*, delivery_id: int, reason: NotDelivered | None, now: datetime) -> None:
    """Write the receipt. A failure is tried again later, and the second channels are told at once."""
    row = AlertDelivery.objects.select_for_update(of=("self",)).select_related("channel", "notice__alert").get(
        pk=delivery_id
    )  # fmt: skip
    row.claimed_until = None
    row.last_error = str(reason) if reason else ""
    if reason is None:
        row.sent_at = now
    else:
        logger.warning("alert not delivered", extra={"channel": row.channel_id, "attempt": row.attempts})
        _after_failure(row, reason, now)
    row.save()
    announce(TOPIC, row.pk)


def _after_failure(row: AlertDelivery, reason: NotDelivered, now: datetime) -> None:
    is_last = row.attempts >= ATTEMPTS_MAX
    if reason.gone or is_last or row.notice is None:
        row.given_up_at = now
    else:
        row.due_at = now + timedelta(seconds=BACK_OFF_SECONDS[row.attempts - 1])
    if reason.gone and row.channel.kind == AlertChannel.Kind.WEB_PUSH and row.channel.enabled:
        channels.switch_off(channel_id=row.channel_id, reason=str(reason), now=now)
    # Whatever the attempt: the worker of the first may have died. Nobody is told of one notice twice by a channel.
    if row.notice is not None and not row.channel.is_backup:
        _deliver(row.notice, _takers(row.notice.alert.severity, is_backup=True), now)


def message_of(delivery: AlertDelivery) -> Message:
    """What a delivery says."""
    environment = str(settings.TRADING_ENVIRONMENT).upper()
    if delivery.notice is None:
        return Message(
            title=f"[{environment}] Test of {delivery.channel.name}",
            body=f"{delivery.requested_by} sent this test. Nothing is wrong.",
            severity=Alert.Severity.INFO,
            path=reverse("alerts"),
            tag=f"test-{delivery.channel_id}",
        )
    alert = delivery.notice.alert
    lines = [alert.detail[:600]] if alert.detail else []
    lines.append(f"Seen {alert.count} times since {alert.first_seen_at:%Y-%m-%d %H:%M:%S} UTC.")
    if alert.resolved_at:
        lines.append(f"Closed at {alert.resolved_at:%H:%M:%S} UTC.")
    elif delivery.notice.round > 1:
        lines.append("It lasts, or is worse than before.")
    return Message(
        title=f"[{environment}] {alert.severity}: {alert.title}",
        body="\n".join(lines),
        severity=alert.severity,
        path=f"{reverse('alerts')}#alert-{alert.pk}",
        tag=f"alert-{alert.pk}",
    )


# --- upkeep ----------------------------------------------------------------------------------------------
def tend(*, now: datetime) -> None:
    """Let acknowledgements lapse, and drop receipts that are a month old."""
    alerts.lapse_acknowledgements(now=now)
    old = AlertNotice.objects.filter(created_at__lt=now - KEPT).exclude(planned_at=None)
    old.delete()
    AlertDelivery.objects.filter(notice=None, created_at__lt=now - KEPT).delete()
