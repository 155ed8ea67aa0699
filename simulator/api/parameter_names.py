"""The parameters that each endpoint reads (rest-api.md of binance-spot-api-docs).

What is sent beyond them is refused, not ignored: -1101 when there are more than the endpoint has at all, else
-1104. Those of pegged orders are missing on purpose: nothing here reads them.
"""

from __future__ import annotations

NONE: frozenset[str] = frozenset()
SIGNATURE = frozenset({"timestamp", "recvWindow", "signature"})
WS_ALWAYS = frozenset({"returnRateLimits"})

WS_SIGNATURE = SIGNATURE | {"apiKey"}
MANAGING = {
    "userDataStream.subscribe": NONE,
    "userDataStream.subscribe.signature": WS_SIGNATURE,
    "userDataStream.unsubscribe": frozenset({"subscriptionId"}),
    "session.logon": WS_SIGNATURE,
    "session.status": NONE,
    "session.logout": NONE,
    "session.subscriptions": NONE,
}
"""Methods of the WS API that are about the connection itself."""

SYMBOL = frozenset({"symbol"})
SYMBOLS = frozenset({"symbol", "symbols"})
EXCHANGE_INFO = SYMBOLS | {"permissions", "showPermissionSets", "symbolStatus"}
KLINES = SYMBOL | {"interval", "startTime", "endTime", "timeZone", "limit"}
TICKER = SYMBOLS | {"symbolStatus"}
TICKER_DAY = TICKER | {"type"}
DEPTH = SYMBOL | {"limit", "symbolStatus"}
TRADES = SYMBOL | {"limit"}
OLD_TRADES = TRADES | {"fromId"}
AGG_TRADES = OLD_TRADES | {"startTime", "endTime"}

_ANSWER = frozenset({"newOrderRespType", "selfTradePreventionMode"})
_LEG = (
    "Type", "ClientOrderId", "Price", "StopPrice", "TrailingDelta", "IcebergQty", "TimeInForce", "StrategyId",
    "StrategyType",
)  # fmt: skip
_PAIR = tuple(side + name for side in ("Above", "Below") for name in _LEG)


def _prefixed(prefix: str, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(prefix + name for name in names)


ORDER = (
    SYMBOL
    | _ANSWER
    | {
        "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "newClientOrderId", "strategyId",
        "strategyType", "stopPrice", "trailingDelta", "icebergQty",
    }
)  # fmt: skip
ORDER_TEST = ORDER | {"computeCommissionRates"}
FIND_ORDER = SYMBOL | {"orderId", "origClientOrderId"}
CANCEL = FIND_ORDER | {"newClientOrderId", "cancelRestrictions"}
AMEND = FIND_ORDER | {"newClientOrderId", "newQty"}
AMENDMENTS = SYMBOL | {"orderId", "fromExecutionId", "limit"}
CANCEL_REPLACE = ORDER | {
    "cancelReplaceMode", "cancelNewClientOrderId", "cancelOrigClientOrderId", "cancelOrderId",
    "cancelRestrictions", "orderRateLimitExceededMode",
}  # fmt: skip
ALL_ORDERS = TRADES | {"orderId", "startTime", "endTime"}
MY_TRADES = AGG_TRADES | {"orderId"}
PREVENTED = TRADES | {"preventedMatchId", "orderId", "fromPreventedMatchId"}

_LIST = SYMBOL | _ANSWER | {"listClientOrderId"}
_WORKING = _prefixed("working", (*_LEG[:3], "Side", "Quantity", *_LEG[5:]))
OCO = _LIST | {"side", "quantity"} | _prefixed("above", _LEG) | _prefixed("below", _LEG)
OPO = _LIST | _WORKING | {"pendingSide"} | _prefixed("pending", _LEG)
OPOCO = _LIST | _WORKING | {"pendingSide"} | _prefixed("pending", _PAIR)
OTO = OPO | {"pendingQuantity"}
OTOCO = OPOCO | {"pendingQuantity"}
CANCEL_LIST = SYMBOL | {"orderListId", "listClientOrderId", "newClientOrderId"}
FIND_LIST = frozenset({"orderListId", "origClientOrderId"})
ALL_LISTS = frozenset({"fromId", "startTime", "endTime", "limit"})
