"""Orders, trades, candles and events as the JSON that Binance sends."""

from __future__ import annotations

from typing import Any

from simulator.decimals import ZERO, money_text, units_text
from simulator.engine.contracts import (
    Account,
    AccountEvent,
    DepositEvent,
    Execution,
    Order,
    OrderEvent,
    PositionEvent,
    Side,
    Trade,
)
from simulator.market.candles import Candle, interval_close_ms
from simulator.market.tape import Tick

NO_MONEY = "0.00000000"


def order_ack(order: Order) -> dict[str, Any]:
    """newOrderRespType ACK."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "transactTime": order.updated_ms,
    }


def order_result(order: Order) -> dict[str, Any]:
    """newOrderRespType RESULT."""
    result = order_ack(order) | {
        **_order_amounts(order),
        "workingTime": order.working_ms,
        "selfTradePreventionMode": order.self_trade_prevention,
    }
    return _with_expiry(result, order)


def order_full(order: Order, trades: list[Trade]) -> dict[str, Any]:
    """newOrderRespType FULL: RESULT with the fills."""
    return order_result(order) | {
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


def order_query(order: Order) -> dict[str, Any]:
    """GET order, openOrders, allOrders."""
    result = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        **_order_amounts(order),
        "stopPrice": NO_MONEY,
        "icebergQty": NO_MONEY,
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": True,
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
        "orderListId": -1,
        "clientOrderId": cancel_client_order_id,
        "transactTime": order.updated_ms,
        **_order_amounts(order),
        "selfTradePreventionMode": order.self_trade_prevention,
    }


def _order_amounts(order: Order) -> dict[str, Any]:
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


def _with_expiry(result: dict[str, Any], order: Order) -> dict[str, Any]:
    if order.expiry_reason is not None:
        result["expiryReason"] = order.expiry_reason
    return result


def my_trade(trade: Trade) -> dict[str, Any]:
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "orderListId": -1,
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


def commission_json(symbol: str) -> dict[str, Any]:
    zero = {"maker": NO_MONEY, "taker": NO_MONEY, "buyer": NO_MONEY, "seller": NO_MONEY}
    return {
        "symbol": symbol,
        "standardCommission": zero | {"maker": "0.00100000", "taker": "0.00100000"},
        "specialCommission": zero,
        "taxCommission": zero,
        # Commission is always taken from the received asset here, so there is no BNB discount.
        "discount": {
            "enabledForAccount": False,
            "enabledForSymbol": False,
            "discountAsset": "BNB",
            "discount": NO_MONEY,
        },
    }


def kline_row(candle: Candle, interval: str) -> list[Any]:
    """A candle of GET klines."""
    return [
        candle.open_ms,
        units_text(candle.open),
        units_text(candle.high),
        units_text(candle.low),
        units_text(candle.close),
        units_text(candle.volume),
        interval_close_ms(interval, candle.open_ms),
        units_text(candle.quote_volume),
        candle.trades,
        units_text(candle.taker_volume),
        units_text(candle.taker_quote_volume),
        "0",
    ]


def kline_event(symbol: str, candle: Candle, interval: str, event_ms: int, closed: bool) -> dict[str, Any]:
    """A message of <symbol>@kline_<interval>."""
    last_id = candle.first_trade_id + candle.trades - 1 if candle.trades else -1
    return {
        "e": "kline",
        "E": event_ms,
        "s": symbol,
        "k": {
            "t": candle.open_ms,
            "T": interval_close_ms(interval, candle.open_ms),
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


def account_event(event: AccountEvent) -> dict[str, Any]:
    """The `event` of a user-data frame."""
    if isinstance(event, OrderEvent):
        return _execution_report(event)
    if isinstance(event, PositionEvent):
        return _position(event)
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
        "P": NO_MONEY,
        "F": NO_MONEY,
        "g": -1,
        "C": order.client_order_id if canceled else "",
        "x": event.execution,
        "X": order.status,
        "r": "NONE",
        "i": order.order_id,
        "l": money_text(trade.quantity if trade else ZERO),
        "z": money_text(order.executed),
        "L": money_text(trade.price if trade else ZERO),
        "n": money_text(trade.commission) if trade else "0",
        "N": trade.commission_asset if trade else None,
        "T": event.time_ms,
        "t": trade.trade_id if trade else -1,
        "I": event.execution_id,
        "w": order.is_open,
        "m": trade.is_maker if trade else False,
        "M": trade is not None,
        "O": order.created_ms,
        "Z": money_text(order.executed_quote),
        "Y": money_text(trade.quote_quantity if trade else ZERO),
        "Q": money_text(order.quote_quantity),
        "W": order.working_ms,
        "V": order.self_trade_prevention,
    }
    if order.expiry_reason is not None:
        report["eR"] = order.expiry_reason
    return report
