"""The rest of an approved entry at another price: no more coins and no more money than were approved."""

from decimal import Decimal, localcontext

from market.contracts import SymbolFilters
from proposals.contracts import QuantisedOrder
from tradingbot.core.decimals import ZERO, ceil_to_step, floor_to_step, is_multiple, plain, wide_context

FINEST_STEP = Decimal("0.00000001")  # the exchange's own precision


def rest_at(
    approved: QuantisedOrder,
    price: Decimal,
    *,
    executed: Decimal,
    spent_quote: Decimal,
    filters: SymbolFilters,
) -> QuantisedOrder | None:
    """What is left of `approved` (less `executed` in base and `spent_quote`) at a limit of `price`.

    The quantity goes down where the higher price would cost more than was approved. Protection and reference
    price stay, so that the drift is still judged against the proposal's. None when nothing is left.
    """
    if price <= 0:
        return None
    with localcontext(wide_context()):
        affordable = (approved.notional_quote - spent_quote) / price
        quantity = floor_to_step(min(approved.quantity - executed, affordable), filters.quantity_step)
        if quantity <= ZERO:
            return None
        notional = ceil_to_step(quantity * price, FINEST_STEP)
        fee = ceil_to_step(notional * approved.fee_quote / approved.notional_quote, FINEST_STEP)
    return approved.model_copy(
        update={
            "quantity": quantity,
            "price": price,
            "worst_price": price,
            "notional_quote": notional,
            "fee_quote": fee,
        }
    )


def why_not_at(approved: QuantisedOrder, price: Decimal, drift_max_pct: Decimal, tick: Decimal) -> str:
    """Why the approved limit may not be moved to `price`; empty when it may be (priceDriftGuard)."""
    before = approved.price
    if before is None:
        return "it has no limit price"
    if price <= 0 or not is_multiple(price, tick):
        return f"the price must be a multiple of {plain(tick)}"
    if abs(price - before) * 100 > drift_max_pct * before:
        return (
            f"{plain(price)} is more than {plain(drift_max_pct)} % from the {plain(before)} that was approved"
        )
    return ""
