"""Rules about the order's price, and the exchange's own filters for price and size."""

from collections.abc import Iterator
from decimal import Decimal

from market.contracts import SymbolFilters
from proposals.contracts import OrderType, QuantisedOrder, Side
from risk.contracts import Portfolio
from risk.rules.order import quantity_step
from risk.rules.protection import without_stop
from risk.rules.reading import Case, Finding, Unreadable, count, finding, not_negative, positive, shown
from tradingbot.core.decimals import ZERO, floor_to_step, is_multiple, plain

# A MARKET order's notional is judged by the exchange's own average price, which may lie off our quote.
HEAD_ROOM = Decimal("1.02")


def price_collar(case: Case) -> Finding:
    """A limit may not lie beyond the quote by more than the collar on the side that costs us.

    A MARKET order is counted at the collar; in a binding run the quote must still lie inside that price.
    """
    collar = not_negative(case.limits.price_collar_pct, "the limit price_collar_pct") / 100
    order, quote = case.order, case.quote
    if order.side is Side.BUY:
        bound, touch = quote.ask * (1 + collar), quote.ask
    else:
        bound, touch = quote.bid * (1 - collar), quote.bid
    if order.order_type is OrderType.MARKET:
        bound, price = positive(order.worst_price, "the worst price"), touch
    else:
        price = positive(order.price, "the limit price")
    return finding(
        price <= bound if order.side is Side.BUY else price >= bound,
        observed=plain(price),
        limit=shown(bound),
        good="the price lies inside the collar",
        bad=f"the price {plain(price)} lies beyond the collar around the quote at {shown(bound)}",
    )


def price_drift_guard(case: Case) -> Finding:
    """Between what was approved and now the price may have moved by so much at most (invariant 13)."""
    limit = not_negative(case.limits.price_drift_max_pct, "the limit price_drift_max_pct")
    if not case.gate.binding:
        return finding(True, observed="0", limit=plain(limit), good="judged again when it is ordered", bad="")
    if case.gate.approved_order is None:
        raise Unreadable("there is no approved order on record")
    before = positive(case.gate.approved_order.reference_price, "the price at approval")
    drift = abs(case.quote.mid - before)
    return finding(
        drift * 100 <= limit * before,
        observed=shown(drift * 100 / before),
        limit=plain(limit),
        good="the price stayed near what was approved",
        bad=f"the price moved {shown(drift * 100 / before)} % since the proposal, from {plain(before)} "
        f"to {plain(case.quote.mid)}",
    )


def filters(case: Case) -> Finding:
    """The exchange's own filters: type, grid, range and percent price (binance.md §5)."""
    broken = list(_broken_filters(case.order, case.filters, case.quote.mid, case.gate.portfolio))
    return finding(
        not broken,
        observed="; ".join(broken) or "inside",
        limit="inside",
        good="the order fits the exchange's filters",
        bad=f"the exchange would refuse it: {'; '.join(broken)}",
    )


def _broken_filters(
    order: QuantisedOrder, rules: SymbolFilters, reference: Decimal, portfolio: Portfolio
) -> Iterator[str]:
    if order.order_type not in rules.order_types:
        yield f"it takes no {order.order_type} orders"
    yield from _broken_quantity(order, rules, portfolio)
    prices = {"the limit": order.price, "the stop": order.stop_price, "the target": order.target_price}
    for what, price in prices.items():
        if price is not None:
            yield from _broken_price(what, price, rules)
    if order.price is not None:
        yield from _broken_percent_price(order, order.price, rules, reference)
    open_orders = count(
        portfolio.open_order_count_by_symbol.get(order.symbol, 0), "the number of open orders"
    )
    if 0 < rules.open_orders_max <= open_orders:
        yield f"it takes {rules.open_orders_max} open orders a symbol"


