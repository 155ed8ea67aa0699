"""Watching the parts: an alert for each thing wrong, closed by itself when it ends."""

from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction

from tradingbot.core import alerts, anchors, heartbeats
from tradingbot.core.models import Alert, Heartbeat
from tradingbot.operations import selectors

WATCH = "health_watch"
ANCHOR_FAILED = "audit_anchor_failed"
# A watch that was interrupted gives the parts this long to show themselves before it complains.
GRACE_SECONDS = 20
INTERRUPTED_AFTER_SECONDS = 20


@transaction.atomic
def watch_health(*, now: datetime) -> None:
    """Raise an alert for each problem that has none, close those whose problem ended. Run every 2 s."""
    alerts.lapse_info_alerts(now=now)
    settled = now - _watching_since(now) >= timedelta(seconds=GRACE_SECONDS)
    found = selectors.problems(now)
    known = selectors.open_watched_alerts()
    for key in known - found.keys():
        alerts.resolve_alerts(dedupe_key=key, now=now)
    if not settled:
        return
    for key in found.keys() - known:
        problem = found[key]
        alerts.raise_alert(
            kind=problem.kind,
            severity=problem.severity,
            subject=problem.subject,
            title=problem.title,
            detail=problem.detail,
            dedupe_key=key,
            now=now,
        )


def anchor_audit(*, now: datetime) -> None:
    """Write today's anchor of the audit chain, if it is not there yet; a folder that refuses it is an alert."""
    try:
        anchors.write_anchor(folder=Path(settings.AUDIT_ANCHORS_DIR), now=now)
    except OSError as error:
        alerts.raise_alert(
            kind=ANCHOR_FAILED,
            severity=Alert.Severity.HIGH,
            title="The audit chain could not be anchored today",
            detail=f"{settings.AUDIT_ANCHORS_DIR}: {error.strerror}. Make the folder writable; it is tried again.",
            now=now,
        )
        return
    alerts.resolve_alerts(dedupe_key=f"{ANCHOR_FAILED}:", now=now)


def _watching_since(now: datetime) -> datetime:
    """Since when the watch has run without a gap; its own heartbeat remembers it."""
    last = Heartbeat.objects.filter(part=WATCH).first()
    since = now
    if last is not None and now - last.beat_at <= timedelta(seconds=INTERRUPTED_AFTER_SECONDS):
        since = datetime.fromisoformat(last.detail["since"])
    heartbeats.beat(WATCH, now=now, since=since.isoformat())
    return since
