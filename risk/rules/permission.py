"""Rules about whether anything may be ordered at all, and whether this may be."""

from decimal import Decimal

from proposals.contracts import QuantisedOrder, Side
from risk.contracts import (
    AUTONOMY_NAMES,
    AUTONOMY_SEEN_WITHIN,
    AutonomyLevel,
    Limits,
    RuleVerdict,
    TradingState,
)
from risk.rules.reading import Case, Finding, Unreadable, count, finding, not_negative, positive
from tradingbot.core.decimals import plain

PEOPLE_MAX = 2  # no order takes more


def trading_control(case: Case) -> Finding:
    """TRADING_ENABLED and the switch must both say yes; REDUCING lets exits through (invariant 3)."""
    gate = case.gate
    if not isinstance(gate.trading_state, TradingState):
        raise Unreadable("the trading control cannot be read")
    open_for = {TradingState.ACTIVE} | ({TradingState.REDUCING} if case.is_exit else set())
    armed = gate.trading_enabled is True and gate.trading_state in open_for
    observed = (
        gate.trading_state.value
        if gate.trading_enabled
        else f"{gate.trading_state.value}, TRADING_ENABLED off"
    )
    if gate.trading_enabled is not True:
        bad = "trading is switched off by the setting TRADING_ENABLED"
    elif gate.trading_state is TradingState.REDUCING:
        bad = "the trading control is REDUCING: only exits are ordered"
    else:
        bad = f"the trading control is {gate.trading_state.value}"
    return _permission(case, armed, observed=observed, limit="ACTIVE", good="trading is armed", bad=bad)


def autonomy(case: Case) -> Finding:
    """What the desk may do by itself, from its health: an automatic entry needs all, an exit nearly nothing."""
    seen = case.gate.autonomy
    if seen is None:
        raise Unreadable("whether the parts are healthy is not known: the watch over them never ran")
    age = case.gate.now - seen.seen_at
    if abs(age) > AUTONOMY_SEEN_WITHIN:
        raise Unreadable(f"the watch over the parts' health last looked {age.total_seconds():.0f} s ago")
    if not isinstance(seen.level, AutonomyLevel):
        raise Unreadable("the level that the parts' health allows cannot be read")
    if case.is_exit:
        needed = AutonomyLevel.EXITS
    elif case.gate.binding and count(case.gate.approvals, "the number of approvals") < 1:
        needed = AutonomyLevel.AUTO
    else:
        needed = AutonomyLevel.APPROVAL
    return _permission(
        case,
        seen.level.rank >= needed.rank,
        observed=seen.level.value,
        limit=needed.value,
        good=AUTONOMY_NAMES[seen.level].lower(),
        bad=f"{AUTONOMY_NAMES[seen.level].lower()} ({seen.reason})",
    )


def stage(case: Case) -> Finding:
    """The environment must have passed the gate of its stage."""
    allowed = case.gate.stage_allows is True
    return _permission(
        case,
        allowed,
        observed="allowed" if allowed else "not allowed",
        limit="allowed",
        good="orders are allowed in this environment",
        bad="no passed stage gate is on record for this environment",
    )


def _permission(case: Case, passes: bool, *, observed: str, limit: str, good: str, bad: str) -> Finding:
    """Not armed: a binding run denies; an advisory one holds, for a person may look while nothing is ordered."""
    found = finding(passes, observed=observed, limit=limit, good=good, bad=bad)
    if passes or case.gate.binding:
        return found
    return Finding(verdict=RuleVerdict.HOLD, observed=observed, limit=limit, reason=bad)


def symbol_allowed(case: Case) -> Finding:
    """The symbol must be on the list of the limits."""
    symbols = case.limits.allowed_symbols
    return finding(
        case.gate.symbol in symbols,
        observed=case.gate.symbol,
        limit=", ".join(symbols) or "none",
        good="the symbol is on the list",
        bad=f"{case.gate.symbol} is not on the list of allowed symbols",
    )


