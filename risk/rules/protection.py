"""Rules about the way out of an entry: the stop, the target and what lies between."""

from dataclasses import dataclass
from decimal import Decimal

from risk.rules.reading import Case, Finding, Unreadable, finding, not_negative, positive, shown
from tradingbot.core.decimals import plain


def stop_present(case: Case) -> Finding:
    """An entry names its stop before it is ordered."""
    stop = case.order.stop_price
    return finding(
        stop is not None,
        observed="none" if stop is None else plain(stop),
        limit="a stop",
        good="the entry names its stop",
        bad="the entry names no stop: what it may lose is not known",
    )


def without_stop() -> Finding:
    """What the other rules about the stop say when there is none: `stop_present` denies it, once."""
    return finding(True, observed="none", limit="", good="no stop to judge: see stop present", bad="")


def stop_side(case: Case) -> Finding:
    """stop < entry < target, whatever price between the quote and the worst one the entry fills at."""
    if case.order.stop_price is None:
        return without_stop()
    stop = positive(case.order.stop_price, "the stop")
    target = positive(case.order.target_price, "the target")
    worst = positive(case.order.worst_price, "the worst price")
    lowest = min(worst, case.quote.bid)
    return finding(
        stop < lowest and worst < target,
        observed=f"{plain(stop)} / {plain(target)}",
        limit=f"below {plain(lowest)} / above {plain(worst)}",
        good="the stop lies below the entry and the target above it",
        bad=f"the stop {plain(stop)} must lie below {plain(lowest)} and the target {plain(target)} "
        f"above {plain(worst)}",
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the entry at its worst price can lose at the stop and win at the target, fees on both sides."""

    risk_quote: Decimal
    reward_quote: Decimal | None


def _outcome(case: Case) -> _Outcome:
    order = case.order
    rate = not_negative(case.limits.fee_rate, "the limit fee_rate")
    stop = positive(order.stop_price, "the stop")
    entry = order.quantity * positive(order.worst_price, "the worst price")
    at_stop = order.quantity * stop
    risk = entry - at_stop + (entry + at_stop) * rate
    if order.target_price is None:
        return _Outcome(risk_quote=risk, reward_quote=None)
    at_target = order.quantity * positive(order.target_price, "the target")
    return _Outcome(risk_quote=risk, reward_quote=at_target - entry - (entry + at_target) * rate)


def risk_per_trade(case: Case) -> Finding:
    """Loss at the stop with fees on both sides, in percent of equity."""
    limit = not_negative(case.limits.risk_per_trade_max_pct, "the limit risk_per_trade_max_pct")
    if case.order.stop_price is None:
        return without_stop()
    equity = positive(case.gate.portfolio.equity_quote, "the equity")
    risk = _outcome(case).risk_quote
    share = shown(risk * 100 / equity)
    return finding(
        risk * 100 <= limit * equity,
        observed=share,
        limit=plain(limit),
        good=f"at its stop it loses {shown(risk)}",
        bad=f"at its stop it would lose {shown(risk)}, which is {share} % of equity",
    )


def reward_to_risk(case: Case) -> Finding:
    """What the target wins over what the stop loses, fees on both sides."""
    limit = not_negative(case.limits.reward_to_risk_min, "the limit reward_to_risk_min")
    if case.order.stop_price is None:
        return without_stop()
    outcome = _outcome(case)
    if outcome.reward_quote is None:
        raise Unreadable("there is no target: what it may win is not known")
    if outcome.risk_quote <= 0:
        raise Unreadable("the stop lies above the entry: what it may lose is not known")
    ratio = plain((outcome.reward_quote / outcome.risk_quote).quantize(Decimal("0.01")))
    return finding(
        outcome.reward_quote >= limit * outcome.risk_quote,
        observed=ratio,
        limit=plain(limit),
        good=f"it wins {ratio} times what it may lose",
        bad=f"after fees it would win {ratio} times what it may lose",
    )
