"""The switch: HALTED, REDUCING, ACTIVE. Arming needs a reason and a passed stage; halting: `kills`."""

from datetime import datetime

from django.conf import settings
from django.db import transaction

from risk import selectors
from risk.contracts import AutonomyLevel, ControlRefused, TradingState
from risk.models import Autonomy, TradingControl
from tradingbot.core import alerts
from tradingbot.core.transitions import transition

REASON_LENGTH_MAX = 300
_WORDS = {
    TradingState.HALTED: "Trading is halted: nothing is ordered",
    TradingState.REDUCING: "Trading is reducing: only exits are ordered",
    TradingState.ACTIVE: "Trading is armed: approved proposals are ordered",
}


@transaction.atomic
def set_trading_state(
    *, state: TradingState, actor: str, reason: str, now: datetime, version: int | None = None
) -> TradingControl:
    """Move the switch of this environment, with audit row and alert.

    `version` is the one that the person saw; another one on record refuses. Raises ControlRefused when the
    reason is missing, the stage is not passed, a check of the parts' health asks for HALTED, or the switch
    stands there already.
    """
    row = locked_control()
    if version is not None and version != row.version:
        raise ControlRefused(
            f"The trading control was set to {row.status} by {row.changed_by or 'somebody'} meanwhile. "
            "Look at it again before you change it."
        )
    if row.status == state:
        raise ControlRefused(f"The trading control is {state} already.", {"status": "is so already"})
    if state is not TradingState.HALTED:
        _check_arming(reason)
        _leave_halted(actor, now)
    move(row, state, actor=actor, reason=reason, now=now)
    return row


def locked_control() -> TradingControl:
    """The switch's row, locked: a change of it and a claim on a proposal exclude each other."""
    row = TradingControl.objects.select_for_update().filter(pk=settings.TRADING_ENVIRONMENT).first()
    if row is None:
        raise ControlRefused(
            f"There is no trading control on record for {settings.TRADING_ENVIRONMENT}. Run the migrations."
        )
    return row


def forbids_sending(*, claimed_under: int, leaving: bool) -> str:
    """Why an order claimed under version `claimed_under` of the switch may not leave any more; empty: it may.

    Locks the switch's row until the caller's transaction ends: a halt committed before it is obeyed, a later
    one finds the order sent. An exit (`leaving`) goes on unless trading is halted.
    """
    row = TradingControl.objects.select_for_update().filter(pk=settings.TRADING_ENVIRONMENT).first()
    if row is None:
        return "the trading control cannot be read"
    if row.version == claimed_under or (
        leaving and row.status in (TradingState.REDUCING, TradingState.ACTIVE)
    ):
        return ""
    return f"the trading control was set to {row.status} after the claim and before it was sent"


def _check_arming(reason: str) -> None:
    if not reason.strip():
        raise ControlRefused("Arming needs a reason.", {"reason": "say why trading is armed"})
    if not selectors.stage_allows():
        raise ControlRefused(
            f"{settings.TRADING_ENVIRONMENT} cannot be armed: no passed stage gate is on record.",
            {"status": "no passed stage gate is on record"},
        )


def move(row: TradingControl, state: TradingState, *, actor: str, reason: str, now: datetime) -> None:
    """Move the locked switch, with audit row and alert; the caller has checked that it may."""
    reason = reason.strip()[:REASON_LENGTH_MAX] or "no reason given"
    transition(row, to=state, actor=actor, now=now, reason=reason, changed_at=now, changed_by=actor)
    alerts.raise_alert(
        kind="trading_control",
        severity="high" if state is TradingState.HALTED else "info",
        subject=f"control:{row.pk}",
        title=_WORDS[state],
        detail=f"{actor}: {reason}",
        now=now,
    )


def _leave_halted(actor: str, now: datetime) -> None:
    """The level of autonomy goes from HALTED to EXITS, since a person arms; refused while a check asks for HALTED."""
    row = Autonomy.objects.select_for_update().filter(pk=settings.TRADING_ENVIRONMENT).first()
    if row is None or row.status != AutonomyLevel.HALTED:
        return
    if row.wanted == AutonomyLevel.HALTED:
        raise ControlRefused(
            f"Trading cannot be armed: {row.reason}. {' '.join(selectors.ways_back(row))}",
            {"status": "a check of the health still asks for HALTED"},
        )
    transition(
        row, to=AutonomyLevel.EXITS, actor=actor, now=now, reason="a person arms again", changed_at=now
    )
