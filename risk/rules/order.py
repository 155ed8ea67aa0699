"""From a proposal's wishes to the exact order: on the exchange's grid, never rounded in our favour."""

from decimal import Decimal, localcontext

from market.contracts import Quote, SymbolFilters
from proposals.contracts import OrderType, QuantisedOrder, Side, TimeInForce
from risk.contracts import GateInput, Limits
from risk.rules.reading import Unreadable, filters_of, not_negative, number, positive, quote_of, whole
from tradingbot.core.decimals import ZERO, ceil_to_step, floor_to_step, plain, wide_context

# The exchange's own precision: the grid of costs, and of prices and quantities whose filter is switched off.
FINEST_STEP = Decimal("0.00000001")
AMOUNT_MAX = Decimal(10) ** 12


def form_order(gate: GateInput) -> QuantisedOrder:
    """The order that the proposal comes to; raises Unreadable with why there is none.

    A limit is rounded to the tick on the side that never pays more (BUY down) or takes less (SELL up) than
    proposed, the quantity down to the step. `worst_price` bounds a MARKET order by the collar.
    """
    if gate.limits is None:
        raise Unreadable("no limits are on record")
    if gate.action == Side.BUY:
        return _entry(gate, gate.limits, filters_of(gate), quote_of(gate))
    if gate.action == Side.SELL:
        return _exit(gate, gate.limits, filters_of(gate), quote_of(gate))
    raise Unreadable(f"the action is {gate.action!r:.20}, neither BUY nor SELL")


def reduced_order(shown: QuantisedOrder, share_pct: int, filters: SymbolFilters) -> QuantisedOrder | None:
    """`share_pct` percent of the order `shown`, on the exchange's grid; None when that is no smaller order.

    Prices and the reference price stay, so that the drift is still judged against the proposal's.
    """
    if not 0 < share_pct < 100:
        return None
    quantity = floor_to_step(shown.quantity * share_pct / 100, quantity_step(filters, shown.order_type))
    if not 0 < quantity < shown.quantity:
        return None
    with localcontext(wide_context()):
        costs = {
            name: ceil_to_step(getattr(shown, name) * quantity / shown.quantity, FINEST_STEP)
            for name in ("notional_quote", "fee_quote")
        }
    return shown.model_copy(update={"quantity": quantity} | costs)


def quantity_step(filters: SymbolFilters, order_type: OrderType) -> Decimal:
    """The step of the quantity: LOT_SIZE, for MARKET the stricter of LOT_SIZE and MARKET_LOT_SIZE."""
    step = not_negative(filters.quantity_step, "the quantity step")
    if order_type is OrderType.MARKET:
        step = max(step, not_negative(filters.market_quantity_step, "the quantity step for MARKET"))
    return step or FINEST_STEP


def price_tick(filters: SymbolFilters) -> Decimal:
    """The grid of prices: PRICE_FILTER's tick."""
    return not_negative(filters.price_tick, "the price tick") or FINEST_STEP


def worst_fill_price(
    side: Side, order_type: OrderType, limit: Decimal | None, *, quote: Quote, limits: Limits, tick: Decimal
) -> Decimal:
    """The worst price the order may fill at: its limit, or for MARKET the quote moved by the whole collar."""
    if order_type is OrderType.LIMIT:
        return positive(limit, "the limit price")
    collar = not_negative(limits.price_collar_pct, "the limit price_collar_pct") / 100
    if side is Side.BUY:
        return ceil_to_step(quote.ask * (1 + collar), tick)
    return positive(floor_to_step(quote.bid * (1 - collar), tick), "the worst price of the sale")


def _entry(gate: GateInput, limits: Limits, filters: SymbolFilters, quote: Quote) -> QuantisedOrder:
    order_type = _order_type(gate)
    tick = price_tick(filters)
    amount = positive(gate.quote_amount, "the amount to spend")
    limit = _limit(gate, order_type)
    price = None if limit is None else positive(floor_to_step(limit, tick), "the limit price after rounding")
    worst = worst_fill_price(Side.BUY, order_type, price, quote=quote, limits=limits, tick=tick)
    quantity = floor_to_step(amount / worst, quantity_step(filters, order_type))
    if quantity <= 0:
        raise Unreadable(f"{plain(amount)} buys less than one step of {filters.base_asset}")
    return _order(
        gate,
        limits,
        quote,
        side=Side.BUY,
        order_type=order_type,
        quantity=quantity,
        price=price,
        worst_price=worst,
        cost_price=worst,
        # Protection is rounded towards the entry: a stop never lower, a target never farther than proposed.
        stop_price=_on_grid(gate.stop_price, "the stop", tick, up=True),
        target_price=_on_grid(gate.target_price, "the target", tick, up=False),
    )


