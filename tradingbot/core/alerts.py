"""Raising and closing alerts. Delivery is operations' work and never sits in the trading path."""

from datetime import datetime, timedelta

from django.db import connection

from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.models import Alert

INFO_LAPSES_AFTER = timedelta(minutes=30)
_RAISE = """
INSERT INTO core_alert AS a (kind, severity, subject, title, detail, dedupe_key, count,
                             first_seen_at, last_seen_at, acknowledged_by)
VALUES (%(kind)s, %(severity)s, %(subject)s, %(title)s, %(detail)s, %(dedupe_key)s, 1, %(now)s, %(now)s, '')
ON CONFLICT (dedupe_key) WHERE resolved_at IS NULL DO UPDATE
SET count = a.count + 1, last_seen_at = EXCLUDED.last_seen_at, title = EXCLUDED.title,
    detail = EXCLUDED.detail, severity = EXCLUDED.severity
RETURNING id
"""


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


def acknowledge_alert(*, alert_id: int, actor: str, now: datetime) -> bool:
    """Mark the alert as seen by `actor`; False when it is closed or was acknowledged before."""
    taken = Alert.objects.filter(pk=alert_id, resolved_at__isnull=True, acknowledged_at__isnull=True).update(
        acknowledged_at=now, acknowledged_by=actor
    )
    if taken:
        audit.record(action="alert.acknowledged", subject=f"alert:{alert_id}", actor=actor, now=now)
        announce("alert", alert_id)
    return bool(taken)


def lapse_info_alerts(*, now: datetime) -> int:
    """Close info alerts that nothing has renewed for a while: they told of a moment, not of a condition."""
    lapsed = Alert.objects.filter(
        severity=Alert.Severity.INFO, resolved_at__isnull=True, last_seen_at__lt=now - INFO_LAPSES_AFTER
    ).update(resolved_at=now)
    if lapsed:
        announce("alert", "lapsed")
    return lapsed