def _broken_quantity(order: QuantisedOrder, rules: SymbolFilters, portfolio: Portfolio) -> Iterator[str]:
    lots = [(rules.quantity_step, rules.quantity_min, rules.quantity_max)]
    if order.order_type is OrderType.MARKET:
        lots.append((rules.market_quantity_step, rules.market_quantity_min, rules.market_quantity_max))
    for step, least, most in lots:
        if not is_multiple(order.quantity, not_negative(step, "the quantity step")):
            yield f"the quantity is not a multiple of {plain(step)}"
        if order.quantity < not_negative(least, "the minimum quantity"):
            yield f"the quantity is below {plain(least)}"
        if _exceeds(order.quantity, most, "the maximum quantity"):
            yield f"the quantity is above {plain(most)}"
    holding = portfolio.holdings.get(order.symbol)
    held = not_negative(holding.quantity, "the position") if holding else ZERO
    if order.side is Side.BUY and _exceeds(held + order.quantity, rules.position_max, "the maximum position"):
        yield f"the position would be above {plain(rules.position_max)}"


def _broken_price(what: str, price: Decimal, rules: SymbolFilters) -> Iterator[str]:
    if not is_multiple(price, not_negative(rules.price_tick, "the price tick")):
        yield f"{what} is not a multiple of {plain(rules.price_tick)}"
    if price < not_negative(rules.price_min, "the minimum price"):
        yield f"{what} is below {plain(rules.price_min)}"
    if _exceeds(price, rules.price_max, "the maximum price"):
        yield f"{what} is above {plain(rules.price_max)}"


def _broken_percent_price(
    order: QuantisedOrder, price: Decimal, rules: SymbolFilters, reference: Decimal
) -> Iterator[str]:
    """PERCENT_PRICE_BY_SIDE, with the mid price standing for the exchange's average."""
    buys = order.side is Side.BUY
    up = rules.bid_multiplier_up if buys else rules.ask_multiplier_up
    down = rules.bid_multiplier_down if buys else rules.ask_multiplier_down
    if _exceeds(price, reference * not_negative(up, "the upper price multiplier"), "the highest price"):
        yield f"the limit is above {plain(up)} times the reference"
    if price < reference * not_negative(down, "the lower price multiplier"):
        yield f"the limit is below {plain(down)} times the reference"


def _exceeds(value: Decimal, most: Decimal, what: str) -> bool:
    """Whether `value` is above `most`, where 0 switches the rule off."""
    return 0 < not_negative(most, what) < value


def min_notional(case: Case) -> Finding:
    """The exchange's least (and most) worth of an order, with head-room for MARKET, after rounding."""
    order, rules = case.order, case.filters
    market = order.order_type is OrderType.MARKET
    least = _notional_bound(rules.notional_min, off=market and not rules.notional_min_applies_to_market)
    most = _notional_bound(rules.notional_max, off=market and not rules.notional_max_applies_to_market)
    worth = order.quantity * (case.quote.mid if market else positive(order.price, "the limit price"))
    needed = least * HEAD_ROOM if market else least
    too_much = 0 < most < (worth * HEAD_ROOM if market else worth)
    return finding(
        worth >= needed and not too_much,
        observed=shown(worth),
        limit=f"{plain(needed)} to {plain(most)}" if most else plain(needed),
        good="the order is worth enough for the exchange",
        bad=f"the exchange takes orders worth {plain(needed)} or more"
        + (f", up to {plain(most)}" if most else ""),
    )


def _notional_bound(value: Decimal, *, off: bool) -> Decimal:
    return ZERO if off else not_negative(value, "the notional filter")


def min_notional_at_stop(case: Case) -> Finding:
    """What is left after the fee must still be sellable at the stop, or the position cannot be protected."""
    order, rules = case.order, case.filters
    if order.stop_price is None:
        return without_stop()
    stop = positive(order.stop_price, "the stop")
    needed = not_negative(rules.notional_min, "the notional filter") * HEAD_ROOM
    kept = order.quantity * (1 - not_negative(case.limits.fee_rate, "the limit fee_rate"))
    worth = floor_to_step(kept, quantity_step(rules, OrderType.LIMIT)) * stop
    return finding(
        worth >= needed,
        observed=shown(worth),
        limit=plain(needed),
        good="the position could still be sold at its stop",
        bad=f"at its stop the position would be worth {shown(worth)}, too little for the exchange to sell",
    )