def symbol_trading(case: Case) -> Finding:
    """The exchange must take orders for the symbol: HALT, BREAK and CANCEL_ONLY do not."""
    status = case.filters.status
    return finding(
        case.filters.is_trading,
        observed=status,
        limit="TRADING",
        good="the exchange takes orders",
        bad=f"the exchange says {status}: it takes no new orders for {case.gate.symbol}",
    )


def action_sane(case: Case) -> Finding:
    """A BUY spends something, a SELL sells no more than the position held."""
    order = case.order
    if order.side is Side.BUY:
        quantity = positive(order.quantity, "the quantity")
        return finding(
            True, observed=f"BUY {plain(quantity)}", limit="above 0", good="buys a quantity above 0", bad=""
        )
    holding = case.gate.portfolio.holdings.get(case.gate.symbol)
    if holding is None:
        raise Unreadable(f"no position in {case.gate.symbol} is held, nothing can be sold")
    held = positive(holding.quantity, "the position")
    quantity = positive(order.quantity, "the quantity")
    return finding(
        quantity <= held,
        observed=f"SELL {plain(quantity)}",
        limit=plain(held),
        good="sells no more than is held",
        bad=f"sells {plain(quantity)} where {plain(held)} is held",
    )


def reconciliation_healthy(case: Case) -> Finding:
    """The books must agree with the exchange's, lately."""
    portfolio = case.gate.portfolio
    return finding(
        portfolio.reconciled is True,
        observed="reconciled" if portfolio.reconciled is True else "not reconciled",
        limit="reconciled",
        good=portfolio.reconciliation_note or "the books agree with the exchange's",
        bad=portfolio.reconciliation_note or "the books were not compared with the exchange's",
    )


def symbol_blocked(case: Case) -> Finding:
    """An order of unknown fate or an open divergence blocks its symbol."""
    why = case.gate.portfolio.blocked_symbols.get(case.gate.symbol)
    return finding(
        why is None,
        observed="blocked" if why is not None else "free",
        limit="free",
        good="nothing blocks the symbol",
        bad=f"{case.gate.symbol} takes no new order: {why}",
    )


_BOUND = ("symbol", "side", "order_type", "time_in_force", "quantity", "price", "stop_price", "target_price")


def order_matches_approval(case: Case) -> Finding:
    """What is about to be sent must be what the approval binds to (invariant 2), by as many people as it takes now."""
    if not case.gate.binding:
        return finding(True, observed="advice", limit="", good="nothing is approved yet", bad="")
    order, approved = case.order, case.gate.approved_order
    if not isinstance(approved, QuantisedOrder):
        raise Unreadable("there is no approved order on record")
    different = [name for name in _BOUND if getattr(order, name) != getattr(approved, name)]
    if order.symbol != case.gate.symbol:
        different.append("symbol of the proposal")
    needed = people_by_size(positive(order.notional_quote, "the order's worth"), case.limits)
    approvals = count(case.gate.approvals, "the number of approvals")
    too_few = f"approved by {approvals} of the {needed} people that the limits in force ask for"
    return finding(
        not different and approvals >= needed,
        observed=", ".join(different) or (too_few if approvals < needed else "equal"),
        limit="equal",
        good="the order is the one that was approved",
        bad=f"the order differs from the approved one in: {', '.join(different)}" if different else too_few,
    )


def people_by_size(notional_quote: Decimal, limits: Limits) -> int:
    """How many different people must approve an order that is worth so much."""
    if notional_quote >= not_negative(
        limits.two_person_threshold_quote, "the limit two_person_threshold_quote"
    ):
        return PEOPLE_MAX
    return int(
        notional_quote >= not_negative(limits.approval_threshold_quote, "the limit approval_threshold_quote")
    )


def confidence(case: Case) -> Finding:
    """The model must be sure enough of its proposal."""
    floor = count(case.limits.confidence_min_pct, "the limit confidence_min_pct")
    stated = count(case.gate.confidence_pct, "the stated confidence")
    return finding(
        floor <= stated <= 100,
        observed=str(stated),
        limit=str(floor),
        good="the stated confidence reaches the floor",
        bad=f"the stated confidence of {stated} % is not within {floor} to 100 %",
    )
