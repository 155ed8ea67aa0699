"""User-data events as the JSON that Binance sends (binance.md §7)."""

from __future__ import annotations

from typing import Any

from simulator.api.render import NO_TRADE_GROUP
from simulator.decimals import ZERO, amount, money_text
from simulator.engine.contracts import (
    AccountEvent,
    DepositEvent,
    Execution,
    ListEvent,
    Order,
    OrderEvent,
    PositionEvent,
)


def account_event(event: AccountEvent) -> dict[str, Any]:
    """The `event` of a user-data frame."""
    if isinstance(event, OrderEvent):
        return _execution_report(event)
    if isinstance(event, PositionEvent):
        return _position(event)
    if isinstance(event, ListEvent):
        return _list_status(event)
    return _balance_update(event)


def _position(event: PositionEvent) -> dict[str, Any]:
    return {
        "e": "outboundAccountPosition",
        "E": event.time_ms,
        "u": event.time_ms,
        "B": [
            {"a": asset, "f": money_text(free), "l": money_text(locked)}
            for asset, (free, locked) in event.balances.items()
        ],
    }


def _balance_update(event: DepositEvent) -> dict[str, Any]:
    return {
        "e": "balanceUpdate",
        "E": event.time_ms,
        "a": event.asset,
        "d": money_text(event.amount),
        "T": event.time_ms,
    }


def _execution_report(event: OrderEvent) -> dict[str, Any]:
    order, trade = event.order, event.trade
    canceled = event.execution is Execution.CANCELED
    report: dict[str, Any] = {
        "e": "executionReport",
        "E": event.time_ms,
        "s": order.symbol,
        # On a cancel c is the id of the cancel request and C the order's own (binance.md §3).
        "c": event.cancel_client_order_id if canceled else order.client_order_id,
        "S": order.side,
        "o": order.type,
        "f": order.time_in_force,
        "q": money_text(order.quantity),
        "p": money_text(order.price),
        "P": money_text(order.stop_price),
        "F": money_text(order.iceberg_quantity),
        "g": order.list_id,
        "C": order.client_order_id if canceled else "",
        "x": event.execution,
        "X": order.status,
        "r": order.reject_reason,
        "i": order.order_id,
        "l": money_text(trade.quantity if trade else ZERO),
        "z": money_text(order.executed),
        "L": money_text(trade.price if trade else ZERO),
        "n": money_text(trade.commission) if trade else "0",
        "N": trade.commission_asset if trade else None,
        "T": event.time_ms,
        "t": trade.trade_id if trade else -1,
        "I": event.execution_id,
        "w": order.is_open and order.is_working,
        "m": trade.is_maker if trade else False,
        "M": trade is not None,
        "O": order.created_ms,
        "Z": money_text(order.executed_quote),
        "Y": money_text(trade.quote_quantity if trade else ZERO),
        "Q": money_text(order.quote_quantity),
        "V": order.self_trade_prevention,
    }
    return report | _conditional(order) | _prevention(event)


def _prevention(event: OrderEvent) -> dict[str, Any]:
    """What self-trade prevention took from the order, and by which other one."""
    order, match = event.order, event.prevented
    if not order.prevented:
        return {}
    fields: dict[str, Any] = {"v": order.prevented_match_id, "A": money_text(order.prevented)}
    if match is not None:
        took = match.taker_quantity if order.order_id == match.taker_order_id else match.maker_quantity
        other = match.maker_order_id if order.order_id == match.taker_order_id else match.taker_order_id
        quantity = took or ZERO
        fields |= {
            "B": money_text(quantity),
            "u": NO_TRADE_GROUP,
            "U": other,
            "Cs": match.symbol,
            "pl": money_text(quantity),
            "pL": money_text(match.price),
            "pY": money_text(amount(match.price, quantity)),
        }
    return fields


def _conditional(order: Order) -> dict[str, Any]:
    """Fields of an executionReport that are only there when they mean something (binance.md §7)."""
    fields: dict[str, Any] = {}
    if order.working_ms >= 0:
        fields["W"] = order.working_ms
    if order.trailing_delta:
        fields["d"] = order.trailing_delta
        if order.trailing_ms >= 0:
            fields["D"] = order.trailing_ms
    if order.strategy_id is not None:
        fields["j"] = order.strategy_id
    if order.strategy_type is not None:
        fields["J"] = order.strategy_type
    if order.expiry_reason is not None:
        fields["eR"] = order.expiry_reason
    return fields


def _list_status(event: ListEvent) -> dict[str, Any]:
    order_list = event.order_list
    return {
        "e": "listStatus",
        "E": event.time_ms,
        "s": order_list.symbol,
        "g": order_list.list_id,
        "c": order_list.kind.contingency,
        "l": "UPDATED" if event.renamed else "ALL_DONE" if order_list.is_done else "EXEC_STARTED",
        "L": "ALL_DONE" if order_list.is_done else "EXECUTING",
        "r": "NONE",
        "C": order_list.client_order_id,
        "T": event.time_ms,
        "O": [
            {"s": order_list.symbol, "i": order_id, "c": client_id} for order_id, client_id in event.orders
        ],
    }
