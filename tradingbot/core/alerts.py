"""Raising and closing alerts. Delivery is operations' work and never sits in the trading path.

Each round in which people are to be told leaves an `AlertNotice` in the transaction of the alert: when it is
raised, becomes worse, or shows again after it was acknowledged.
"""

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import F

from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.models import Alert, AlertNotice

INFO_LAPSES_AFTER = timedelta(minutes=30)
# An acknowledgement holds this long while the cause lasts; then people are told again.
ACKNOWLEDGED_FOR = {
    Alert.Severity.CRITICAL: timedelta(minutes=30),
    Alert.Severity.HIGH: timedelta(hours=4),
}
# What these tell of is over when it is told: who has seen it has closed it, and nobody is told again.
MOMENTS = frozenset(
    {"limits_changed", "order_aborted", "order_rejected", "order_not_placed", "account_event_unreadable"}
)
# A cause that is counted every few seconds does not undo its acknowledgement; one that had gone quiet does.
QUIET_SECONDS = 60
_RANK = "array_position(ARRAY['info', 'high', 'critical'], {}.severity::text)"
_AGAIN = f"""({_RANK.format("EXCLUDED")} > {_RANK.format("a")}
    OR a.acknowledged_at IS NOT NULL
       AND EXCLUDED.last_seen_at - a.last_seen_at >= {QUIET_SECONDS} * interval '1 second')"""
_RAISE = f"""
WITH raised AS (
    INSERT INTO core_alert AS a (kind, severity, subject, title, detail, dedupe_key, count, round,
                                 first_seen_at, last_seen_at, acknowledged_by)
    VALUES (%(kind)s, %(severity)s, %(subject)s, %(title)s, %(detail)s, %(dedupe_key)s, 1, 1,
            %(now)s, %(now)s, '')
    ON CONFLICT (dedupe_key) WHERE resolved_at IS NULL DO UPDATE
    SET count = a.count + 1, last_seen_at = EXCLUDED.last_seen_at, title = EXCLUDED.title,
        detail = EXCLUDED.detail, severity = EXCLUDED.severity,
        round = CASE WHEN {_AGAIN} THEN a.round + 1 ELSE a.round END,
        acknowledged_at = CASE WHEN {_AGAIN} THEN NULL ELSE a.acknowledged_at END,
        acknowledged_by = CASE WHEN {_AGAIN} THEN '' ELSE a.acknowledged_by END
    RETURNING id, round
), noticed AS (
    INSERT INTO core_alertnotice (alert_id, round, created_at, due_at, fate)
    SELECT id, round, %(now)s, %(now)s, '' FROM raised
    ON CONFLICT (alert_id, round) DO NOTHING
)
SELECT id FROM raised
"""  # noqa: S608 - constants of this module only


def raise_alert(
    *,
    kind: str,
    severity: str,
    title: str,
    now: datetime,
    detail: str = "",
    subject: str = "",
    dedupe_key: str = "",
) -> int:
    """Raise an alert, or count it on the open one with the same `dedupe_key` (default `kind:subject`)."""
    values: dict[str, str | datetime] = {
        "kind": kind,
        "severity": Alert.Severity(severity).value,
        "subject": subject,
        "title": title[:200],
        "detail": detail,
        "dedupe_key": (dedupe_key or f"{kind}:{subject}")[:160],
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(_RAISE, values)
        alert_id: int = cursor.fetchone()[0]
    announce("alert", alert_id)
    return alert_id


def resolve_alerts(*, dedupe_key: str, now: datetime) -> int:
    """Close the open alert with `dedupe_key` because its cause ended; how many were closed (0 or 1)."""
    closed = Alert.objects.filter(dedupe_key=dedupe_key, resolved_at__isnull=True).update(resolved_at=now)
    if closed:
        announce("alert", dedupe_key)
    return closed


@transaction.atomic
def acknowledge_alert(*, alert_id: int, actor: str, now: datetime) -> bool:
    """Mark the alert as seen by `actor`, and close it if it told of a moment (MOMENTS); False when it is closed
    or was acknowledged before."""
    taken = Alert.objects.filter(pk=alert_id, resolved_at__isnull=True, acknowledged_at__isnull=True).update(
        acknowledged_at=now, acknowledged_by=actor
    )
    if taken:
        Alert.objects.filter(pk=alert_id, kind__in=MOMENTS).update(resolved_at=now)
        audit.record(action="alert.acknowledged", subject=f"alert:{alert_id}", actor=actor, now=now)
        announce("alert", alert_id)
    return bool(taken)


@transaction.atomic
def lapse_acknowledgements(*, now: datetime) -> int:
    """Take back what was acknowledged too long ago while the cause lasts, and have people told again."""
    lapsed = 0
    for severity, held_for in ACKNOWLEDGED_FOR.items():
        for alert in Alert.objects.select_for_update(skip_locked=True).filter(
            severity=severity, resolved_at__isnull=True, acknowledged_at__lt=now - held_for
        ):
            Alert.objects.filter(pk=alert.pk).update(
                acknowledged_at=None, acknowledged_by="", round=F("round") + 1
            )
            AlertNotice.objects.create(alert=alert, round=alert.round + 1, created_at=now, due_at=now)
            announce("alert", alert.pk)
            lapsed += 1
    return lapsed


def lapse_info_alerts(*, now: datetime) -> int:
    """Close info alerts that nothing has renewed for a while: they told of a moment, not of a condition."""
    lapsed = Alert.objects.filter(
        severity=Alert.Severity.INFO, resolved_at__isnull=True, last_seen_at__lt=now - INFO_LAPSES_AFTER
    ).update(resolved_at=now)
    if lapsed:
        announce("alert", "lapsed")
    return lapsed
