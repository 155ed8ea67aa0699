"""The limits: every change is a new version, checked against the ceilings, with who and why."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from risk import selectors
from risk.contracts import ControlRefused
from risk.models import RiskLimits, TradingControl
from risk.rules.limits import LIMIT_NAMES, limit_errors, loosened
from tradingbot.core import alerts, audit
from tradingbot.core.announce import announce
from tradingbot.core.decimals import plain

REASON_LENGTH_MAX = 300


@transaction.atomic
def save_limits(*, values: Mapping[str, Any], actor: str, reason: str, now: datetime) -> RiskLimits:
    """Bring `values` (every limit by name) into force as the next version, at once.

    Raises ControlRefused with the fields that are wrong; nothing is changed then. Holds the switch's row, so
    that claims judge by the old limits or by the new ones, never by a mixture.
    """
    list(TradingControl.objects.select_for_update().filter(pk=settings.TRADING_ENVIRONMENT))
    before = selectors.limits_history().first()
    errors = limit_errors(values, settings.RISK_CEILINGS)
    if not reason.strip():
        errors["reason"] = "say why the limits are changed"
    if errors:
        named = "; ".join(f"{name} {problem}" for name, problem in errors.items())
        raise ControlRefused(f"The limits were not changed: {named}.", errors)
    row = RiskLimits.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        version=before.version + 1 if before else 1,
        created_at=now,
        created_by=actor,
        reason=reason.strip()[:REASON_LENGTH_MAX],
        **{name: values[name] for name in LIMIT_NAMES} | {"allowed_symbols": list(values["allowed_symbols"])},
    )
    _record(before, row, now)
    announce("limits", row.version)
    return row


def _record(before: RiskLimits | None, row: RiskLimits, now: datetime) -> None:
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
        reason=row.reason,
    )
    words = [f"{name}: {_text(old.get(name))} -> {_text(value)}" for name, value in changed.items()]
    alerts.raise_alert(
        kind="limits_changed",
        severity="info",
        subject=f"limits:{row.environment}",
        title=f"limits changed: version {row.version} by {row.created_by}" + (", loosened" if looser else ""),
        detail="\n".join([row.reason, *words]),
        now=now,
    )


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(value)
    return plain(value) if hasattr(value, "quantize") else str(value)
