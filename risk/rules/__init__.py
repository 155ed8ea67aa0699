"""The gate: every rule, every time. Pure; no input raises, what is missing or unreadable denies."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import localcontext

from pydantic import ValidationError

from proposals.contracts import QuantisedOrder, Side
from risk.contracts import (
    AutonomyLevel,
    GateInput,
    Limits,
    RuleResult,
    RuleVerdict,
    SeenAutonomy,
    Verdict,
)
from risk.rules import freshness, halts, pace, permission, pricing, protection, sizing
from risk.rules.halts import VOLATILITY_MINUTES
from risk.rules.limits import LIMIT_NAMES
from risk.rules.order import form_order, reduced_order
from risk.rules.permission import PEOPLE_MAX
from risk.rules.reading import Case, Finding, Unreadable
from tradingbot.core.decimals import wide_context

__all__ = [
    "LIMIT_NAMES",
    "PEOPLE_MAX",
    "RULES",
    "VOLATILITY_MINUTES",
    "Rule",
    "evaluate",
    "people_needed",
    "reduced_order",
]

# What reading a wrong input can raise: each denies, none gets out. Decimal's own errors are ArithmeticErrors.
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ValidationError,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with its name and unit. `entry_only`: an exit lowers risk and passes, so that it is never stuck."""

    name: str
    check: Callable[[Case], Finding]
    unit: str = ""
    entry_only: bool = False


RULES: tuple[Rule, ...] = (
    Rule("trading_control", permission.trading_control),
    Rule("stage", permission.stage),
    Rule("autonomy", permission.autonomy),
    Rule("symbol_allowed", permission.symbol_allowed, entry_only=True),
    Rule("symbol_trading", permission.symbol_trading),
    Rule("action_sane", permission.action_sane),
    Rule("data_fresh", freshness.data_fresh),
    Rule("quote_age", freshness.quote_age, "s"),
    Rule("clock_offset", freshness.clock_offset, "ms"),
    Rule("reconciliation_healthy", permission.reconciliation_healthy),
    Rule("symbol_blocked", permission.symbol_blocked),
    Rule("spread", freshness.spread, "bps"),
    Rule("volatility_halt", halts.volatility_halt, "%", entry_only=True),
    Rule("price_collar", pricing.price_collar, "price"),
    Rule("price_drift_guard", pricing.price_drift_guard, "%"),
    Rule("order_matches_approval", permission.order_matches_approval),
    Rule("filters", pricing.filters),
    Rule("min_notional", pricing.min_notional, "quote"),
    Rule("min_notional_at_stop", pricing.min_notional_at_stop, "quote", entry_only=True),
    Rule("order_notional", sizing.order_notional, "quote", entry_only=True),
    Rule("symbol_exposure", sizing.symbol_exposure, "% of equity", entry_only=True),
    Rule("gross_exposure", sizing.gross_exposure, "% of equity", entry_only=True),
    Rule("open_positions", sizing.open_positions, "positions", entry_only=True),
    Rule("open_orders", sizing.open_orders, "orders", entry_only=True),
    Rule("unresolved_orders", pace.unresolved_orders, "orders", entry_only=True),
    Rule("daily_loss", sizing.daily_loss, "% of equity", entry_only=True),
    Rule("drawdown", halts.drawdown, "% of the peak", entry_only=True),
    Rule("loss_streak", halts.loss_streak, "exits that lost", entry_only=True),
    Rule("cool_down", halts.cool_down, "s", entry_only=True),
    Rule("stop_present", protection.stop_present, entry_only=True),
    Rule("stop_side", protection.stop_side, "price", entry_only=True),
    Rule("risk_per_trade", protection.risk_per_trade, "% of equity", entry_only=True),
    Rule("reward_to_risk", protection.reward_to_risk, "times", entry_only=True),
    Rule("confidence", permission.confidence, "%"),
    Rule("balance", sizing.balance),
    Rule("orders_per_minute", pace.orders_per_minute, "orders"),
    Rule("orders_per_hour", pace.orders_per_hour, "orders"),
    Rule("repeated_idea", pace.repeated_idea, "proposals"),
)


def evaluate(gate: GateInput) -> Verdict:
    """Judge a proposal by all rules and form its order. Never raises; see GateInput for the two kinds of run."""
    with localcontext(wide_context()):
        order, problem = _order_of(gate)
        case = Case(gate=gate, formed=order, problem=problem)
        results = tuple(_judge(rule, case) for rule in RULES)
    version = gate.limits.version if isinstance(gate.limits, Limits) else 0
    return Verdict(results=results, order=order, limits_version=version if isinstance(version, int) else 0)


def people_needed(verdict: Verdict, limits: Limits, autonomy: SeenAutonomy | None) -> int:
    """How many different people must approve: none below the threshold, two at or above the second one.

    At least one while a rule holds, and for an entry unless the parts' health allows automatic ones.
    """
    if verdict.order is None:
        return 1
    by_size = permission.people_by_size(verdict.order.notional_quote, limits)
    by_itself = autonomy is not None and autonomy.level is AutonomyLevel.AUTO
    if verdict.held or (verdict.order.side is Side.BUY and not by_itself):
        return max(by_size, 1)
    return by_size


def _order_of(gate: GateInput) -> tuple[QuantisedOrder | None, str]:
    """The order to judge, or None and why there is none."""
    if gate.binding:
        if isinstance(gate.order, QuantisedOrder):
            return gate.order, ""
        return None, "no order was handed over"
    try:
        return form_order(gate), ""
    except Unreadable as error:
        return None, str(error)
    except UNREADABLE as error:
        return None, _in_words(error)


def _judge(rule: Rule, case: Case) -> RuleResult:
    if rule.entry_only and case.is_exit:
        found = Finding(verdict=RuleVerdict.PASS, observed="", limit="", reason="not for an exit")
    else:
        found = _check(rule, case)
    return RuleResult(
        name=rule.name,
        verdict=found.verdict,
        observed=found.observed,
        limit=found.limit,
        unit=rule.unit,
        reason=found.reason,
    )


def _check(rule: Rule, case: Case) -> Finding:
    try:
        return rule.check(case)
    except Unreadable as error:
        reason = str(error)
    except UNREADABLE as error:
        reason = _in_words(error)
    return Finding(verdict=RuleVerdict.DENY, observed="unknown", limit="", reason=reason)


def _in_words(error: Exception) -> str:
    return f"an input cannot be read ({type(error).__name__})"
