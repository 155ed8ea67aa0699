"""Autonomy follows health: the stored level, its changes with audit and alert, the halt by itself."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from risk import selectors
from risk.contracts import AUTONOMY_NAMES, AutonomyLevel, Health, TradingState
from risk.models import Autonomy
from risk.rules import autonomy as rules
from risk.services.kills import halt
from tradingbot.core import alerts
from tradingbot.core.transitions import transition

ACTOR = "autonomy"
# After a longer pause of the watch nothing is known of the time between: what fails has failed from now on.
INTERRUPTED_AFTER = timedelta(seconds=30)


def follow_health(*, health: Health, now: datetime) -> Autonomy:
    """Bring the level to what `health` allows; HALTED halts trading as well. Run every 2 s, safe to repeat."""
    row = _follow(health, now)
    # By itself and after the commit: the halt locks the switch, under which arming locks this row.
    if row.status == AutonomyLevel.HALTED and selectors.trading_state() != TradingState.HALTED:
        halt(actor=ACTOR, reason=row.reason, now=now)
    return row


@transaction.atomic
def _follow(health: Health, now: datetime) -> Autonomy:
    Autonomy.objects.get_or_create(environment=settings.TRADING_ENVIRONMENT)
    row = Autonomy.objects.select_for_update().get(pk=settings.TRADING_ENVIRONMENT)
    ahead = row.seen_at - now if row.seen_at is not None else None
    known = ahead is not None and abs(ahead) <= INTERRUPTED_AFTER
    if ahead is not None and known and ahead > timedelta(0):
        return row  # another worker looked later; dated further ahead, the clock was set back
    before = {name: datetime.fromisoformat(at) for name, at in row.failing_since.items()} if known else {}
    results = rules.check_health(health)
    since = rules.failing_since(results, before, now)
    present, wanted = AutonomyLevel(row.status), rules.wanted_level(results, since, now)
    better_since = None
    if wanted.rank > present.rank:
        better_since = (row.better_since if known else None) or now
    looked: dict[str, Any] = {
        "wanted": wanted.value,
        "checks": [asdict(result) for result in results],
        "failing_since": {name: at.isoformat() for name, at in since.items()},
        "better_since": better_since,
        "seen_at": now,
    }
    level = rules.next_level(present, wanted, better_since, now)
    if level is present:
        Autonomy.objects.filter(pk=row.pk).update(**looked)
        row.refresh_from_db()
        return row
    reason = "; ".join(f"{r.name}: {r.observed}" for r in results if not r.passes) or "every check is green"
    _move(row, level, reason=reason, now=now, **looked | {"better_since": None})
    return row


def _move(row: Autonomy, level: AutonomyLevel, *, reason: str, now: datetime, **looked: Any) -> None:
    lowered = level.rank < AutonomyLevel(row.status).rank
    transition(row, to=level, actor=ACTOR, now=now, reason=reason, changed_at=now, **looked)
    key = f"{Autonomy.TOPIC}:{row.pk}"
    if level is AutonomyLevel.AUTO:
        alerts.resolve_alerts(dedupe_key=key, now=now)
        return
    alerts.raise_alert(
        kind=Autonomy.TOPIC,
        severity="critical" if level is AutonomyLevel.HALTED else "high",
        subject=f"{Autonomy.TOPIC}:{row.pk}",
        dedupe_key=key,
        title=f"{AUTONOMY_NAMES[level]}" + ("" if lowered else ", again more than before"),
        detail="\n".join([reason, *selectors.ways_back(row)]),
        now=now,
    )
