"""How much the desk may do by itself, from how its parts do. Pure: health in, level and reasons out.

Down goes at once, by the worst check. Up goes by itself once the checks have been green for a while, except
from HALTED, which only a person leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from risk.contracts import AutonomyLevel, CheckResult, Health

RECOVERS_AFTER = timedelta(seconds=5)
SAMPLE_MIN = 20  # orders within the hour, below which a share says nothing
FAILED_MAX_PCT = 5
REJECTED_IN_A_ROW_MAX = 4
UNRESOLVED_MAX = 1
PROPOSAL_TO_EXECUTION_P95_MAX_MS = 5000


@dataclass(frozen=True, slots=True)
class Check:
    """One question about health. Failing it lowers to `lowers_to`, and to HALTED once it failed for `halts_after`."""

    name: str
    ask: Callable[[Health], tuple[bool, str, str]]
    lowers_to: AutonomyLevel
    way_back: str
    halts_after: timedelta | None = None


def _feeds(health: Health) -> tuple[bool, str, str]:
    stale = _known(health.stale_feeds)
    return not stale, "; ".join(stale) or "fresh", "every stream fresh"


def _reconciliation(health: Health) -> tuple[bool, str, str]:
    agrees = _known(health.reconciled)
    return agrees is True, health.reconciliation_note, "books compared and agreed"


def _unresolved(health: Health) -> tuple[bool, str, str]:
    unresolved = _known(health.unresolved_orders)
    return unresolved <= UNRESOLVED_MAX, f"{unresolved} orders of unknown fate", f"at most {UNRESOLVED_MAX}"


def _rejections(health: Health) -> tuple[bool, str, str]:
    row = _known(health.rejected_in_a_row)
    observed = f"the last {row} orders were rejected" if row else "the last order was not rejected"
    return row <= REJECTED_IN_A_ROW_MAX, observed, f"at most {REJECTED_IN_A_ROW_MAX} in a row"


def _advisor(health: Health) -> tuple[bool, str, str]:
    open_breakers = _known(health.open_breakers)
    observed = f"breaker open: {', '.join(open_breakers)}" if open_breakers else "breaker closed"
    return not open_breakers, observed, "the advisor's breaker closed"


def _failures(health: Health) -> tuple[bool, str, str]:
    orders, failed = _known(health.orders_last_hour), _known(health.orders_failed_last_hour)
    burnt = orders >= SAMPLE_MIN and failed * 100 > orders * FAILED_MAX_PCT
    observed = f"{failed} of {orders} orders of the last hour rejected or of unknown fate"
    return not burnt, observed, f"at most {FAILED_MAX_PCT} % of {SAMPLE_MIN} or more"


def _speed(health: Health) -> tuple[bool, str, str]:
    samples, p95_ms = _known(health.speed_samples), health.proposal_to_execution_p95_ms
    if samples < SAMPLE_MIN:
        return True, f"{samples} automatic orders in the last hour", f"judged from {SAMPLE_MIN} on"
    met = _known(p95_ms) < PROPOSAL_TO_EXECUTION_P95_MAX_MS
    return met, f"p95 {p95_ms} ms of {samples}", f"below {PROPOSAL_TO_EXECUTION_P95_MAX_MS} ms"


CHECKS: tuple[Check, ...] = (
    Check(
        "feeds",
        _feeds,
        AutonomyLevel.EXITS,
        "every stream has to be connected and fresh (page Feeds)",
        timedelta(minutes=5),
    ),
    Check(
        "reconciliation",
        _reconciliation,
        AutonomyLevel.EXITS,
        "a comparison with the exchange has to complete (page Reconciliation, Compare now)",
        timedelta(minutes=15),
    ),
    Check(
        "unknown orders",
        _unresolved,
        AutonomyLevel.EXITS,
        "the fate of the orders has to be found out or decided (page Orders)",
    ),
    Check(
        "rejections",
        _rejections,
        AutonomyLevel.HALTED,
        "somebody has to see why the exchange refuses the orders (page Orders) before arming again",
    ),
    Check("advisor", _advisor, AutonomyLevel.APPROVAL, "the model has to answer the next probe"),
    Check(
        "error budget",
        _failures,
        AutonomyLevel.APPROVAL,
        "the failed orders have to grow older than an hour, or good ones have to outweigh them",
    ),
    Check(
        "speed budget",
        _speed,
        AutonomyLevel.APPROVAL,
        "the slow orders have to grow older than an hour, or quick ones have to outweigh them",
    ),
)


T = TypeVar("T")


class _Unknown(Exception):
    """An input of a check cannot be read."""


def _known(value: T | None) -> T:
    if value is None:
        raise _Unknown
    return value


def check_health(health: Health) -> tuple[CheckResult, ...]:
    """Every check, every time; one whose input is missing fails."""
    return tuple(_judge(check, health) for check in CHECKS)


def _judge(check: Check, health: Health) -> CheckResult:
    try:
        passes, observed, limit = check.ask(health)
    except (_Unknown, TypeError):
        passes, observed, limit = False, "not known", ""
    return CheckResult(check.name, passes, observed, limit, check.lowers_to, check.way_back)


def failing_since(
    results: tuple[CheckResult, ...], before: dict[str, datetime], now: datetime
) -> dict[str, datetime]:
    """Since when each failing check has failed without a break."""
    return {result.name: before.get(result.name, now) for result in results if not result.passes}


def wanted_level(
    results: tuple[CheckResult, ...], since: dict[str, datetime], now: datetime
) -> AutonomyLevel:
    """The level that the checks allow: the lowest that a failing one asks for."""
    patience = {check.name: check.halts_after for check in CHECKS}
    levels = [AutonomyLevel.AUTO]
    for result in results:
        if result.passes:
            continue
        levels.append(result.lowers_to)
        wait = patience[result.name]
        if wait is not None and now - since.get(result.name, now) >= wait:
            levels.append(AutonomyLevel.HALTED)
    return min(levels, key=lambda level: level.rank)


def next_level(
    present: AutonomyLevel, wanted: AutonomyLevel, better_since: datetime | None, now: datetime
) -> AutonomyLevel:
    """Down at once; up when the checks have wanted better for long enough; never up from HALTED."""
    if wanted.rank <= present.rank:
        return wanted
    if present is AutonomyLevel.HALTED or better_since is None or now - better_since < RECOVERS_AFTER:
        return present
    return wanted
