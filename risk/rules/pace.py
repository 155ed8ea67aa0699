"""Rules about how often: runaway orders, orders of unknown fate, the same idea again."""

from risk.rules.reading import Case, Finding, count, finding

UNRESOLVED_ORDERS_MAX = (
    1  # two or more: nothing new is opened anywhere (reference/reliability.md §1.2, row 22)
)


def unresolved_orders(case: Case) -> Finding:
    """Orders of unknown fate, over all symbols; the symbol of each is blocked besides (`symbol_blocked`)."""
    unresolved = count(case.gate.portfolio.unresolved_order_count, "the number of unresolved orders")
    return finding(
        unresolved <= UNRESOLVED_ORDERS_MAX,
        observed=str(unresolved),
        limit=str(UNRESOLVED_ORDERS_MAX),
        good="the fate of our orders is known",
        bad=f"the fate of {unresolved} orders is not known: nothing new is opened",
    )


def orders_per_minute(case: Case) -> Finding:
    """Orders sent in the last minute, whatever became of them, this one included."""
    return _pace(case.gate.portfolio.orders_last_minute, case.limits.orders_per_minute_max, "minute")


def orders_per_hour(case: Case) -> Finding:
    """Orders sent in the last hour, whatever became of them, this one included."""
    return _pace(case.gate.portfolio.orders_last_hour, case.limits.orders_per_hour_max, "hour")


def _pace(sent: object, limit: object, period: str) -> Finding:
    after = count(sent, f"the number of orders in the last {period}") + 1
    most = count(limit, f"the limit orders_per_{period}_max")
    return finding(
        after <= most,
        observed=str(after),
        limit=str(most),
        good="the pace is inside the limit",
        bad=f"it would be order {after} within a {period}, {most} may be sent",
    )


def repeated_idea(case: Case) -> Finding:
    """While a proposal of the same symbol and side waits or is about to be ordered, another adds nothing."""
    if case.gate.binding:
        return finding(True, observed="0", limit="0", good="judged when it was proposed", bad="")
    side = case.gate.action
    waiting = list(case.gate.portfolio.pending_by_symbol.get(case.gate.symbol, [])).count(side)
    return finding(
        waiting == 0,
        observed=str(waiting),
        limit="0",
        good="no proposal of the same kind is waiting",
        bad=f"a {side} of {case.gate.symbol} is waiting already",
    )