def _exit(gate: GateInput, limits: Limits, filters: SymbolFilters, quote: Quote) -> QuantisedOrder:
    order_type = _order_type(gate)
    tick = price_tick(filters)
    limit = _limit(gate, order_type)
    price = None if limit is None else ceil_to_step(limit, tick)
    worst = worst_fill_price(Side.SELL, order_type, price, quote=quote, limits=limits, tick=tick)
    quantity = floor_to_step(_sellable(gate, filters), quantity_step(filters, order_type))
    if quantity <= 0:
        raise Unreadable(f"what is free to sell is less than one step of {filters.base_asset}")
    return _order(
        gate,
        limits,
        quote,
        side=Side.SELL,
        order_type=order_type,
        quantity=quantity,
        price=price,
        worst_price=worst,
        cost_price=max(quote.mid, price or ZERO),
        stop_price=None,
        target_price=None,
    )


def _sellable(gate: GateInput, filters: SymbolFilters) -> Decimal:
    """The share of the position that is asked for, at most what is free and not reserved."""
    holding = gate.portfolio.holdings.get(gate.symbol)
    if holding is None:
        raise Unreadable(f"no position in {gate.symbol} is held")
    share = whole(gate.position_share_pct, "the share of the position")
    if not 1 <= share <= 100:
        raise Unreadable(f"the share of the position is {share} %, it must be 1 to 100")
    wanted = positive(holding.quantity, "the position") * share / 100
    return min(wanted, free_base(gate, filters))


def free_base(gate: GateInput, filters: SymbolFilters) -> Decimal:
    """What of the base asset is free on the exchange and not reserved by orders or proposals of ours."""
    free = not_negative(
        gate.portfolio.free_base.get(gate.symbol), f"the free balance of {filters.base_asset}"
    )
    reserved = gate.portfolio.reserved_base.get(gate.symbol, ZERO)
    return free - not_negative(reserved, f"the reserved {filters.base_asset}")


def _order(
    gate: GateInput,
    limits: Limits,
    quote: Quote,
    *,
    side: Side,
    order_type: OrderType,
    quantity: Decimal,
    price: Decimal | None,
    worst_price: Decimal,
    cost_price: Decimal,
    stop_price: Decimal | None,
    target_price: Decimal | None,
) -> QuantisedOrder:
    notional = ceil_to_step(quantity * cost_price, FINEST_STEP)
    if max(quantity, notional) >= AMOUNT_MAX:
        raise Unreadable(f"an order of {plain(quantity)} at {plain(cost_price)} is out of any range")
    return QuantisedOrder(
        symbol=gate.symbol,
        side=side,
        order_type=order_type,
        time_in_force=_time_in_force(gate) if order_type is OrderType.LIMIT else None,
        quantity=quantity,
        price=price,
        stop_price=stop_price,
        target_price=target_price,
        reference_price=quote.mid,
        worst_price=worst_price,
        notional_quote=notional,
        fee_quote=ceil_to_step(notional * not_negative(limits.fee_rate, "the limit fee_rate"), FINEST_STEP),
    )


def _order_type(gate: GateInput) -> OrderType:
    try:
        return OrderType(gate.order_type)
    except ValueError:
        raise Unreadable(f"the order type is {gate.order_type!r:.20}, neither LIMIT nor MARKET") from None


def _time_in_force(gate: GateInput) -> TimeInForce:
    try:
        return TimeInForce(gate.time_in_force)
    except ValueError:
        raise Unreadable(f"the time in force is {gate.time_in_force!r:.20}, not GTC, IOC or FOK") from None


def _limit(gate: GateInput, order_type: OrderType) -> Decimal | None:
    return positive(gate.limit_price, "the limit price") if order_type is OrderType.LIMIT else None


def _on_grid(price: Decimal | None, what: str, tick: Decimal, *, up: bool) -> Decimal | None:
    if price is None:
        return None
    value = number(price, what)
    return ceil_to_step(value, tick) if up else floor_to_step(value, tick)
