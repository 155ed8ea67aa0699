"""PUT order/amend/keepPriority, and what was amended before."""

from __future__ import annotations

from typing import Any

from simulator.api.desk import Call, Desk
from simulator.api.order_params import random_client_id
from simulator.api.render import list_json, order_amounts, order_extras
from simulator.api.trading import LIST_DEFAULT, LIST_MAX, find_order
from simulator.decimals import money_text
from simulator.engine.amending import amend_refused
from simulator.engine.contracts import Amendment, Order, OrderList
from simulator.engine.errors import ExchangeError, unknown_order


def keep_priority(desk: Desk, call: Call) -> dict[str, Any]:
    """Reduce an order's quantity. -2038 when the engine does not take it."""
    order = find_order(desk, call, lambda: amend_refused("Unknown order sent."))
    quantity = call.params.required_decimal("newQty")
    if not quantity:
        raise ExchangeError(-1013, "Invalid quantity.")
    client_id = call.params.client_id("newClientOrderId") or random_client_id()
    amendment = desk.exchange.amend(order, quantity, client_id, call.now_ms)
    answer = {
        "transactTime": amendment.time_ms,
        "executionId": amendment.execution_id,
        "amendedOrder": _amended_order(order, amendment.client_order_id_before),
    }
    order_list = desk.exchange.records.lists.get(order.list_id)
    if order_list is None:
        return answer
    return answer | {"listStatus": _list_orders(order_list, desk.exchange.records.legs(order_list))}


def amendments(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """GET order/amendments of one order, from fromExecutionId on."""
    call.params.required("orderId")
    order = find_order(desk, call, unknown_order)
    from_id = call.params.integer("fromExecutionId", 0) or 0
    rows = [row for row in desk.exchange.records.amendments_of(order) if row.execution_id >= from_id]
    return [_amendment_row(row) for row in rows[: call.params.limit(LIST_DEFAULT, LIST_MAX)]]


def _amended_order(order: Order, client_order_id_before: str) -> dict[str, Any]:
    """`amendedOrder` of order/amend/keepPriority, which has names of its own."""
    amounts = order_amounts(order)
    answer = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "origClientOrderId": client_order_id_before,
        "clientOrderId": order.client_order_id,
        "price": amounts["price"],
        "qty": amounts["origQty"],
        "executedQty": amounts["executedQty"],
        "preventedQty": money_text(order.prevented),
        "quoteOrderQty": amounts["origQuoteOrderQty"],
        "cumulativeQuoteQty": amounts["cummulativeQuoteQty"],
        **{name: amounts[name] for name in ("status", "timeInForce", "type", "side")},
        **order_extras(order),
        "selfTradePreventionMode": order.self_trade_prevention,
    }
    return answer | {"workingTime": order.working_ms} if order.working_ms >= 0 else answer


def _amendment_row(amendment: Amendment) -> dict[str, Any]:
    """GET order/amendments."""
    return {
        "symbol": amendment.symbol,
        "orderId": amendment.order_id,
        "executionId": amendment.execution_id,
        "origClientOrderId": amendment.client_order_id_before,
        "newClientOrderId": amendment.client_order_id,
        "origQty": money_text(amendment.quantity_before),
        "newQty": money_text(amendment.quantity),
        "time": amendment.time_ms,
    }


def _list_orders(order_list: OrderList, legs: list[Order]) -> dict[str, Any]:
    """`listStatus` of order/amend/keepPriority."""
    status = list_json(order_list, legs)
    return {
        name: value for name, value in status.items() if name not in ("listStatusType", "transactionTime")
    }
