"""Orders, lists, trades, candles and market events as the JSON that Binance sends."""

from __future__ import annotations

from typing import Any

from simulator.decimals import money_text, units_text
from simulator.engine.contracts import (
    Account,
    ListPlacement,
    Order,
    OrderList,
    PreventedMatch,
    Side,
    Trade,
)
from simulator.engine.settlement import BNB, BNB_DISCOUNT
from simulator.market.candles import Candle, interval_close_ms
from simulator.market.tape import Tick

NO_MONEY = "0.00000000"
NO_TRADE_GROUP = -1
"""Accounts here belong to no trade group."""


def order_ack(order: Order) -> dict[str, Any]:
    """newOrderRespType ACK."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_order_id,
        "transactTime": order.updated_ms,
    }


def order_result(order: Order) -> dict[str, Any]:
    """newOrderRespType RESULT."""
    result = order_ack(order) | {
        **order_amounts(order),
        **order_extras(order),
        "workingTime": order.working_ms,
        "selfTradePreventionMode": order.self_trade_prevention,
    }
    return _with_expiry(result, order)


def order_full(order: Order, trades: list[Trade], prevented: list[PreventedMatch]) -> dict[str, Any]:
    """newOrderRespType FULL: RESULT with the fills, and with the matches that were prevented, if there were any."""
    shown = {"preventedMatches": [_prevented_of_taker(match) for match in prevented]} if prevented else {}
    return (
        order_result(order)
        | shown
        | {
            "fills": [
                {
                    "price": money_text(trade.price),
                    "qty": money_text(trade.quantity),
                    "commission": money_text(trade.commission),
                    "commissionAsset": trade.commission_asset,
                    "tradeId": trade.trade_id,
                }
                for trade in trades
            ]
        }
    )


def _prevented_of_taker(match: PreventedMatch) -> dict[str, Any]:
    return {
        "preventedMatchId": match.match_id,
        "makerSymbol": match.symbol,
        "makerOrderId": match.maker_order_id,
        "price": money_text(match.price),
        **_prevented_quantities(match),
    }


def _prevented_quantities(match: PreventedMatch) -> dict[str, str]:
    named = (
        ("takerPreventedQuantity", match.taker_quantity),
        ("makerPreventedQuantity", match.maker_quantity),
    )
    return {name: money_text(quantity) for name, quantity in named if quantity is not None}


def prevented_match(match: PreventedMatch) -> dict[str, Any]:
    """GET myPreventedMatches."""
    return {
        "symbol": match.symbol,
        "preventedMatchId": match.match_id,
        "takerOrderId": match.taker_order_id,
        "makerSymbol": match.symbol,
        "makerOrderId": match.maker_order_id,
        "tradeGroupId": NO_TRADE_GROUP,
        "selfTradePreventionMode": match.mode,
        "price": money_text(match.price),
        **_prevented_quantities(match),
        "transactTime": match.time_ms,
    }


def order_query(order: Order) -> dict[str, Any]:
    """GET order, openOrders, allOrders."""
    result = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_order_id,
        **order_amounts(order),
        **order_extras(order),
        "stopPrice": money_text(order.stop_price),
        "icebergQty": money_text(order.iceberg_quantity),
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.is_working,
        "workingTime": order.working_ms,
        "selfTradePreventionMode": order.self_trade_prevention,
    }
    return _with_expiry(result, order)


def order_canceled(order: Order, cancel_client_order_id: str) -> dict[str, Any]:
    """DELETE order: `clientOrderId` is the id of the cancel request, `origClientOrderId` the order's."""
    return {
        "symbol": order.symbol,
        "origClientOrderId": order.client_order_id,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": cancel_client_order_id,
        "transactTime": order.updated_ms,
        **order_amounts(order),
        **order_extras(order),
        "selfTradePreventionMode": order.self_trade_prevention,
    }


