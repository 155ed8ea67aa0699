"""Which endpoint answers where, what it costs and whether it must be signed (binance.md §2.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from simulator.api import amend, order_lists, public, replace, trading
from simulator.api import parameter_names as names
from simulator.api.desk import Call, Handler
from simulator.api.params import Params
from simulator.engine.contracts import ListKind


def _depth_weight(params: Params) -> int:
    limit = params.integer("limit", 100) or 100
    return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250


def _by_symbol(one: int, all_: int) -> Callable[[Params], int]:
    return lambda params: one if params.has("symbol") else all_


def _day_weight(params: Params) -> int:
    """A list of symbols costs by its length; nothing named is everything."""
    if params.has("symbol"):
        return 2
    named = params.raw("symbols").count(",") + 1 if params.has("symbols") else 101
    return 2 if named <= 20 else 40 if named <= 100 else 80


def _by_order(with_order: int, without: int) -> Callable[[Params], int]:
    return lambda params: with_order if params.has("orderId") else without


@cache
def _known(reads: frozenset[str], signed: bool, over_ws: bool) -> frozenset[str]:
    signature = names.WS_SIGNATURE if over_ws else names.SIGNATURE
    return reads | (signature if signed else names.NONE) | (names.WS_ALWAYS if over_ws else names.NONE)


@dataclass(slots=True, frozen=True)
class Endpoint:
    """`reads` are the parameters that it knows beside those of the signature. `free_on_success`: order requests
    cost weight only when they fail (since 2026-04-02)."""

    handler: Handler
    weight: int | Callable[[Params], int]
    reads: frozenset[str]
    signed: bool = False
    free_on_success: bool = False

    def cost(self, params: Params) -> int:
        return self.weight if isinstance(self.weight, int) else self.weight(params)

    def check_names(self, call: Call) -> None:
        """-1101 or -1104 when something was sent that this endpoint does not read."""
        call.params.check_known(_known(self.reads, self.signed, call.method == "WS"))


PING = Endpoint(public.ping, 1, names.NONE)
TIME = Endpoint(public.time, 1, names.NONE)
EXCHANGE_INFO = Endpoint(public.exchange_info, 20, names.EXCHANGE_INFO)
KLINES = Endpoint(public.klines, 2, names.KLINES)
TICKER_PRICE = Endpoint(public.ticker_price, _by_symbol(2, 4), names.TICKER)
BOOK_TICKER = Endpoint(public.book_ticker, _by_symbol(2, 4), names.TICKER)
TICKER_24HR = Endpoint(public.ticker_24hr, _day_weight, names.TICKER_DAY)
AVG_PRICE = Endpoint(public.avg_price, 2, names.SYMBOL)
EXECUTION_RULES = Endpoint(public.execution_rules, _by_symbol(2, 40), names.TICKER)
REFERENCE_PRICE = Endpoint(public.reference_price, 2, names.SYMBOL)
DEPTH = Endpoint(public.depth, _depth_weight, names.DEPTH)
TRADES = Endpoint(public.trades, 25, names.TRADES)
HISTORICAL_TRADES = Endpoint(public.historical_trades, 25, names.OLD_TRADES)
AGG_TRADES = Endpoint(public.agg_trades, 4, names.AGG_TRADES)
ACCOUNT = Endpoint(trading.account, 20, frozenset({"omitZeroBalances"}), signed=True)
COMMISSION = Endpoint(trading.account_commission, 20, names.SYMBOL, signed=True)
PLACE_ORDER = Endpoint(trading.place_order, 1, names.ORDER, signed=True, free_on_success=True)
CHECK_ORDER = Endpoint(
    trading.check_order,
    lambda params: 20 if params.has("computeCommissionRates") else 1,
    names.ORDER_TEST,
    signed=True,
)
QUERY_ORDER = Endpoint(trading.query_order, 4, names.FIND_ORDER, signed=True)
CANCEL_ORDER = Endpoint(trading.cancel_order, 1, names.CANCEL, signed=True, free_on_success=True)
OPEN_ORDERS = Endpoint(trading.open_orders, _by_symbol(6, 80), names.SYMBOL, signed=True)
CANCEL_OPEN_ORDERS = Endpoint(trading.cancel_open_orders, 1, names.SYMBOL, signed=True, free_on_success=True)
ALL_ORDERS = Endpoint(trading.all_orders, 20, names.ALL_ORDERS, signed=True)
MY_TRADES = Endpoint(trading.my_trades, _by_order(5, 20), names.MY_TRADES, signed=True)
MY_PREVENTED_MATCHES = Endpoint(
    trading.my_prevented_matches,
    lambda params: 20 if params.has("orderId") else 2,
    names.PREVENTED,
    signed=True,
)
ORDER_RATE_LIMITS = Endpoint(trading.order_rate_limits, 40, names.NONE, signed=True)

AMEND = Endpoint(amend.keep_priority, 4, names.AMEND, signed=True)
AMENDMENTS = Endpoint(amend.amendments, 4, names.AMENDMENTS, signed=True)
CANCEL_REPLACE = Endpoint(replace.cancel_replace, 1, names.CANCEL_REPLACE, signed=True, free_on_success=True)
PLACE_LIST = {
    kind: Endpoint(order_lists.placing(kind), 1, getattr(names, kind), signed=True, free_on_success=True)
    for kind in ListKind
}
CANCEL_LIST = Endpoint(order_lists.cancel_list, 1, names.CANCEL_LIST, signed=True, free_on_success=True)
QUERY_LIST = Endpoint(order_lists.query_list, 4, names.FIND_LIST, signed=True)
OPEN_LISTS = Endpoint(order_lists.open_lists, 6, names.NONE, signed=True)
ALL_LISTS = Endpoint(order_lists.all_lists, 20, names.ALL_LISTS, signed=True)
MY_FILTERS = Endpoint(trading.my_filters, 40, names.SYMBOL, signed=True)

REST_PREFIX = "/api/v3/"
REST: dict[tuple[str, str], Endpoint] = {
    ("GET", "ping"): PING,
    ("GET", "time"): TIME,
    ("GET", "exchangeInfo"): EXCHANGE_INFO,
    ("GET", "klines"): KLINES,
    ("GET", "uiKlines"): KLINES,
    ("GET", "ticker/price"): TICKER_PRICE,
    ("GET", "ticker/bookTicker"): BOOK_TICKER,
    ("GET", "ticker/24hr"): TICKER_24HR,
    ("GET", "avgPrice"): AVG_PRICE,
    ("GET", "executionRules"): EXECUTION_RULES,
    ("GET", "referencePrice"): REFERENCE_PRICE,
    ("GET", "depth"): DEPTH,
    ("GET", "trades"): TRADES,
    ("GET", "historicalTrades"): HISTORICAL_TRADES,
    ("GET", "aggTrades"): AGG_TRADES,
    ("GET", "account"): ACCOUNT,
    ("GET", "account/commission"): COMMISSION,
    ("POST", "order"): PLACE_ORDER,
    ("POST", "order/test"): CHECK_ORDER,
    ("GET", "order"): QUERY_ORDER,
    ("DELETE", "order"): CANCEL_ORDER,
    ("GET", "openOrders"): OPEN_ORDERS,
    ("DELETE", "openOrders"): CANCEL_OPEN_ORDERS,
    ("GET", "allOrders"): ALL_ORDERS,
    ("GET", "myTrades"): MY_TRADES,
    ("GET", "myPreventedMatches"): MY_PREVENTED_MATCHES,
    ("GET", "rateLimit/order"): ORDER_RATE_LIMITS,
    ("PUT", "order/amend/keepPriority"): AMEND,
    ("GET", "order/amendments"): AMENDMENTS,
    ("POST", "order/cancelReplace"): CANCEL_REPLACE,
    **{("POST", f"orderList/{kind.lower()}"): endpoint for kind, endpoint in PLACE_LIST.items()},
    ("GET", "orderList"): QUERY_LIST,
    ("DELETE", "orderList"): CANCEL_LIST,
    ("GET", "openOrderList"): OPEN_LISTS,
    ("GET", "allOrderList"): ALL_LISTS,
    ("GET", "myFilters"): MY_FILTERS,
}

GONE = {"userDataStream", "userDataStream/isolated"}
"""The listenKey paths ended on 2026-02-20."""

WS_API: dict[str, Endpoint] = {
    "ping": PING,
    "time": TIME,
    "exchangeInfo": EXCHANGE_INFO,
    "klines": KLINES,
    "uiKlines": KLINES,
    "ticker.price": TICKER_PRICE,
    "ticker.book": BOOK_TICKER,
    "ticker.24hr": TICKER_24HR,
    "avgPrice": AVG_PRICE,
    "executionRules": EXECUTION_RULES,
    "referencePrice": REFERENCE_PRICE,
    "depth": DEPTH,
    "trades.recent": TRADES,
    "trades.historical": HISTORICAL_TRADES,
    "trades.aggregate": AGG_TRADES,
    "account.status": ACCOUNT,
    "account.commission": COMMISSION,
    "account.rateLimits.orders": ORDER_RATE_LIMITS,
    "order.place": PLACE_ORDER,
    "order.test": CHECK_ORDER,
    "order.status": QUERY_ORDER,
    "order.cancel": CANCEL_ORDER,
    "openOrders.status": OPEN_ORDERS,
    "openOrders.cancelAll": CANCEL_OPEN_ORDERS,
    "allOrders": ALL_ORDERS,
    "myTrades": MY_TRADES,
    "myPreventedMatches": MY_PREVENTED_MATCHES,
    "order.amend.keepPriority": AMEND,
    "order.amendments": AMENDMENTS,
    "order.cancelReplace": CANCEL_REPLACE,
    **{f"orderList.place.{kind.lower()}": endpoint for kind, endpoint in PLACE_LIST.items()},
    "orderList.status": QUERY_LIST,
    "orderList.cancel": CANCEL_LIST,
    "openOrderLists.status": OPEN_LISTS,
    "allOrderLists": ALL_LISTS,
    "myFilters": MY_FILTERS,
}
