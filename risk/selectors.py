"""What others may read of risk: limits in force and their history, the switch, whether trading is armed."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils.module_loading import import_string

from market import selectors as market_selectors
from risk.contracts import (
    AUTONOMY_NAMES,
    AUTONOMY_SEEN_WITHIN,
    AutonomyLevel,
    KillPreview,
    KillStatus,
    Limits,
    LimitsMissing,
    SeenAutonomy,
    TradingState,
)
from risk.models import Assessment, Autonomy, Kill, LimitsRequest, RiskLimits, TradingControl
from risk.rules.autonomy import RECOVERS_AFTER
from risk.rules.limits import LIMIT_NAMES, loosened, under_ceilings
from tradingbot.core.environments import Environment

# live needs a passed and signed stage gate, and none can be on record yet.
OPEN_STAGES = frozenset({Environment.SIMULATOR, Environment.TESTNET, Environment.DEMO})


def stage_allows() -> bool:
    """Whether orders are allowed in this environment at all (invariant 3)."""
    return settings.TRADING_ENVIRONMENT in OPEN_STAGES


def limits_history() -> QuerySet[RiskLimits]:
    """All versions of the limits of this environment, the one in force first."""
    return RiskLimits.objects.filter(environment=settings.TRADING_ENVIRONMENT).order_by("-version")


def current_limits() -> Limits:
    """The limits in force; raises LimitsMissing, which denies everything."""
    row = limits_history().first()
    if row is None:
        raise LimitsMissing(f"no limits are on record for {settings.TRADING_ENVIRONMENT}")
    return limits_of(row)


def fee_rate() -> Decimal | None:
    """The commission counted for one side, as a fraction; None without limits (`settings.SCORE_FEE_RATE`)."""
    try:
        return current_limits().fee_rate
    except LimitsMissing:
        return None


def limits_of(row: RiskLimits) -> Limits:
    """The limits that a row holds, none above its ceiling: one may have been lowered since."""
    return limits_of_values(
        under_ceilings({name: getattr(row, name) for name in LIMIT_NAMES}, settings.RISK_CEILINGS),
        version=row.version,
    )


def limits_of_values(values: Mapping[str, Any], *, version: int) -> Limits:
    """Limits by name as one object."""
    named = {name: values[name] for name in LIMIT_NAMES}
    return Limits(version=version, **named | {"allowed_symbols": tuple(named["allowed_symbols"])})


def looser_than_in_force(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The limits of `values` (all by name, already checked) that let more through than those in force."""
    row = limits_history().first()
    return loosened(limits_of(row), limits_of_values(values, version=0)) if row else ()


def limits_requests() -> QuerySet[LimitsRequest]:
    """The requests for looser limits of this environment, newest first."""
    return LimitsRequest.objects.filter(environment=settings.TRADING_ENVIRONMENT).order_by("-pk")


def control() -> TradingControl | None:
    """The switch of this environment; None when it is not on record, which denies."""
    return TradingControl.objects.filter(pk=settings.TRADING_ENVIRONMENT).first()


def trading_state() -> TradingState | None:
    """What the switch says; None when it cannot be read, which denies."""
    row = control()
    return TradingState(row.status) if row is not None and row.status in TradingState.__members__ else None


def autonomy_row() -> Autonomy | None:
    """The stored level with its checks; None before the watch first looked."""
    return Autonomy.objects.filter(pk=settings.TRADING_ENVIRONMENT).first()


def autonomy() -> SeenAutonomy | None:
    """The level in force; None when it cannot be read, which denies."""
    row = autonomy_row()
    if row is None or row.seen_at is None or row.status not in {level.value for level in AutonomyLevel}:
        return None
    return SeenAutonomy(AutonomyLevel(row.status), row.reason, row.seen_at)


def ways_back(row: Autonomy) -> list[str]:
    """What has to become green, and who or what raises the level then."""
    red = [check for check in row.checks if not check["passes"]]
    sentences = [f"{check['name'].capitalize()}: {check['way_back']}." for check in red]
    if row.status == AutonomyLevel.HALTED:
        return [*sentences, "Then somebody who may arm sets the trading control again."]
    if row.status == AutonomyLevel.AUTO:
        return []
    wait = int(RECOVERS_AFTER.total_seconds())
    return [*sentences, f"It goes up by itself once the checks have been green for {wait} s."]


def _why_not_autonomous(now: datetime, *, leaving: bool) -> list[str]:
    seen = autonomy()
    if seen is None or abs(now - seen.seen_at) > AUTONOMY_SEEN_WITHIN:
        return ["the watch over the parts' health has not looked lately"]
    enough = AutonomyLevel.EXITS if leaving else AutonomyLevel.APPROVAL
    if seen.level.rank >= enough.rank:
        return []
    return [f"{AUTONOMY_NAMES[seen.level].lower()} ({seen.reason})"]


def kills() -> QuerySet[Kill]:
    """Every kill of this environment, newest first."""
    return Kill.objects.filter(environment=settings.TRADING_ENVIRONMENT).order_by("-pk")


def kills_under_way() -> list[Kill]:
    """Those that still have something to do, oldest first."""
    return list(kills().filter(status=KillStatus.UNDER_WAY).order_by("pk")[:20])


def kill_preview(now: datetime) -> KillPreview:
    """What a kill would touch now."""
    found: KillPreview = import_string(settings.KILL_PREVIEW)(now=now)
    return found


def assessments_of(proposal_id: UUID | str) -> QuerySet[Assessment]:
    """All runs of the gate over a proposal, newest first."""
    return Assessment.objects.filter(proposal_id=proposal_id).order_by("-id")


def trading_armed(now: datetime, *, leaving: bool = False) -> tuple[bool, list[str]]:
    """Whether an entry (an exit, when `leaving`) could be ordered now, and if not, why not in words."""
    reasons: list[str] = []
    if not settings.TRADING_ENABLED:
        reasons.append("the setting TRADING_ENABLED is not true")
    if not stage_allows():
        reasons.append(f"no passed stage gate is on record for {settings.TRADING_ENVIRONMENT}")
    state = trading_state()
    if state is None:
        reasons.append("the trading control cannot be read")
    elif state is not TradingState.ACTIVE and not (leaving and state is TradingState.REDUCING):
        reasons.append(f"the trading control is {state}")
    if not limits_history().exists():
        reasons.append("no risk limits are on record")
    reasons.extend(_why_not_autonomous(now, leaving=leaving))
    reasons.extend(f"stream {stale}" for stale in market_selectors.stale_feeds(now))
    return not reasons, reasons