def order_amounts(order: Order) -> dict[str, Any]:
    """What every report of an order shows of it."""
    return {
        "price": money_text(order.price),
        "origQty": money_text(order.quantity),
        "executedQty": money_text(order.executed),
        "origQuoteOrderQty": money_text(order.quote_quantity),
        "cummulativeQuoteQty": money_text(order.executed_quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
    }


def order_extras(order: Order) -> dict[str, Any]:
    """Fields that are only there when they mean something (binance.md §2.4)."""
    extras: dict[str, Any] = {}
    if order.type.is_stop:
        extras["stopPrice"] = money_text(order.stop_price)
    if order.iceberg_quantity:
        extras["icebergQty"] = money_text(order.iceberg_quantity)
    if order.trailing_delta:
        extras["trailingDelta"] = order.trailing_delta
        extras["trailingTime"] = order.trailing_ms
    if order.prevented:
        extras["preventedMatchId"] = order.prevented_match_id
        extras["preventedQuantity"] = money_text(order.prevented)
    if order.strategy_id is not None:
        extras["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        extras["strategyType"] = order.strategy_type
    return extras


def list_json(order_list: OrderList, legs: list[Order]) -> dict[str, Any]:
    """GET orderList, openOrderList, allOrderList."""
    return {
        "orderListId": order_list.list_id,
        "contingencyType": order_list.kind.contingency,
        "listStatusType": "ALL_DONE" if order_list.is_done else "EXEC_STARTED",
        "listOrderStatus": "ALL_DONE" if order_list.is_done else "EXECUTING",
        "listClientOrderId": order_list.client_order_id,
        "transactionTime": order_list.updated_ms,
        "symbol": order_list.symbol,
        "orders": [
            {"symbol": leg.symbol, "orderId": leg.order_id, "clientOrderId": leg.client_order_id}
            for leg in legs
        ],
    }


def list_placed(placement: ListPlacement, shape: str, prevented: list[PreventedMatch]) -> dict[str, Any]:
    """POST orderList/…: the list with a report of each leg, in the shape that newOrderRespType names."""
    reports = []
    for order in placement.orders:
        if shape == "ACK":
            reports.append(order_ack(order))
        elif shape == "RESULT":
            reports.append(order_result(order))
        else:
            own = [trade for trade in placement.trades if trade.order_id == order.order_id]
            met = [match for match in prevented if match.taker_order_id == order.order_id]
            reports.append(order_full(order, own, met))
    return list_json(placement.order_list, placement.orders) | {"orderReports": reports}


def list_canceled(
    order_list: OrderList, legs: list[Order], canceled: list[Order], cancel_client_order_id: str
) -> dict[str, Any]:
    """DELETE orderList, and the cancel of one of its legs."""
    reports = [order_canceled(leg, cancel_client_order_id) for leg in canceled]
    return list_json(order_list, legs) | {"orderReports": reports}


def _with_expiry(result: dict[str, Any], order: Order) -> dict[str, Any]:
    if order.expiry_reason is not None:
        result["expiryReason"] = order.expiry_reason
    return result


def my_trade(trade: Trade) -> dict[str, Any]:
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "orderListId": trade.list_id,
        "price": money_text(trade.price),
        "qty": money_text(trade.quantity),
        "quoteQty": money_text(trade.quote_quantity),
        "commission": money_text(trade.commission),
        "commissionAsset": trade.commission_asset,
        "time": trade.time_ms,
        "isBuyer": trade.side is Side.BUY,
        "isMaker": trade.is_maker,
        "isBestMatch": True,
    }


def account_json(account: Account, omit_zero: bool) -> dict[str, Any]:
    return {
        "makerCommission": 10,
        "takerCommission": 10,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            "maker": "0.00100000",
            "taker": "0.00100000",
            "buyer": NO_MONEY,
            "seller": NO_MONEY,
        },
        "canTrade": True,
        "canWithdraw": True,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": account.updated_ms,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": money_text(balance.free), "locked": money_text(balance.locked)}
            for asset, balance in sorted(account.balances.items())
            if not omit_zero or balance.free or balance.locked
        ],
        "permissions": ["SPOT"],
        "uid": account.account_id,
    }


