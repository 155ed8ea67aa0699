"""Rules about size: what one order, one symbol and the account may carry, and whether it can be paid."""

from decimal import Decimal

from proposals.contracts import QuantisedOrder, Side
from risk.contracts import Portfolio
from risk.rules.order import free_base
from risk.rules.reading import Case, Finding, count, finding, not_negative, number, positive, shown, total
from tradingbot.core.decimals import ZERO, plain


def order_notional(case: Case) -> Finding:
    """One order at its worst price may be worth so much at most (fat finger)."""
    limit = not_negative(case.limits.order_notional_max_quote, "the limit order_notional_max_quote")
    worth = positive(case.order.notional_quote, "the order's worth")
    return finding(
        worth <= limit,
        observed=plain(worth),
        limit=plain(limit),
        good="the order is small enough",
        bad=f"the order is worth {plain(worth)}, above the {plain(limit)} that one order may be",
    )


def symbol_exposure(case: Case) -> Finding:
    """Position, reservations and this order in one symbol, in percent of equity."""
    portfolio, symbol = case.gate.portfolio, case.gate.symbol
    reserved = not_negative(portfolio.reserved_quote.get(symbol, ZERO), f"the reservations of {symbol}")
    exposure = _held(portfolio, symbol) + reserved + _cost(case.order)
    return _share_of_equity(case, exposure, case.limits.symbol_exposure_max_pct, f"all in {symbol}")


def gross_exposure(case: Case) -> Finding:
    """All positions, unknown, open and waiting orders at their worst, and this order (invariant 4)."""
    portfolio = case.gate.portfolio
    held = sum((_held(portfolio, symbol) for symbol in portfolio.holdings), ZERO)
    exposure = held + total(portfolio.reserved_quote, "the reservations") + _cost(case.order)
    return _share_of_equity(case, exposure, case.limits.gross_exposure_max_pct, "everything together")


def _held(portfolio: Portfolio, symbol: str) -> Decimal:
    holding = portfolio.holdings.get(symbol)
    if holding is None or number(holding.quantity, f"the position in {symbol}") == 0:
        return ZERO
    mark = positive(holding.mark_price, f"the price of {symbol}")
    return not_negative(holding.quantity, f"the position in {symbol}") * mark


def _cost(order: QuantisedOrder) -> Decimal:
    """What the order can take away at most: its worst notional with the fee."""
    return positive(order.notional_quote, "the order's worth") + not_negative(order.fee_quote, "the fee")


def _share_of_equity(case: Case, amount: Decimal, limit_pct: object, what: str) -> Finding:
    limit = not_negative(limit_pct, "the limit")
    equity = positive(case.gate.portfolio.equity_quote, "the equity")
    share = shown(amount * 100 / equity)
    return finding(
        amount * 100 <= limit * equity,
        observed=share,
        limit=plain(limit),
        good=f"{what} stays inside the share of equity",
        bad=f"{what} would be {share} % of equity ({shown(amount)} of {shown(equity)})",
    )


def open_positions(case: Case) -> Finding:
    """Symbols held, or about to be, this one included."""
    portfolio = case.gate.portfolio
    limit = count(case.limits.open_positions_max, "the limit open_positions_max")
    held = {s for s, h in portfolio.holdings.items() if number(h.quantity, f"the position in {s}") != 0}
    coming = {s for s, a in portfolio.reserved_quote.items() if number(a, f"the reservations of {s}") != 0}
    after = len(held | coming | {case.gate.symbol})
    return finding(
        after <= limit,
        observed=str(after),
        limit=str(limit),
        good="there is room for the position",
        bad=f"{after} positions would be open or coming, {limit} may be",
    )


def open_orders(case: Case) -> Finding:
    """Orders of ours that may still fill, this one included."""
    limit = count(case.limits.open_orders_max, "the limit open_orders_max")
    after = count(case.gate.portfolio.open_order_count, "the number of open orders") + 1
    return finding(
        after <= limit,
        observed=str(after),
        limit=str(limit),
        good="there is room for the order",
        bad=f"{after} orders would be open, {limit} may be",
    )


def daily_loss(case: Case) -> Finding:
    """Loss since 00:00 UTC, realised and unrealised, in percent of equity.

    A gain on paper of before is taken off, or it would hide what was lost since. A loss on paper of before
    still counts: it is held on to.
    """
    portfolio = case.gate.portfolio
    limit = not_negative(case.limits.daily_loss_max_pct, "the limit daily_loss_max_pct")
    equity = positive(portfolio.equity_quote, "the equity")
    result = (
        number(portfolio.realised_today_quote, "today's realised result")
        + number(portfolio.unrealised_quote, "the unrealised result")
        - not_negative(portfolio.carried_gain_quote, "the unrealised gain at 00:00 UTC")
    )
    loss = max(ZERO, -result)
    share = shown(loss * 100 / equity)
    return finding(
        loss * 100 < limit * equity or loss == 0,
        observed=share,
        limit=plain(limit),
        good="today's loss is inside the limit",
        bad=f"today's loss is {share} % of equity: nothing new is opened before 00:00 UTC",
    )


def balance(case: Case) -> Finding:
    """What is free and not reserved must pay for the order with its fee, or hold what is sold."""
    order, portfolio = case.order, case.gate.portfolio
    if order.side is Side.BUY:
        needed, asset = _cost(order), portfolio.quote_asset
        free = not_negative(portfolio.free_quote, f"the free {asset}") - total(
            portfolio.reserved_quote, "the reservations"
        )
    else:
        needed, asset = positive(order.quantity, "the quantity"), case.filters.base_asset
        free = free_base(case.gate, case.filters)
    return finding(
        needed <= free,
        observed=plain(needed),
        limit=plain(free),
        good="the balance covers the order",
        bad=f"the order needs {plain(needed)} {asset}, {plain(free)} is free",
    )
