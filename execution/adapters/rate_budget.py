"""The signed side of the shared rate budget: each request asks before it leaves, each answer teaches.

The weight is the address's and shared with the public reads (`market.adapters.weight`); the number of new
orders is the account's and counted here, against what exchangeInfo states (binance.md §2.2). What protects
goes first: entries may use less than queries, queries less than cancels and exits. A request that the budget
refuses was never sent.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import redis
import requests
from django.conf import settings

from execution.contracts import NotSent, QueryFailed
from market.adapters.binance_rest import BinanceClient
from market.adapters.order_limits import ORDERS_PER_10_SECONDS, ORDERS_PER_DAY, limit_keys
from market.adapters.weight import Priority, WeightLimit, shared_redis
from tradingbot.core import clock

ENTRY_SHARE = 0.8
SHORT_MS, DAY_MS = 10_000, 86_400_000
# Without Redis each process keeps to this share by itself; few processes send orders.
ALONE_SHARE = 0.1
RATE_LIMITED = (429, 418)
HOLD_SECONDS = {429: 60, 418: 120}  # when the exchange does not say how long
TOO_MANY_ORDERS = -1015
WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
COUNT_HEADERS = ("X-MBX-ORDER-COUNT-10S", "X-MBX-ORDER-COUNT-1D")

# Request weights (binance.md §2.3). Requests that place or cancel cost 1, and nothing when they succeed.
WEIGHTS = {
    "time": 1, "order": 4, "allOrders": 20, "account": 20, "orderList": 4, "allOrderList": 20,
    "openOrderList": 6, "rateLimit/order": 40, "account/commission": 20, "myFilters": 40,
}  # fmt: skip
WEIGHT_UNLISTED = 40
# How many unfilled orders a request counts for.
ORDERS_OF = {
    "order": 1, "order/cancelReplace": 1, "orderList/oco": 2, "orderList/oto": 2, "orderList/opo": 2,
    "orderList/otoco": 3, "orderList/opoco": 3,
}  # fmt: skip

# KEYS: count of the 10 seconds, of the day, hold, both stated limits. ARGV: orders, the limits unless stated,
# share, milliseconds to live of both. Answers whether they may go, why not, and the limits that were kept to.
_TAKE = """
local short = tonumber(redis.call("GET", KEYS[4]) or "") or tonumber(ARGV[2])
local day = tonumber(redis.call("GET", KEYS[5]) or "") or tonumber(ARGV[3])
local held = redis.call("PTTL", KEYS[3])
if held > 0 then return {0, held, short, day} end
local function full(key, limit)
  return tonumber(redis.call("GET", key) or "0") + ARGV[1] > math.floor(limit * ARGV[4])
end
if full(KEYS[1], short) then return {0, -1, short, day} end
if full(KEYS[2], day) then return {0, -2, short, day} end
redis.call("INCRBY", KEYS[1], ARGV[1])
redis.call("PEXPIRE", KEYS[1], ARGV[5])
redis.call("INCRBY", KEYS[2], ARGV[1])
redis.call("PEXPIRE", KEYS[2], ARGV[6])
return {1, 0, short, day}
"""
_LEARN = """
if tonumber(redis.call("GET", KEYS[1]) or "0") < tonumber(ARGV[1]) then
  redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