def commission_json(symbol: str, account: Account) -> dict[str, Any]:
    zero = {"maker": NO_MONEY, "taker": NO_MONEY, "buyer": NO_MONEY, "seller": NO_MONEY}
    return {
        "symbol": symbol,
        "standardCommission": zero | {"maker": "0.00100000", "taker": "0.00100000"},
        "specialCommission": zero,
        "taxCommission": zero,
        "discount": {
            "enabledForAccount": account.pays_in_bnb,
            "enabledForSymbol": True,
            "discountAsset": BNB,
            "discount": money_text(BNB_DISCOUNT),
        },
    }


def kline_row(candle: Candle, interval: str, offset_ms: int = 0) -> list[Any]:
    """A candle of GET klines, in a time zone that is `offset_ms` ahead of UTC."""
    return [
        candle.open_ms,
        units_text(candle.open),
        units_text(candle.high),
        units_text(candle.low),
        units_text(candle.close),
        units_text(candle.volume),
        interval_close_ms(interval, candle.open_ms, offset_ms),
        units_text(candle.quote_volume),
        candle.trades,
        units_text(candle.taker_volume),
        units_text(candle.taker_quote_volume),
        "0",
    ]


def kline_event(
    symbol: str, candle: Candle, interval: str, close_ms: int, event_ms: int, closed: bool
) -> dict[str, Any]:
    """A message of <symbol>@kline_<interval>."""
    last_id = candle.first_trade_id + candle.trades - 1 if candle.trades else -1
    return {
        "e": "kline",
        "E": event_ms,
        "s": symbol,
        "k": {
            "t": candle.open_ms,
            "T": close_ms,
            "s": symbol,
            "i": interval,
            "f": candle.first_trade_id if candle.trades else -1,
            "L": last_id,
            "o": units_text(candle.open),
            "c": units_text(candle.close),
            "h": units_text(candle.high),
            "l": units_text(candle.low),
            "v": units_text(candle.volume),
            "n": candle.trades,
            "x": closed,
            "q": units_text(candle.quote_volume),
            "V": units_text(candle.taker_volume),
            "Q": units_text(candle.taker_quote_volume),
            "B": "0",
        },
    }


def trade_event(tick: Tick) -> dict[str, Any]:
    return {
        "e": "trade",
        "E": tick.time_ms,
        "s": tick.symbol,
        "t": tick.trade_id,
        "p": units_text(tick.price),
        "q": units_text(tick.quantity),
        "T": tick.time_ms,
        "m": tick.buyer_is_maker,
        "M": True,
    }


def agg_trade_event(tick: Tick) -> dict[str, Any]:
    """An aggregate trade; every one holds a single trade here, so the ids are the same."""
    return {
        "e": "aggTrade",
        "E": tick.time_ms,
        "s": tick.symbol,
        "a": tick.trade_id,
        "p": units_text(tick.price),
        "q": units_text(tick.quantity),
        "f": tick.trade_id,
        "l": tick.trade_id,
        "T": tick.time_ms,
        "m": tick.buyer_is_maker,
        "M": True,
    }


def public_trade(tick: Tick) -> dict[str, Any]:
    """An entry of GET trades."""
    return {
        "id": tick.trade_id,
        "price": units_text(tick.price),
        "qty": units_text(tick.quantity),
        "quoteQty": units_text(tick.price * tick.quantity // 10**8),
        "time": tick.time_ms,
        "isBuyerMaker": tick.buyer_is_maker,
        "isBestMatch": True,
    }


def agg_trade(tick: Tick) -> dict[str, Any]:
    """An entry of GET aggTrades."""
    event = agg_trade_event(tick)
    return {name: event[name] for name in "apqflTmM"}
