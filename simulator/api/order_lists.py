"""Endpoints of order lists (binance.md §2.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.api.desk import Call, Desk, Handler
from simulator.api.order_params import parse_list, random_client_id
from simulator.api.render import list_canceled, list_json, list_placed
from simulator.api.trading import all_visible, find_span, page, response_shape
from simulator.engine.contracts import ListKind, OrderList
from simulator.engine.errors import ExchangeError, cancel_rejected, unknown_order

UNFILLED = {
    ListKind.OCO: 2, ListKind.OTO: 2, ListKind.OPO: 2, ListKind.OTOCO: 3, ListKind.OPOCO: 3,
}  # fmt: skip
"""What a list adds to the unfilled-order count."""


def placing(kind: ListKind) -> Handler:
    """The endpoint that places lists of a kind."""

    def place(desk: Desk, call: Call) -> dict[str, Any]:
        request = parse_list(desk, call.params, kind)
        shape = response_shape("RESULT", call.params)
        account_id = call.account.account_id
        desk.limiter.check_orders(account_id, call.now_ms, UNFILLED[kind])
        placement = desk.exchange.place_list(account_id, request, call.now_ms)
        desk.limiter.add_orders(account_id, UNFILLED[kind], call.now_ms)
        return list_placed(placement, shape, desk.exchange.records.prevented_of(account_id, request.symbol))

    return place


def cancel_list(desk: Desk, call: Call) -> dict[str, Any]:
    """DELETE orderList by orderListId or listClientOrderId. -2011 when it is not open."""
    symbol = desk.instrument(call.params.required("symbol")).symbol
    order_list = _find(desk, call, "listClientOrderId", cancel_rejected)
    if order_list.symbol != symbol:
        raise cancel_rejected()
    cancel_id = call.params.client_id("newClientOrderId") or random_client_id()
    records = desk.exchange.records
    legs = [leg for leg in records.legs(order_list) if leg.is_open]
    desk.exchange.cancel_list(order_list, cancel_id, call.now_ms)
    return list_canceled(order_list, records.legs(order_list), legs, cancel_id)


def query_list(desk: Desk, call: Call) -> dict[str, Any]:
    """GET orderList by orderListId or origClientOrderId."""
    order_list = _find(desk, call, "origClientOrderId", unknown_order)
    if not all_visible(desk, call, [order_list]):
        raise unknown_order()
    return list_json(order_list, desk.exchange.records.legs(order_list))


def open_lists(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """GET openOrderList: of all symbols."""
    records = desk.exchange.records
    lists = all_visible(desk, call, records.open_lists(call.account.account_id))
    return [list_json(order_list, records.legs(order_list)) for order_list in lists]


def all_lists(desk: Desk, call: Call) -> list[dict[str, Any]]:
    """GET allOrderList: from fromId, or a span of at most 24 h, or the latest."""
    params, records = call.params, desk.exchange.records
    from_id = params.integer("fromId")
    start, end = find_span(params)
    if from_id is not None and (start is not None or end is not None):
        raise ExchangeError(-1128, "Combination of optional parameters invalid.")
    lists = [
        order_list
        for order_list in records.lists_of(call.account.account_id)
        if (from_id is None or order_list.list_id >= from_id)
        and (start is None or order_list.created_ms >= start)
        and (end is None or order_list.created_ms <= end)
    ]
    chosen = page(all_visible(desk, call, lists), params, {"fromId", "startTime"})
    return [list_json(order_list, records.legs(order_list)) for order_list in chosen]


def _find(desk: Desk, call: Call, client_name: str, absent: Callable[[], ExchangeError]) -> OrderList:
    list_id = call.params.integer("orderListId")
    client_id = call.params.text(client_name)
    if list_id is None and client_id is None:
        raise ExchangeError(
            -1102, f"Param '{client_name}' or 'orderListId' must be sent, but both were empty/null!"
        )
    found = None
    for order_list in desk.exchange.records.lists_of(call.account.account_id):
        by_id = list_id is None or order_list.list_id == list_id
        if by_id and client_id in (None, order_list.client_order_id):
            # After a client id was used again, the latest list answers to it.
            found = order_list
    if found is None:
        raise absent()
    return found
