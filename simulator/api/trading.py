"""Signed endpoints: orders, trades, account. All times here are server time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from simulator.api.desk import Call, Desk
from simulator.api.limits import order_limits_json
from simulator.api.order_params import parse_order, random_client_id
from simulator.api.params import Params
from simulator.api.render import (
    account_json,
    commission_json,
    list_canceled,
    my_trade,
    order_ack,
    order_canceled,
    order_full,
    order_query,
    order_result,
    prevented_match,
)
from simulator.engine.contracts import (
    Order,
    OrderList,
    OrderStatus,
    OrderType,
)
from simulator.engine.errors import (
    ExchangeError,
    cancel_rejected,
    invalid_parameter,
    unknown_order,
)
from simulator.engine.instruments import filters_json
from simulator.faults import FaultKind

Row = TypeVar("Row", Order, OrderList)
LIST_DEFAULT, LIST_MAX = 500, 1000
DAY_MS = 86_400_000
MY_TRADES_COMBINATIONS: tuple[set[str], ...] = (
    set(),
    {"orderId"},
    {"startTime"},
    {"endTime"},
    {"fromId"},
    {"startTime", "endTime"},
    {"orderId", "fromId"},
)
PREVENTED_COMBINATIONS: tuple[set[str], ...] = (
    {"preventedMatchId"},
    {"orderId"},
    {"orderId", "fromPreventedMatchId"},
    {"orderId", "fromPreventedMatchId", "limit"},
)


def place_order(desk: Desk, call: Call) -> dict[str, Any]:
    """POST order. Answers ACK, RESULT or FULL."""
    request = parse_order(desk, call.params)
    full = request.type in (OrderType.MARKET, OrderType.LIMIT)
    shape = response_shape("FULL" if full else "ACK", call.params)
    desk.limiter.check_orders(call.account.account_id, call.now_ms)
    placement = desk.exchange.place(call.account.account_id, request, call.now_ms)
    desk.limiter.add_orders(call.account.account_id, 1, call.now_ms)
    if shape == "FULL":
        order = placement.order
        matches = desk.exchange.records.prevented_of(order.account_id, order.symbol)
        met = [match for match in matches if match.taker_order_id == order.order_id]
        return order_full(order, placement.trades, met)
    return order_result(placement.order) if shape == "RESULT" else order_ack(placement.order)


def check_order(desk: Desk, call: Call) -> dict[str, Any]:
    """POST order/test: parameters and static filters, no balance."""
    desk.exchange.check(parse_order(desk, call.params))
    if not call.params.boolean("computeCommissionRates", False):
        return {}
    rates = commission_json(call.params.required("symbol"), call.account)
    return {
        "standardCommissionForOrder": {"maker": "0.00100000", "taker": "0.00100000"},
        "specialCommissionForOrder": {"maker": "0.00000000", "taker": "0.00000000"},
        "taxCommissionForOrder": {"maker": "0.00000000", "taker": "0.00000000"},
        "discount": rates["discount"],
    }


def query_order(desk: Desk, call: Call) -> dict[str, Any]:
    """GET order by orderId or origClientOrderId."""
    order = find_order(desk, call, unknown_order)
    if not all_visible(desk, call, [order]):
        raise unknown_order()
    return order_query(order)


def cancel_order(desk: Desk, call: Call) -> dict[str, Any]:
    """DELETE order. -2011 for an order that is not open."""
    cancel_id = call.params.client_id("newClientOrderId") or random_client_id()
    restrictions = call.params.text("cancelRestrictions")
    if restrictions not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
        raise ExchangeError(
            -1145, "`cancelRestrictions` has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`."
        )
    order = find_order(desk, call, cancel_rejected)
    wanted = {"ONLY_NEW": OrderStatus.NEW, "ONLY_PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED}
    if restrictions and order.is_open and order.status is not wanted[restrictions]:
        raise ExchangeError(-2011, "Order was not canceled due to cancel restrictions.")
    return _canceled(desk, call, order, cancel_id)


def cancel_open_orders(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """DELETE openOrders of one symbol. -2011 when there is none."""
    symbol = desk.instrument(call.params.required("symbol")).symbol
    orders = desk.exchange.records.open_orders(call.account.account_id, symbol)
    if not orders:
        raise cancel_rejected()
    # One of a list takes the others with it.
    return [_canceled(desk, call, order, random_client_id()) for order in orders if order.is_open]


def _canceled(desk: Desk, call: Call, order: Order, cancel_id: str) -> dict[str, Any]:
    """Cancel an order; cancelling one of an open list cancels, and reports, the list."""
    records = desk.exchange.records
    order_list = records.lists.get(order.list_id)
    if order_list is None or order_list.is_done:
        return order_canceled(desk.exchange.cancel(order, cancel_id, call.now_ms), cancel_id)
    legs = [leg for leg in records.legs(order_list) if leg.is_open]
    if not order.is_open:
        raise cancel_rejected()
    desk.exchange.cancel_list(order_list, cancel_id, call.now_ms)
    return list_canceled(order_list, records.legs(order_list), legs, cancel_id)


def open_orders(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """GET openOrders of one symbol or of all."""
    symbol = desk.instrument(call.params.required("symbol")).symbol if call.params.has("symbol") else None
    orders = desk.exchange.records.open_orders(call.account.account_id, symbol)
    return [order_query(order) for order in all_visible(desk, call, orders)]


def all_orders(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """GET allOrders: from orderId, or a span of at most 24 h, or the latest."""
    params = call.params
    symbol = desk.instrument(params.required("symbol")).symbol
    from_id = params.integer("orderId")
    start, end = find_span(params)
    orders = [
        order
        for order in desk.exchange.records.orders_of(call.account.account_id, symbol)
        if (from_id is None or order.order_id >= from_id)
        and (start is None or order.created_ms >= start)
        and (end is None or order.created_ms <= end)
    ]
    return [
        order_query(order)
        for order in page(all_visible(desk, call, orders), params, {"orderId", "startTime"})
    ]


def my_trades(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """GET myTrades; only the documented combinations of parameters, else -1128."""
    params = call.params
    symbol = desk.instrument(params.required("symbol")).symbol
    used = params.names() & {"orderId", "startTime", "endTime", "fromId"}
    if used not in MY_TRADES_COMBINATIONS:
        raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    from_id, order_id = params.integer("fromId"), params.integer("orderId")
    start, end = find_span(params)
    trades = [
        trade
        for trade in desk.exchange.records.trades_of(call.account.account_id, symbol)
        if (from_id is None or trade.trade_id >= from_id)
        and (order_id is None or trade.order_id == order_id)
        and (start is None or trade.time_ms >= start)
        and (end is None or trade.time_ms <= end)
    ]
    return [my_trade(trade) for trade in page(trades, params, {"fromId", "orderId", "startTime"})]


def my_prevented_matches(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """GET myPreventedMatches by preventedMatchId or orderId; other combinations of parameters are -1128."""
    params = call.params
    symbol = desk.instrument(params.required("symbol")).symbol
    used = params.names() & {"preventedMatchId", "orderId", "fromPreventedMatchId", "limit"}
    if used not in PREVENTED_COMBINATIONS:
        raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    match_id, order_id = params.integer("preventedMatchId"), params.integer("orderId")
    from_id = params.integer("fromPreventedMatchId", 0) or 0
    matches = [
        match
        for match in desk.exchange.records.prevented_of(call.account.account_id, symbol)
        if match_id in (None, match.match_id)
        and order_id in (None, match.taker_order_id, match.maker_order_id)
        and match.match_id >= from_id
    ]
    return [prevented_match(match) for match in matches[: params.limit(LIST_DEFAULT, LIST_MAX)]]


def account(desk: Desk, call: Call) -> dict[str, Any]:
    return account_json(call.account, call.params.boolean("omitZeroBalances", False))


def account_commission(desk: Desk, call: Call) -> dict[str, Any]:
    return commission_json(desk.instrument(call.params.required("symbol")).symbol, call.account)


def my_filters(desk: Desk, call: Call) -> dict[str, Any]:
    """GET myFilters: what binds this account on a symbol."""
    instrument = desk.instrument(call.params.required("symbol"))
    rules = desk.exchange.rules
    return {
        "exchangeFilters": rules.filters_json(),
        "symbolFilters": filters_json(instrument),
        "assetFilters": rules.assets_json((instrument.base_asset, instrument.quote_asset)),
    }


def order_rate_limits(desk: Desk, call: Call) -> list[dict[str, Any]]:
    return order_limits_json(desk.limiter.order_counts(call.account.account_id, call.now_ms))


def response_shape(default: str, params: Params) -> str:
    """newOrderRespType, or the default."""
    shape = params.text("newOrderRespType") or default
    if shape not in ("ACK", "RESULT", "FULL"):
        # Which code the exchange has for it is not documented: the one of any invalid value.
        raise invalid_parameter("newOrderRespType")
    return shape


def find_order(desk: Desk, call: Call, absent: Callable[[], ExchangeError]) -> Order:
    """By orderId if given (then a client id given as well must agree, -2039), else by client id."""
    symbol = desk.instrument(call.params.required("symbol")).symbol
    order_id = call.params.integer("orderId")
    client_id = call.params.text("origClientOrderId")
    if order_id is None and client_id is None:
        raise ExchangeError(
            -1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!"
        )
    records, account_id = desk.exchange.records, call.account.account_id
    if order_id is not None:
        order = records.by_id(account_id, symbol, order_id)
        if order is not None and client_id not in (None, order.client_order_id):
            raise ExchangeError(-2039, "Client order ID is not correct for this order ID.")
    else:
        assert client_id is not None
        order = records.by_client_id(account_id, symbol, client_id)
    if order is None:
        raise absent()
    return order


def find_span(params: Params) -> tuple[int | None, int | None]:
    """startTime and endTime, at most 24 h apart."""
    start, end = params.moment("startTime", round_up=True), params.moment("endTime")
    if start is not None and end is not None:
        if end - start > DAY_MS:
            raise ExchangeError(-1127, "More than 24 hours between startTime and endTime.")
        if end < start:
            raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    return start, end


def page(rows: list[Any], params: Params, from_oldest: set[str]) -> list[Any]:
    """Ascending; the oldest ones when a beginning was named, else the latest."""
    limit = params.limit(LIST_DEFAULT, LIST_MAX)
    return rows[:limit] if params.names() & from_oldest else rows[-limit:]


def all_visible(desk: Desk, call: Call, rows: list[Row]) -> list[Row]:
    """What the fault not_found_lag leaves; it counts as fired when it hides at least one."""
    symbol = call.params.text("symbol") or ""
    fault = desk.faults.armed(FaultKind.NOT_FOUND_LAG, call.method, call.path, symbol)
    if fault is None:
        return rows
    visible = [row for row in rows if call.now_ms - row.created_ms >= fault.seconds * 1000]
    if len(visible) < len(rows):
        desk.faults.take(FaultKind.NOT_FOUND_LAG, call.method, call.path, call.now_ms, None, symbol)
    return visible
