"""Orders and order lists as their parameters name them, checked as each type demands (binance.md §2.4, §2.5)."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Any

from simulator.api.desk import Desk
from simulator.api.params import Params
from simulator.decimals import ZERO
from simulator.engine.contracts import (
    ListKind,
    ListRequest,
    OrderRequest,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from simulator.engine.errors import ExchangeError, missing_parameter, unneeded_parameter

LIMIT_TYPES = frozenset({OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT})
"""Those that need a timeInForce."""
WORKING_TYPES = frozenset({OrderType.LIMIT, OrderType.LIMIT_MAKER})
STRATEGY_TYPE_MIN = 1_000_000
WRONG_LOSS_SIDE = {
    Side.BUY: ExchangeError(-1196, "A stop loss order in a buy OCO must be above."),
    Side.SELL: ExchangeError(-1197, "A stop loss order in a sell OCO must be below."),
}
WRONG_PROFIT_SIDE = {
    Side.BUY: ExchangeError(-1198, "A take profit order in a buy OCO must be below."),
    Side.SELL: ExchangeError(-1199, "A take profit order in a sell OCO must be above."),
}


def random_client_id() -> str:
    """What the exchange gives an order or cancel request that came without an id."""
    return secrets.token_hex(11)


def parse_order(desk: Desk, params: Params) -> OrderRequest:
    """A new order's parameters. Raises ExchangeError."""
    symbol = desk.instrument(params.required("symbol")).symbol
    params.required("side")
    params.required("type")
    side = _side(params, "side")
    order_type = _type(params, "type")
    if order_type is not OrderType.MARKET and params.has("quoteOrderQty"):
        raise unneeded_parameter("quoteOrderQty")
    quantity, quote_quantity = (
        _market_size(params)
        if order_type is OrderType.MARKET
        else (params.required_decimal("quantity"), None)
    )
    return _leg(params, symbol, "", order_type, side, quantity, quote_quantity)


def parse_list(desk: Desk, params: Params, kind: ListKind) -> ListRequest:
    """A new order list's parameters. Raises ExchangeError."""
    symbol = desk.instrument(params.required("symbol")).symbol
    client_order_id = params.client_id("listClientOrderId") or random_client_id()
    if kind is ListKind.OCO:
        params.required("side")
        legs = _pair(params, symbol, "", _side(params, "side"), params.required_decimal("quantity"))
        return ListRequest(kind, symbol, client_order_id, legs)
    working = _working(params, symbol)
    quantity = None if kind.pays_onward else params.required_decimal("pendingQuantity")
    params.required("pendingSide")
    side = _side(params, "pendingSide")
    if kind.pays_onward and working.side is not Side.BUY:
        raise ExchangeError(-1222, "Working order in an OPO list must be a bid.")
    if kind.pays_onward and side is not Side.SELL:
        raise ExchangeError(-1223, "Pending orders in an OPO list must be asks.")
    if kind.has_pair:
        pending = _pair(params, symbol, "pending", side, quantity)
    else:
        params.required("pendingType")
        pending = (_leg(params, symbol, "pending", _type(params, "pendingType"), side, quantity, None),)
    return ListRequest(kind, symbol, client_order_id, (working, *pending))


def _working(params: Params, symbol: str) -> OrderRequest:
    for name in ("workingType", "workingSide", "workingPrice", "workingQuantity"):
        params.required(name)
    order_type = _type(params, "workingType")
    if order_type not in WORKING_TYPES:
        raise ExchangeError(-1013, "The working order must be a LIMIT or LIMIT_MAKER order.")
    quantity = params.required_decimal("workingQuantity")
    return _leg(params, symbol, "working", order_type, _side(params, "workingSide"), quantity, None)


def _pair(
    params: Params, symbol: str, prefix: str, side: Side, quantity: Decimal | None
) -> tuple[OrderRequest, ...]:
    """The two legs of an OCO: one that takes profit, one that stops a loss."""
    names = ("pendingAbove", "pendingBelow") if prefix else ("above", "below")
    for name in names:
        params.required(f"{name}Type")
    above, below = (_type(params, f"{name}Type") for name in names)
    if OrderType.LIMIT_MAKER is above is below:
        raise ExchangeError(-1168, "At least one OCO order must be contingent.")
    if side is Side.BUY and above is OrderType.LIMIT_MAKER:
        raise ExchangeError(-1165, "A limit order in a buy OCO must be below.")
    if side is Side.SELL and below is OrderType.LIMIT_MAKER:
        raise ExchangeError(-1166, "A limit order in a sell OCO must be above.")
    if not all(leg is OrderType.LIMIT_MAKER or leg.is_stop for leg in (above, below)):
        raise ExchangeError(-1158, "Order type not supported in OCO.")
    profit, loss = (above, below) if side is Side.SELL else (below, above)
    if loss.is_take_profit:
        raise WRONG_PROFIT_SIDE[side]
    if profit.is_stop and not profit.is_take_profit:
        raise WRONG_LOSS_SIDE[side]
    return tuple(
        _leg(params, symbol, name, order_type, side, quantity, None)
        for name, order_type in zip(names, (above, below), strict=True)
    )


