"""Request weight per address and unfilled orders per account, in windows that align to the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulator.engine.errors import ExchangeError

MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000
DAY_MS = 86_400_000
WEIGHT_PER_MINUTE = 6_000
ORDERS_PER_10_SECONDS = 100
ORDERS_PER_DAY = 200_000
FIVE_MINUTES_MS = 300_000
RAW_REQUESTS_PER_5_MINUTES = 300_000
CONNECTIONS_PER_5_MINUTES = 300
MAKER_GIVES_BACK = 5
"""An order's first fill gives back 1 of the unfilled-order count, as maker more: 5 in the FAQ's example."""
# How many requests after a 429 bring a ban is not documented: the stricter reading.
IGNORED_MAX = 10
BAN_SECONDS = 120
BAN_SECONDS_MAX = 3 * 86_400


class Window:
    """A count that starts again at every multiple of its length."""

    def __init__(self, length_ms: int, limit: int) -> None:
        self._length_ms = length_ms
        self.limit = limit
        self._start = -1
        self._count = 0

    def count(self, now_ms: int) -> int:
        start = now_ms // self._length_ms
        if start != self._start:
            self._start, self._count = start, 0
        return self._count

    def add(self, amount: int, now_ms: int) -> None:
        self._count = max(0, self.count(now_ms) + amount)

    def seconds_left(self, now_ms: int) -> int:
        return -(-(self._length_ms - now_ms % self._length_ms) // 1000)


@dataclass(slots=True)
class Standing:
    """How an address behaves: asked to wait until, requests made nevertheless, banned until, bans so far."""

    wait_until_ms: int = 0
    ignored: int = 0
    banned_until_ms: int = 0
    bans: int = 0


class Limiter:
    """REQUEST_WEIGHT, RAW_REQUESTS and connections by address, ORDERS by account. Counts are not kept over a
    restart."""

    def __init__(self) -> None:
        self._weights: dict[str, Window] = {}
        self._raw: dict[str, Window] = {}
        self._connections: dict[str, Window] = {}
        self._orders: dict[int, tuple[Window, Window]] = {}
        self._standings: dict[str, Standing] = {}
        self._everybody_waits_until_ms = 0

    def charge(self, address: str, weight: int, now_ms: int) -> None:
        """Count the request and its weight; raise -1003 with 429 when a limit is exceeded, and with 418 when
        the address went on although it was told to wait."""
        standing = self._standings.setdefault(address, Standing())
        self._refuse_banned(standing, now_ms)
        self.add_weight(address, weight, now_ms)
        raw = _window(self._raw, address, FIVE_MINUTES_MS, RAW_REQUESTS_PER_5_MINUTES)
        raw.add(1, now_ms)
        for window in (self._weights[address], raw):
            if window.count(now_ms) > window.limit:
                until_ms = now_ms + window.seconds_left(now_ms) * 1000
                standing.wait_until_ms = max(standing.wait_until_ms, until_ms)
        until_ms = max(standing.wait_until_ms, self._everybody_waits_until_ms)
        if now_ms >= until_ms:
            standing.ignored = 0
            return
        standing.ignored += 1
        if standing.ignored > IGNORED_MAX:
            standing.banned_until_ms = now_ms + min(BAN_SECONDS_MAX, BAN_SECONDS << standing.bans) * 1000
            standing.bans, standing.ignored = standing.bans + 1, 0
            self._refuse_banned(standing, now_ms)
        raise ExchangeError(
            -1003,
            f"Too much request weight used; current limit is {WEIGHT_PER_MINUTE} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API.",
            status=429,
            retry_after_s=-(-(until_ms - now_ms) // 1000),
        )

    def hold_everybody(self, until_ms: int) -> None:
        """Answer 429 to every request until then (a fault)."""
        self._everybody_waits_until_ms = until_ms

    @staticmethod
    def _refuse_banned(standing: Standing, now_ms: int) -> None:
        if now_ms < standing.banned_until_ms:
            raise ExchangeError(
                -1003,
                f"Way too much request weight used; IP banned until {standing.banned_until_ms}. "
                "Please use WebSocket Streams for live updates to avoid bans.",
                status=418,
                retry_after_s=-(-(standing.banned_until_ms - now_ms) // 1000),
            )

    def add_weight(self, address: str, weight: int, now_ms: int) -> None:
        """Count without refusing, e.g. a new WS API connection."""
        _window(self._weights, address, MINUTE_MS, WEIGHT_PER_MINUTE).add(weight, now_ms)

    def count_connection(self, address: str, speed: float, now_ms: int) -> None:
        """Count a new socket; raise -1034 when there were too many in five minutes. A market that runs `speed`
        times as fast as the wall has its clients reconnect as much more often, and allows it."""
        window = _window(self._connections, address, FIVE_MINUTES_MS, CONNECTIONS_PER_5_MINUTES)
        window.add(1, now_ms)
        if window.count(now_ms) > window.limit * max(1.0, speed):
            raise ExchangeError(
                -1034,
                f"Too many connection attempts from IP; current limit is {window.limit} per '5 MINUTE'.",
                status=429,
                retry_after_s=window.seconds_left(now_ms),
            )

    def forget(self) -> None:
        """Start all counts again."""
        self._weights.clear()
        self._raw.clear()
        self._connections.clear()
        self._orders.clear()
        self._standings.clear()
        self._everybody_waits_until_ms = 0

    def refund(self, address: str, weight: int, now_ms: int) -> None:
        """Successful order requests cost nothing (since 2026-04-02)."""
        self.add_weight(address, -weight, now_ms)

    def used_weight(self, address: str, now_ms: int) -> int:
        window = self._weights.get(address)
        return window.count(now_ms) if window else 0

    def check_orders(self, account_id: int, now_ms: int, amount: int = 1) -> None:
        """Raise -1015 with 429 when `amount` more unfilled orders are too many for a window."""
        for window, name in zip(self._order_windows(account_id), ("10 SECOND", "1 DAY"), strict=True):
            if window.count(now_ms) + amount > window.limit:
                raise ExchangeError(
                    -1015,
                    f"Too many new orders; current limit is {window.limit} orders per {name}.",
                    status=429,
                    retry_after_s=window.seconds_left(now_ms),
                )

    def add_orders(self, account_id: int, amount: int, now_ms: int) -> None:
        """Up for new orders, down when an order gets its first fill."""
        for window in self._order_windows(account_id):
            window.add(amount, now_ms)

    def order_counts(self, account_id: int, now_ms: int) -> tuple[int, int]:
        """Unfilled orders of the present 10 seconds and of the day."""
        short, day = self._order_windows(account_id)
        return short.count(now_ms), day.count(now_ms)

    def _order_windows(self, account_id: int) -> tuple[Window, Window]:
        return self._orders.setdefault(
            account_id,
            (Window(TEN_SECONDS_MS, ORDERS_PER_10_SECONDS), Window(DAY_MS, ORDERS_PER_DAY)),
        )


def _window(windows: dict[str, Window], address: str, length_ms: int, limit: int) -> Window:
    window = windows.get(address)
    if window is None:
        window = windows[address] = Window(length_ms, limit)
    return window


def rate_limits_json() -> list[dict[str, Any]]:
    """`rateLimits` of exchangeInfo."""
    return [
        _limit_json("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_PER_MINUTE),
        _limit_json("ORDERS", "SECOND", 10, ORDERS_PER_10_SECONDS),
        _limit_json("ORDERS", "DAY", 1, ORDERS_PER_DAY),
        _limit_json("RAW_REQUESTS", "MINUTE", 5, RAW_REQUESTS_PER_5_MINUTES),
    ]


def order_limits_json(counts: tuple[int, int]) -> list[dict[str, Any]]:
    """The answer of rateLimit/order."""
    return [
        _limit_json("ORDERS", "SECOND", 10, ORDERS_PER_10_SECONDS) | {"count": counts[0]},
        _limit_json("ORDERS", "DAY", 1, ORDERS_PER_DAY) | {"count": counts[1]},
    ]


def weight_limit_json(used: int) -> list[dict[str, Any]]:
    """`rateLimits` of a WS API reply."""
    return [_limit_json("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_PER_MINUTE) | {"count": used}]


def _limit_json(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}