end
"""


class OrderLimit:
    """New orders of one account, in windows that align to the clock. Without Redis a small share, alone."""

    def __init__(self, rest_url: str, api_key: str) -> None:
        account = hashlib.sha256(api_key.encode()).hexdigest()[:12]
        self._prefix = f"{settings.CACHE_PREFIX}:orders:{urlsplit(rest_url).netloc}:{account}"
        self._stated_keys = limit_keys(rest_url)
        # What holds while the stated limits cannot be read: the strictest that this process knows of.
        self._known = (ORDERS_PER_10_SECONDS, ORDERS_PER_DAY)
        self._alone: dict[int, tuple[int, int]] = {}
        self._alone_held_until = 0.0

    def take(self, orders: int, *, entry: bool) -> float:
        """Count `orders`, or refuse: 0 when they may be sent, else the seconds to wait."""
        now_ms = clock.to_milliseconds(clock.now())
        share = ENTRY_SHARE if entry else 1.0
        alone = self._take_alone(orders, now_ms, share)
        try:
            taken, why, short, day = cast(
                "list[int]",
                shared_redis().eval(
                    _TAKE,
                    5,
                    self._key(SHORT_MS, now_ms),
                    self._key(DAY_MS, now_ms),
                    self._hold_key,
                    *self._stated_keys,
                    orders,
                    *self._known,
                    share,
                    2 * SHORT_MS,
                    2 * DAY_MS,
                ),
            )
        except redis.RedisError:
            return alone
        self._known = (min(short, ORDERS_PER_10_SECONDS), min(day, ORDERS_PER_DAY))
        if taken:
            return 0.0
        return why / 1000 if why > 0 else _to_next(SHORT_MS if why == -1 else DAY_MS, now_ms)

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take over the exchange's own counts where they are higher than ours."""
        now_ms = clock.to_milliseconds(clock.now())
        for name, length_ms in zip(COUNT_HEADERS, (SHORT_MS, DAY_MS), strict=True):
            told = headers.get(name, "")
            if not (told.isascii() and told.isdigit()):
                continue
            try:
                shared_redis().eval(_LEARN, 1, self._key(length_ms, now_ms), int(told), 2 * length_ms)
            except redis.RedisError:
                return

    def hold(self, seconds: float) -> None:
        """After -1015: nobody sends a new order before `seconds` are over; queries and cancels go on."""
        self._alone_held_until = clock.monotonic_seconds() + seconds
        try:
            shared_redis().set(self._hold_key, "1", px=max(1, int(seconds * 1000)))
        except redis.RedisError:
            return

    @property
    def _hold_key(self) -> str:
        return f"{self._prefix}:held"

    def _key(self, length_ms: int, now_ms: int) -> str:
        return f"{self._prefix}:{length_ms}:{now_ms // length_ms}"

    def _take_alone(self, orders: int, now_ms: int, share: float) -> float:
        """Counts in this process; the seconds to wait if it had only its own share."""
        wait = max(0.0, self._alone_held_until - clock.monotonic_seconds())
        for length_ms, limit in zip((SHORT_MS, DAY_MS), self._known, strict=True):
            window, count = self._alone.get(length_ms, (-1, 0))
            count = count + orders if window == now_ms // length_ms else orders
            self._alone[length_ms] = (now_ms // length_ms, count)
            if count > limit * ALONE_SHARE * share:
                wait = max(wait, _to_next(length_ms, now_ms))
        return wait


def _to_next(length_ms: int, now_ms: int) -> float:
    return (length_ms - now_ms % length_ms) / 1000


def weight_of(method: str, path: str, data: Mapping[str, Any]) -> int:
    """The weight that the request is charged with; one that is not listed counts as a heavy one."""
    if path == "order/test":
        return 20 if data.get("computeCommissionRates") else 1
    if method != "get":
        return 1
    if path == "openOrders":
        return 6 if data.get("symbol") else 80
    if path == "myTrades":
        return 5 if data.get("orderId") else 20
    return WEIGHTS.get(path, WEIGHT_UNLISTED)


def is_entry(path: str, data: Mapping[str, Any]) -> bool:
    """Whether a new order opens something; a SELL leaves it, and an order list `oco` protects it."""
    if path == "orderList/oco":
        return False
    return "SELL" not in {data.get("side"), data.get("workingSide")}


def priority_of(method: str, path: str, data: Mapping[str, Any]) -> Priority:
    """What of the weight the request may use: cancels and exits all of it, entries the least."""
    if method == "get" or path == "order/test":
        return Priority.QUERY
    if method == "delete" or not is_entry(path, data):
        return Priority.CANCEL
    return Priority.ENTRY


class BudgetedClient(BinanceClient):
    """python-binance that asks the shared budget before each request: its one way out is `_request`."""

    def __init__(self, api_key: str, api_secret: str) -> None:
        super().__init__(api_key, api_secret)
        self._weight = WeightLimit(self.API_URL)
        self._orders = OrderLimit(self.API_URL, api_key)

    def _request(self, method: str, uri: str, signed: bool, force_params: bool = False, **kwargs: Any) -> Any:
        """Send it, unless the budget refuses: then QueryFailed for a query, NotSent for anything else."""
        path = urlsplit(uri).path.partition("/v3/")[2]
        self._take(method.lower(), path, kwargs.get("data") or {})
        self.response = None
        try:
            return super()._request(method, uri, signed, force_params, **kwargs)
        finally:
            if self.response is not None:
                self._learn(self.response)

    def _take(self, method: str, path: str, data: Mapping[str, Any]) -> None:
        wait_seconds = self._weight.take(weight_of(method, path, data), priority_of(method, path, data))
        orders = ORDERS_OF.get(path, 0) if method == "post" else 0
        if not wait_seconds and orders:
            wait_seconds = self._orders.take(orders, entry=is_entry(path, data))
        if wait_seconds:
            sentence = (
                f"{method.upper()} {path} was never sent: the exchange's rate limit is used up, or it told us to "
                f"wait; free again in {wait_seconds:.0f} s"
            )
            raise QueryFailed(sentence) if method == "get" else NotSent(sentence)

    def _learn(self, response: requests.Response) -> None:
        self._weight.learn(response.headers.get(WEIGHT_HEADER))
        self._orders.learn(response.headers)
        if response.status_code in RATE_LIMITED:
            stated = response.headers.get("Retry-After", "")
            told = stated.isascii() and stated.isdigit()
            seconds = int(stated) if told else HOLD_SECONDS[response.status_code]
            limit = self._orders if _code_of(response) == TOO_MANY_ORDERS else self._weight
            limit.hold(seconds)


def _code_of(response: requests.Response) -> Any:
    try:
        body = response.json()
    except ValueError:
        return None
    return body.get("code") if isinstance(body, dict) else None