def _leg(
    params: Params,
    symbol: str,
    prefix: str,
    order_type: OrderType,
    side: Side,
    quantity: Decimal | None,
    quote_quantity: Decimal | None,
) -> OrderRequest:
    """One order, whose parameters begin with `prefix`."""

    def name(plain: str) -> str:
        return prefix + plain[0].upper() + plain[1:] if prefix else plain

    time_in_force = params.choice(name("timeInForce"), TimeInForce, -1115, "Invalid timeInForce.")
    if order_type in LIMIT_TYPES and time_in_force is None:
        raise missing_parameter(name("timeInForce"))
    if order_type not in LIMIT_TYPES and time_in_force is not None:
        raise unneeded_parameter(name("timeInForce"))
    if not order_type.has_price and params.has(name("price")):
        raise unneeded_parameter(name("price"))
    iceberg = _iceberg(params, name("icebergQty"), order_type, time_in_force)
    return OrderRequest(
        symbol=symbol,
        side=side,
        type=order_type,
        client_order_id=params.client_id(name("clientOrderId") if prefix else "newClientOrderId")
        or random_client_id(),
        time_in_force=time_in_force or TimeInForce.GTC,
        quantity=quantity,
        quote_quantity=quote_quantity,
        price=params.required_decimal(name("price")) if order_type.has_price else ZERO,
        self_trade_prevention=_prevention(params),
        iceberg_quantity=iceberg,
        strategy_id=params.integer(name("strategyId")),
        strategy_type=_strategy_type(params, name("strategyType")),
        **_trigger(params, name("stopPrice"), name("trailingDelta"), order_type),
    )


def _trigger(params: Params, stop_name: str, delta_name: str, order_type: OrderType) -> dict[str, Any]:
    stop_price, delta = params.decimal(stop_name), params.integer(delta_name)
    if not order_type.is_stop:
        for name, value in ((stop_name, stop_price), (delta_name, delta)):
            if value is not None:
                raise unneeded_parameter(name)
        return {}
    if stop_price is None and delta is None:
        raise ExchangeError(
            -1102, f"Param '{stop_name}' or '{delta_name}' must be sent, but both were empty/null!"
        )
    if stop_price is not None and stop_price <= ZERO:
        raise ExchangeError(-1013, "Stop price must be positive.")
    if delta == 0:
        raise ExchangeError(-1013, "Filter failure: TRAILING_DELTA")
    return {"stop_price": stop_price or ZERO, "trailing_delta": delta or 0}


def _iceberg(params: Params, name: str, order_type: OrderType, time_in_force: TimeInForce | None) -> Decimal:
    quantity = params.decimal(name)
    if quantity is None:
        return ZERO
    if not order_type.has_price:
        raise unneeded_parameter(name)
    if time_in_force not in (None, TimeInForce.GTC):
        # The text is documented for the legs of a pair only.
        above_or_below = name.replace("icebergQty", "timeInForce").replace("IcebergQty", "TimeInForce")
        raise ExchangeError(-1160, f"Parameter '{name}' is not supported if `{above_or_below}` is not GTC.")
    if quantity <= ZERO:
        raise ExchangeError(-1013, "Invalid quantity.")
    return quantity


def _market_size(params: Params) -> tuple[Decimal | None, Decimal | None]:
    if params.has("quantity") and params.has("quoteOrderQty"):
        raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    quantity, quote = params.decimal("quantity"), params.decimal("quoteOrderQty")
    if quantity is None and quote is None:
        raise ExchangeError(
            -1102, "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!"
        )
    return quantity, quote


def _side(params: Params, name: str) -> Side:
    side = params.choice(name, Side, -1117, "Invalid side.")
    assert side is not None
    return side


def _type(params: Params, name: str) -> OrderType:
    order_type = params.choice(name, OrderType, -1116, "Invalid orderType.")
    assert order_type is not None
    return order_type


def _prevention(params: Params) -> SelfTradePrevention:
    return (
        params.choice(
            "selfTradePreventionMode",
            SelfTradePrevention,
            -1013,
            "This symbol does not allow the specified self-trade prevention mode.",
        )
        or SelfTradePrevention.EXPIRE_MAKER
    )


def _strategy_type(params: Params, name: str) -> int | None:
    value = params.integer(name)
    if value is not None and value < STRATEGY_TYPE_MIN:
        raise ExchangeError(-1134, f"`strategyType` was less than {STRATEGY_TYPE_MIN}.")
    return value
