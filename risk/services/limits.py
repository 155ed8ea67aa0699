"""The limits: every change is a new version, checked against the ceilings, with who and why."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from risk import selectors
from risk.contracts import ControlRefused, LimitsRequestStatus
from risk.models import LimitsRequest, RiskLimits, TradingControl
from risk.rules.limits import LIMIT_NAMES, as_text, from_text, limit_errors, loosened
from tradingbot.core import alerts, audit
from tradingbot.core.announce import announce
from tradingbot.core.decimals import plain
from tradingbot.core.permissions import Deed, who_may
from tradingbot.core.transitions import transition

REASON_LENGTH_MAX = 300


@transaction.atomic
def save_limits(
    *, values: Mapping[str, Any], actor: str, reason: str, now: datetime, confirmed_by: str = ""
) -> RiskLimits:
    """Bring `values` (every limit by name) into force as the next version, at once.

    What loosens a limit needs a second person, `confirmed_by`, who is not `actor`. Raises ControlRefused with
    the fields that are wrong; nothing is changed then. Holds the switch's row, so that claims judge by the
    old limits or by the new ones, never by a mixture.
    """
    _hold_the_switch()
    before = selectors.limits_history().first()
    _check(values, reason)
    looser = selectors.looser_than_in_force(values)
    if looser and confirmed_by in ("", actor):
        raise ControlRefused(
            f"The limits were not changed: {', '.join(looser)} would be looser, which a second risk manager "
            "has to confirm.",
            dict.fromkeys(looser, "is loosened: a second risk manager has to confirm"),
        )
    row = RiskLimits.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        version=before.version + 1 if before else 1,
        created_at=now,
        created_by=actor,
        reason=reason.strip()[:REASON_LENGTH_MAX],
        **{name: values[name] for name in LIMIT_NAMES} | {"allowed_symbols": list(values["allowed_symbols"])},
    )
    _record(before, row, now, confirmed_by)
    announce("limits", row.version)
    return row


@transaction.atomic
def request_limits(*, values: Mapping[str, Any], actor: str, reason: str, now: datetime) -> LimitsRequest:
    """Ask for looser limits: checked like those that come into force, then left to a second risk manager.

    Raises ControlRefused with the fields that are wrong.
    """
    _check(values, reason)
    base = selectors.current_limits()
    wanted = selectors.limits_of_values(values, version=base.version)
    looser, old = loosened(base, wanted), asdict(base)
    changes = [
        {"name": name, "before": _text(old[name]), "after": _text(value), "looser": name in looser}
        for name, value in asdict(wanted).items()
        if old[name] != value
    ]
    row = LimitsRequest.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        base_version=base.version,
        values=as_text({name: values[name] for name in LIMIT_NAMES}),
        changes=changes,
        requested_at=now,
        requested_by=actor,
        reason=reason.strip()[:REASON_LENGTH_MAX],
    )
    audit.record(
        action="limits_request.waiting",
        subject=f"{LimitsRequest.TOPIC}:{row.pk}",
        actor=actor,
        now=now,
        base_version=base.version,
        changes=changes,
        reason=row.reason,
    )
    alerts.raise_alert(
        kind="limits_request",
        severity="info",
        subject=f"{LimitsRequest.TOPIC}:{row.pk}",
        title=f"{actor} asks for looser limits: a second risk manager has to confirm",
        detail="\n".join([row.reason, *(f"{c['name']}: {c['before']} -> {c['after']}" for c in changes)]),
        now=now,
    )
    return row


@transaction.atomic
def answer_request(*, request_id: int, confirm: bool, actor: str, now: datetime) -> LimitsRequest:
    """Confirm or decline a request for looser limits; confirmed, it is in force at once.

    Raises ControlRefused: answered before, confirmed by the one who asked, asked by somebody who lost the role,
    or written against limits that are no longer in force. Who asked may withdraw it by declining.
    """
    _hold_the_switch()
    row = LimitsRequest.objects.select_for_update().get(
        pk=request_id, environment=settings.TRADING_ENVIRONMENT
    )
    if row.status != LimitsRequestStatus.WAITING:
        raise ControlRefused(
            f"The request was {row.status} by {row.answered_by} before. Nothing was changed."
        )
    if confirm and actor == row.requested_by:
        raise ControlRefused("You asked for it yourself: another risk manager has to confirm.")
    if confirm and not who_may([row.requested_by], Deed.SET_LIMITS):
        raise ControlRefused(
            f"It was asked for by {row.requested_by}, who may not set limits any more. Ask for it yourself: "
            "then another risk manager confirms it."
        )
    if confirm and selectors.current_limits().version != row.base_version:
        raise ControlRefused(
            f"The limits changed since: it was written against version {row.base_version}. Ask again."
        )
    if confirm:
        save_limits(
            values=from_text(row.values),
            actor=row.requested_by,
            confirmed_by=actor,
            reason=row.reason,
            now=now,
        )
    transition(
        row,
        to=LimitsRequestStatus.CONFIRMED if confirm else LimitsRequestStatus.DECLINED,
        actor=actor,
        now=now,
        answered_at=now,
        answered_by=actor,
    )
    alerts.resolve_alerts(dedupe_key=f"limits_request:{LimitsRequest.TOPIC}:{row.pk}", now=now)
    return row


def _hold_the_switch() -> None:
    list(TradingControl.objects.select_for_update().filter(pk=settings.TRADING_ENVIRONMENT))


def _check(values: Mapping[str, Any], reason: str) -> None:
    errors = limit_errors(values, settings.RISK_CEILINGS)
    if not reason.strip():
        errors["reason"] = "say why the limits are changed"
    if errors:
        named = "; ".join(f"{name} {problem}" for name, problem in errors.items())
        raise ControlRefused(f"The limits were not changed: {named}.", errors)


def _record(before: RiskLimits | None, row: RiskLimits, now: datetime, confirmed_by: str) -> None:
    after_limits = selectors.limits_of(row)
    before_limits = selectors.limits_of(before) if before else None
    old = asdict(before_limits) if before_limits else {}
    changed = {n: v for n, v in asdict(after_limits).items() if old.get(n) != v and n != "version"}
    looser = loosened(before_limits, after_limits) if before_limits else ()
    audit.record(
        action="limits.changed",
        subject=f"limits:{row.environment}",
        actor=row.created_by,
        now=now,
        before={name: old.get(name) for name in changed},
        after=changed,
        version=row.version,
        loosened=looser,
        confirmed_by=confirmed_by,
        reason=row.reason,
    )
    who = f"{row.created_by}, confirmed by {confirmed_by}" if confirmed_by else row.created_by
    words = [f"{name}: {_text(old.get(name))} -> {_text(value)}" for name, value in changed.items()]
    subject = f"limits:{row.environment}"
    alerts.raise_alert(
        kind="limits_changed",
        severity="high" if looser else "info",
        subject=subject,
        title=f"limits changed: version {row.version} by {who}" + (", loosened" if looser else ""),
        detail="\n".join([row.reason, *words]),
        # Each loosening is told by itself: a later change must neither be counted on it nor cover it up.
        dedupe_key=f"limits_changed:{subject}:{row.version}" if looser else "",
        now=now,
    )


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(value)
    return plain(value) if hasattr(value, "quantize") else str(value)
