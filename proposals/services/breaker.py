"""The advisor's circuit breaker: one row shared by all workers, never locked while the model is asked.

closed --FAILURES_TO_OPEN in a row--> open --cool-down over--> half_open: exactly one probe, under a lease
half_open --probe answered--> closed;  --probe failed--> open, twice as long;  --lease over--> next probe
open, half_open --no strategy asks that model any more--> closed
"""

import uuid
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from proposals import rules
from proposals.contracts import AdvisorUnavailable
from proposals.models import AdvisorBreaker, Strategy
from proposals.selectors import budgets
from tradingbot.core import alerts, audit
from tradingbot.core.announce import announce

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
ACTOR = "advisor"
IDLE_AFTER = timedelta(hours=1)  # one that is asked for is probed long before


def name_of(*, model: str, shadow: bool) -> str:
    """The breaker of `model` at the server of the settings."""
    host = urlsplit(settings.OPENAI_BASE_URL).netloc.rpartition("@")[2]
    return rules.breaker_name(model=model, host=host, shadow=shadow)


def enter_breaker(
    *, name: str, lease_seconds: float, now: datetime, shadow: bool = False
) -> uuid.UUID | None:
    """Ask leave to call the model; the token of the one probe, or None for an ordinary call.

    Raises AdvisorUnavailable (BREAKER_OPEN) while open or while another worker's probe is under way.
    """
    AdvisorBreaker.objects.get_or_create(name=name, defaults={"changed_at": now, "shadow": shadow})
    with transaction.atomic():
        row = AdvisorBreaker.objects.select_for_update().get(pk=name)
        if row.state == CLOSED:
            return None
        if row.open_until is not None and now < row.open_until:
            raise AdvisorUnavailable(
                "BREAKER_OPEN", f"the advisor failed repeatedly; next try at {row.open_until:%H:%M:%S} UTC"
            )
        if row.probe_until is not None and now < row.probe_until:
            raise AdvisorUnavailable("BREAKER_OPEN", "the advisor failed repeatedly; one probe is under way")
        row.probe_token, row.probe_until = uuid.uuid4(), now + timedelta(seconds=lease_seconds)
        _change(row, HALF_OPEN, now)
        return row.probe_token


def report_answer(*, name: str, token: uuid.UUID | None, now: datetime) -> None:
    """The call got an answer. A late report of a call from before the opening changes nothing."""
    with transaction.atomic():
        row = AdvisorBreaker.objects.select_for_update().get(pk=name)
        if row.state == CLOSED:
            if row.failures:
                row.failures = 0
                row.save(update_fields=["failures"])
        elif token is not None and token == row.probe_token:
            _close(row, now, reason="the probe was answered")
            alerts.raise_alert(
                kind="advisor_breaker_closed",
                severity="info",
                subject=f"advisor_breaker:{name}",
                title=f"The advisor {name} answers again",
                now=now,
            )


def report_failure(*, name: str, token: uuid.UUID | None, reason: str, now: datetime) -> None:
    """The call got no answer: count it, and open the breaker when it is one too many or was the probe."""
    with transaction.atomic():
        row = AdvisorBreaker.objects.select_for_update().get(pk=name)
        if row.state == CLOSED:
            row.failures += 1
            if row.failures < rules.FAILURES_TO_OPEN:
                row.save(update_fields=["failures"])
                return
        elif token is None or token != row.probe_token:
            return
        _open(row, reason, now)


@transaction.atomic
def close_unasked(*, now: datetime) -> int:
    """Close the breakers of models that no strategy asks any more, for nobody will probe them; how many.

    Their alerts would stay open, and be told anew, for ever.
    """
    asked = [
        name_of(model=budgets.model_of(strategy), shadow=strategy.shadow)
        for strategy in Strategy.objects.filter(enabled=True)
    ]
    rows = list(
        AdvisorBreaker.objects.select_for_update(skip_locked=True)
        .filter(changed_at__lt=now - IDLE_AFTER)
        .exclude(state=CLOSED)
        .exclude(name__in=asked)
    )
    for row in rows:
        _close(row, now, reason="no strategy asks this model any more")
    return len(rows)


def _close(row: AdvisorBreaker, now: datetime, *, reason: str) -> None:
    row.failures = row.trips = 0
    row.open_until = row.probe_token = row.probe_until = None
    _change(row, CLOSED, now)
    audit.record(
        action="advisor_breaker.closed",
        subject=f"advisor_breaker:{row.name}",
        actor=ACTOR,
        now=now,
        reason=reason,
    )
    alerts.resolve_alerts(dedupe_key=_alert_key(row.name), now=now)


def _open(row: AdvisorBreaker, reason: str, now: datetime) -> None:
    row.trips += 1
    row.open_until = now + timedelta(seconds=rules.cool_down_seconds(row.trips))
    row.probe_token = row.probe_until = None
    _change(row, OPEN, now)
    audit.record(
        action="advisor_breaker.opened",
        subject=f"advisor_breaker:{row.name}",
        actor=ACTOR,
        now=now,
        reason=reason,
        trips=row.trips,
        open_until=row.open_until,
    )
    alerts.raise_alert(
        kind="advisor_breaker",
        severity="info" if row.shadow else "high",
        subject=f"advisor_breaker:{row.name}",
        dedupe_key=_alert_key(row.name),
        title=f"The advisor {row.name} does not answer: "
        + ("shadows are not asked" if row.shadow else "no trades are proposed"),
        detail=f"{reason}. Next try at {row.open_until:%H:%M:%S} UTC.",
        now=now,
    )


def _change(row: AdvisorBreaker, state: str, now: datetime) -> None:
    row.state, row.changed_at = state, now
    row.save()
    announce("advisor", row.name, event=state)


def _alert_key(name: str) -> str:
    return f"advisor_breaker:{name}"
