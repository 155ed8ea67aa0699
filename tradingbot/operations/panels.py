"""Panels that span the apps: badges, alerts, the speed from proposal to execution."""

from itertools import groupby
from math import ceil
from typing import Any

from django.conf import settings
from django.db.models import Case, F, IntegerField, Q, Value, When

from execution.models import Order
from proposals.contracts import ProposalStatus
from proposals.models import Proposal
from tradingbot.core import clock, silences
from tradingbot.core.models import Alert, AlertChannel, AlertNotice
from tradingbot.core.panels import UnknownPanel, panel
from tradingbot.core.permissions import Deed, may
from tradingbot.operations.forms import SILENCE_HOURS

ALERTS_SHOWN = 50
ALERTS_ON_OVERVIEW = 5
RECEIPTS_SHOWN = 3
SLO_SAMPLE_MAX = 500
SLO_PROPOSAL_TO_EXECUTION_MS = 5000

_BY_SEVERITY = Case(
    When(severity=Alert.Severity.CRITICAL, then=Value(0)),
    When(severity=Alert.Severity.HIGH, then=Value(1)),
    default=Value(2),
    output_field=IntegerField(),
)


@panel("badge", template="operations/badge.html", topics={"proposal", "alert"})
def badge(user: Any, argument: str) -> dict[str, Any]:
    """How many wait: `badge:pending` proposals, `badge:alerts` not yet acknowledged."""
    if argument == "pending":
        waiting = Proposal.objects.filter(
            environment=settings.TRADING_ENVIRONMENT, status=ProposalStatus.PENDING_APPROVAL
        )
        return {"count": waiting.count(), "what": "waiting for a decision"}
    if argument == "alerts":
        return {"count": _unseen().count(), "what": "not acknowledged"}
    raise UnknownPanel(f"there is no badge {argument!r:.20}")


def _unseen() -> Any:
    return Alert.objects.filter(resolved_at=None, acknowledged_at=None).exclude(severity=Alert.Severity.INFO)


@panel("alerts", template="operations/alert_list.html", topics={"alert"})
def open_alerts(user: Any, argument: str) -> dict[str, Any]:
    """Open alerts, critical first, the not acknowledged before the others."""
    rows = Alert.objects.filter(resolved_at=None).order_by(
        _BY_SEVERITY, F("acknowledged_at").asc(nulls_first=True), "-last_seen_at"
    )
    found = list(rows[: ALERTS_SHOWN + 1])
    running = silences.running_silences(clock.now())
    shown: list[dict[str, Any]] = [
        {
            "alert": alert,
            "silenced_until": silences.silenced_until(alert, running),
            "may_be_silenced": silences.may_be_silenced(alert.kind, alert.severity),
        }
        for alert in found[:ALERTS_SHOWN]
    ]
    groups = [(name, list(of_it)) for name, of_it in groupby(shown, key=lambda row: row["alert"].severity)]
    return {
        "groups": groups,
        "more": len(found) > ALERTS_SHOWN,
        "shown": ALERTS_SHOWN,
        "may_acknowledge": may(user, Deed.ACKNOWLEDGE),
        "may_silence": may(user, Deed.SILENCE),
        "hours": SILENCE_HOURS,
    }


@panel("alerts.channels", template="operations/alert_channels.html", topics={"alert_delivery", "alert"})
def alert_channels(user: Any, argument: str) -> dict[str, Any]:
    """Who is told, with the last receipts of each; addresses are not shown to anybody."""
    rows = [
        {
            "channel": channel,
            "receipts": channel.deliveries.select_related("notice__alert").order_by("-pk")[:RECEIPTS_SHOWN],
            "is_own": bool(channel.owner) and channel.owner == user.get_username(),
        }
        for channel in AlertChannel.objects.order_by("is_backup", "name")
    ]
    return {
        "rows": rows,
        "may_test": may(user, Deed.TEST_CHANNEL),
        "may_set": may(user, Deed.SET_CHANNELS) and user.is_staff,
        "waiting": AlertNotice.objects.filter(planned_at=None).exclude(fate="silenced").count(),
        "escalates_after_minutes": settings.ALERT_ESCALATE_AFTER_SECONDS // 60,
    }


@panel("alerts.silences", template="operations/alert_silences.html", topics={"alert"})
def alert_silences(user: Any, argument: str) -> dict[str, Any]:
    """The silences in force."""
    return {"rows": silences.running_silences(clock.now()), "may_silence": may(user, Deed.SILENCE)}


@panel("alerts.closed", template="operations/alerts_closed.html", topics={"alert"})
def closed_alerts(user: Any, argument: str) -> dict[str, Any]:
    """Those whose cause ended, the last first."""
    return {"rows": Alert.objects.filter(resolved_at__isnull=False).order_by("-resolved_at")[:25]}


@panel("alerts.open", template="operations/alerts_short.html", topics={"alert"})
def short_alerts(user: Any, argument: str) -> dict[str, Any]:
    """The first of the open alerts, for the overview."""
    rows = Alert.objects.filter(resolved_at=None).order_by(_BY_SEVERITY, "-last_seen_at")
    return {"rows": rows[:ALERTS_ON_OVERVIEW], "count": rows.count()}


@panel("slo", template="operations/slo.html", topics={"order"})
def proposal_to_execution(user: Any, argument: str) -> dict[str, Any]:
    """`proposal_to_execution_p95` of automatically approved proposals, from stored timestamps.

    From the proposal's row to the exchange's acknowledgement, over the last SLO_SAMPLE_MAX orders.
    """
    rows = (
        Order.objects.filter(
            Q(acknowledged_at__isnull=False),
            environment=settings.TRADING_ENVIRONMENT,
            role="order",
            intent__proposal__status=ProposalStatus.AUTO_APPROVED,
        )
        .order_by("-created_at")
        .values_list("intent__proposal__created_at", "acknowledged_at")[:SLO_SAMPLE_MAX]
    )
    took = sorted((end - start).total_seconds() * 1000 for start, end in rows if end)
    return {
        "n": len(took),
        "p50_ms": percentile(took, 50),
        "p95_ms": percentile(took, 95),
        "limit_ms": SLO_PROPOSAL_TO_EXECUTION_MS,
        "met": bool(took) and (percentile(took, 95) or 0) < SLO_PROPOSAL_TO_EXECUTION_MS,
    }


def percentile(ascending: list[float], percent: int) -> float | None:
    """The nearest-rank percentile of sorted values; None when there are none."""
    return ascending[ceil(len(ascending) * percent / 100) - 1] if ascending else None
