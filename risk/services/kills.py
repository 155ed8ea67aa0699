"""The kill: the switch first and committed by itself, then whatever its scope asks for, by the trading worker.

Nothing that comes after the switch can undo or delay it: cancels and sales are carried out by tasks
(`execution.services.killing`), which find the row of the kill by themselves.
"""

from contextlib import suppress
from datetime import datetime

from django.conf import settings
from django.db import transaction

from proposals import services as proposals_services
from risk import selectors
from risk.contracts import ControlRefused, KillScope, KillStatus, TradingState
from risk.models import Kill, TradingControl
from risk.services.control import REASON_LENGTH_MAX, locked_control, move
from tradingbot.core import alerts, audit, clock
from tradingbot.core.announce import announce
from tradingbot.core.decimals import plain
from tradingbot.core.transitions import StaleState, transition


@transaction.atomic
def halt(
    *, actor: str, reason: str, now: datetime, scope: KillScope = KillScope.STOP_ENTRIES
) -> TradingControl:
    """Stop all ordering, whatever the present state; then go as far as `scope` says.

    The switch goes to HALTED, for FLATTEN to REDUCING until everything is sold. Halted twice is halted. The
    switch is committed by itself and first: what waits is cancelled after the commit, so that no lock on a
    proposal can hold the halt up, and a repeated halt repeats it. `now` is when the request came in. Raises
    ControlRefused for FLATTEN while HALTED: selling then needs somebody who may arm.
    """
    row = locked_control()
    target = TradingState.HALTED
    if scope is KillScope.FLATTEN:
        target = TradingState.REDUCING
        if row.status == TradingState.HALTED:
            raise ControlRefused(
                "Trading is halted: nothing is sold. Somebody who may arm sets it to REDUCING first.",
                {"status": "is HALTED, in which nothing is sold"},
            )
    if row.status != target:
        move(row, target, actor=actor, reason=reason, now=now)
    kill = Kill.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        scope=scope,
        actor=actor,
        reason=reason.strip()[:REASON_LENGTH_MAX],
        control_version=row.version,
        asked_at=now,
    )
    audit.record(
        action=f"{Kill.TOPIC}.{KillStatus.UNDER_WAY}",
        subject=f"{Kill.TOPIC}:{kill.pk}",
        actor=actor,
        now=now,
        scope=scope.value,
        control_version=row.version,
        reason=kill.reason,
    )
    announce(Kill.TOPIC, kill.pk, event=KillStatus.UNDER_WAY)
    # Each by itself: none waits for the success of another.
    transaction.on_commit(lambda: _stamp(kill), robust=True)
    transaction.on_commit(lambda: _count(kill), robust=True)
    transaction.on_commit(lambda: _end_at_once(kill), robust=True)
    return row


def _stamp(kill: Kill) -> None:
    """When the switch was committed, by the clock: the measured time to effect."""
    kill.switched_at = clock.now()
    Kill.objects.filter(pk=kill.pk).update(switched_at=kill.switched_at)


def _count(kill: Kill) -> None:
    """What it found, kept for the record; the worker does not go by it."""
    found = selectors.kill_preview(clock.now())
    worth = found.positions_quote
    kill.touched = {
        "waiting": found.waiting,
        "entries": len(found.entries),
        "entries_quote": plain(found.entries_quote),
        "positions": len(found.positions),
        "positions_quote": None if worth is None else plain(worth),
    }
    Kill.objects.filter(pk=kill.pk).update(touched=kill.touched)


def end_what_waits(kill: Kill) -> int:
    """End every proposal that waits for approval or for its order; how many. Safe to repeat."""
    reason, total = f"trading halted: {kill.reason or 'no reason given'}", 0
    while ended := proposals_services.cancel_pending(actor=kill.actor, reason=reason, now=kill.asked_at):
        total += ended
    return total


def _end_at_once(kill: Kill) -> None:
    """What waits, and a kill that asks for no more. What fails here is left under way for the worker's sweep."""
    end_what_waits(kill)
    if kill.scope != KillScope.STOP_ENTRIES:
        return
    with suppress(StaleState):  # a trading worker, which found the committed row, was faster
        end_kill(
            kill=kill,
            status=KillStatus.DONE,
            detail="Nothing new is ordered; what waited was ended.",
            now=kill.switched_at or clock.now(),
        )


@transaction.atomic
def end_kill(*, kill: Kill, status: KillStatus, detail: str, now: datetime) -> None:
    """Close a kill that has taken effect or cannot; INCOMPLETE raises an alert. Raises StaleState."""
    transition(
        kill,
        to=status,
        actor=kill.actor,
        now=now,
        payload={"detail": detail},
        detail=detail[:600],
        effective_at=now if status is KillStatus.DONE else None,
    )
    if status is KillStatus.INCOMPLETE:
        alerts.raise_alert(
            kind="kill_incomplete",
            severity="critical",
            subject=f"{Kill.TOPIC}:{kill.pk}",
            title="A kill could not do all of what it was asked for",
            detail=detail,
            now=now,
        )


@transaction.atomic
def end_flatten(*, kill: Kill, detail: str, now: datetime) -> None:
    """Everything is sold: from REDUCING to HALTED, and the kill is done."""
    row = locked_control()
    if row.status == TradingState.REDUCING:
        move(row, TradingState.HALTED, actor=kill.actor, reason="flattened: nothing is held", now=now)
    end_kill(kill=kill, status=KillStatus.DONE, detail=detail, now=now)
