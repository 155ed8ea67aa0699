"""Silences of alerts: each has an end, names what it covers, and never covers what must be heard."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.models import Alert, AlertNotice, AlertSilence

SILENCE_MAX = timedelta(days=7)
# The switch was thrown, limits were loosened, or money stands without protection: nobody may choose not to be told.
NEVER_SILENCED = frozenset(
    {"trading_control", "limits_changed", "position_unprotected", "protection_failed", "stop_run_over"}
)
_KILL = "kill"
_AUTONOMY = "autonomy"  # critical: the desk halted itself; below it a lowered level, which may be silenced


class SilenceRefused(Exception):
    """The silence cannot be; the text says why and what may be done."""


def may_be_silenced(kind: str, severity: str) -> bool:
    """Whether alerts of `kind` and `severity` (empty: of every severity) can be silenced at all."""
    if kind == _AUTONOMY:
        return severity not in ("", Alert.Severity.CRITICAL)
    return kind not in NEVER_SILENCED and not kind.startswith(_KILL)


@transaction.atomic
def add_silence(
    *,
    kind: str,
    lasts: timedelta,
    reason: str,
    actor: str,
    now: datetime,
    severity: str = "",
    subject: str = "",
) -> AlertSilence:
    """Tell nobody of matching alerts for the time `lasts`. Empty words match all; kind or subject must be given.

    Raises SilenceRefused: no reason, no kind or subject, no end within a week, or a kind that must be heard.
    """
    if not reason.strip():
        raise SilenceRefused("Say why it is silenced: the reason is kept in the audit log.")
    if not (kind or subject):
        raise SilenceRefused("Name the kind or the subject: nothing silences all alerts.")
    if not timedelta(0) < lasts <= SILENCE_MAX:
        raise SilenceRefused(f"A silence ends after at most {SILENCE_MAX.days} days.")
    if kind and not may_be_silenced(kind, severity):
        raise SilenceRefused(f"Alerts of the kind {kind.replace('_', ' ')} are always told.")
    if severity and severity not in Alert.Severity.values:
        raise SilenceRefused(f"There is no severity {severity!r:.20}.")
    row = AlertSilence.objects.create(
        kind=kind,
        severity=severity,
        subject=subject,
        starts_at=now,
        ends_at=now + lasts,
        reason=reason.strip()[:200],
        created_by=actor,
    )
    audit.record(
        action="alert_silence.added",
        subject=f"alert_silence:{row.pk}",
        actor=actor,
        now=now,
        kind=kind,
        severity=severity,
        alerts_of=subject,
        ends_at=row.ends_at,
        reason=row.reason,
    )
    announce("alert", f"silence-{row.pk}")
    return row


@transaction.atomic
def end_silence(*, silence_id: int, actor: str, now: datetime) -> bool:
    """End a silence now; False when it has ended before."""
    row = AlertSilence.objects.select_for_update().filter(pk=silence_id, ends_at__gt=now).first()
    if row is None:
        return False
    before, row.ends_at = row.ends_at, max(now, row.starts_at)
    row.save(update_fields=["ends_at"])
    # What it held back was put off to its end: looked at again now, and put off anew where another one covers it.
    AlertNotice.objects.filter(planned_at=None, fate="silenced").update(due_at=now)
    audit.record(
        action="alert_silence.ended",
        subject=f"alert_silence:{row.pk}",
        actor=actor,
        now=now,
        would_have_ended_at=before,
    )
    announce("alert", f"silence-{row.pk}")
    return True


def running_silences(now: datetime) -> list[AlertSilence]:
    """The silences in force, the first to end first."""
    return list(_running(now))


def hold_running_silences(now: datetime) -> list[AlertSilence]:
    """Like `running_silences`, and nobody ends one before the caller's transaction, which goes by them, has ended."""
    return list(_running(now).select_for_update())


def _running(now: datetime) -> QuerySet[AlertSilence]:
    return AlertSilence.objects.filter(starts_at__lte=now, ends_at__gt=now).order_by("ends_at", "pk")


def silenced_until(alert: Alert, silences: Iterable[AlertSilence]) -> datetime | None:
    """When the last of `silences` that covers `alert` ends; None when none does."""
    if not may_be_silenced(alert.kind, alert.severity):
        return None
    ends = [silence.ends_at for silence in silences if _covers(silence, alert)]
    return max(ends, default=None)


def _covers(silence: AlertSilence, alert: Alert) -> bool:
    return all(
        wanted in ("", seen)
        for wanted, seen in (
            (silence.kind, alert.kind),
            (silence.severity, alert.severity),
            (silence.subject, alert.subject),
        )
    )
