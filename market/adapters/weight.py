"""Request weight of the exchange, shared by all processes through Redis (binance.md §2.2).

A ban is per IP: one process that does not count stops all of them. So each request asks here first, and each
429 or 418 holds every process back. What matters most keeps a reserve: public reads may not use up the weight
that a query about an unknown order, or a cancel, will need.
"""

from enum import Enum
from functools import cache
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from django.conf import settings

from tradingbot.core import clock

WEIGHT_PER_MINUTE = 6000  # until the exchange has told its own limit (exchangeInfo.rateLimits)
WEIGHT_PER_MINUTE_MAX = 1_000_000
WINDOW_MS = 60_000
REDIS_TIMEOUT_SECONDS = 0.25
# Without Redis each process keeps to this share of the limit by itself; some eight processes ask.
ALONE_SHARE = 0.1

# KEYS: used weight of this minute, hold, limit. ARGV: weight, limit unless told, share, milliseconds to live.
_TAKE = """
local held = redis.call("PTTL", KEYS[2])
if held > 0 then return {0, held} end
local used = tonumber(redis.call("GET", KEYS[1]) or "0")
local limit = tonumber(redis.call("GET", KEYS[3]) or ARGV[2])
if used + ARGV[1] > math.floor(limit * ARGV[3]) then return {0, -1} end
redis.call("INCRBY", KEYS[1], ARGV[1])
redis.call("PEXPIRE", KEYS[1], ARGV[4])
return {1, 0}
"""
# The exchange's own count is the truth: other programs on this address count as well.
_LEARN = """
if tonumber(redis.call("GET", KEYS[1]) or "0") < tonumber(ARGV[1]) then
  redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
end
"""


class Priority(Enum):
    """The share of the limit up to which a kind of request may use it."""

    PUBLIC = 0.6
    ENTRY = 0.75
    QUERY = 0.85
    CANCEL = 1.0


class WeightLimit:
    """The weight of one exchange address. Without Redis it counts this process alone, with a small share."""

    def __init__(self, rest_url: str) -> None:
        self._prefix = f"{settings.CACHE_PREFIX}:weight:{urlsplit(rest_url).netloc}"
        self._per_minute = WEIGHT_PER_MINUTE
        self._alone_minute = 0
        self._alone_used = 0
        self._alone_held_until = 0.0

    def take(self, weight: int, priority: Priority) -> float:
        """Count `weight`, or refuse: 0 when the request may be sent, else the seconds to wait."""
        now_ms = clock.to_milliseconds(clock.now())
        to_next_minute = (WINDOW_MS - now_ms % WINDOW_MS) / 1000
        alone = self._take_alone(weight, now_ms // WINDOW_MS)
        try:
            taken, held_ms = cast(
                "list[int]",
                _redis().eval(
                    _TAKE,
                    3,
                    self._minute_key(now_ms),
                    self._hold_key,
                    self._limit_key,
                    weight,
                    self._per_minute,
                    priority.value,
                    2 * WINDOW_MS,
                ),
            )
        except redis.RedisError:
            return alone or (0.0 if self._alone_fits(priority) else to_next_minute)
        if taken:
            return 0.0
        return held_ms / 1000 if held_ms > 0 else to_next_minute

    def learn(self, used: str | None) -> None:
        """Take over `X-MBX-USED-WEIGHT-1M` of an answer when it is more than we counted."""
        if used is None or not (used.isascii() and used.isdigit()):
            return
        now_ms = clock.to_milliseconds(clock.now())
        try:
            _redis().eval(_LEARN, 1, self._minute_key(now_ms), int(used), 2 * WINDOW_MS)
        except redis.RedisError:
            return

    def learn_limit(self, per_minute: Any) -> None:
        """Take over the limit that the exchange states; every process keeps to it. Nonsense changes nothing."""
        if type(per_minute) is not int or not 0 < per_minute <= WEIGHT_PER_MINUTE_MAX:
            return
        self._per_minute = per_minute
        try:
            _redis().set(self._limit_key, per_minute)
        except redis.RedisError:
            return

    def hold(self, seconds: float) -> None:
        """After 429 or 418: nothing is sent by anybody before `seconds` are over."""
        self._alone_held_until = clock.monotonic_seconds() + seconds
        try:
            _redis().set(self._hold_key, "1", px=max(1, int(seconds * 1000)))
        except redis.RedisError:
            return

    @property
    def _hold_key(self) -> str:
        return f"{self._prefix}:held"

    @property
    def _limit_key(self) -> str:
        return f"{self._prefix}:limit"

    def _minute_key(self, now_ms: int) -> str:
        return f"{self._prefix}:{now_ms // WINDOW_MS}"

    def _take_alone(self, weight: int, minute: int) -> float:
        """Counts in this process; the seconds for which we are held back by an answer that we got ourselves."""
        if minute != self._alone_minute:
            self._alone_minute, self._alone_used = minute, 0
        self._alone_used += weight
        return max(0.0, self._alone_held_until - clock.monotonic_seconds())

    def _alone_fits(self, priority: Priority) -> bool:
        return self._alone_used <= self._per_minute * ALONE_SHARE * priority.value


def shared_redis() -> redis.Redis:
    """The Redis of the limits, for those that are counted elsewhere (execution's orders)."""
    return _redis()


@cache
def _redis() -> redis.Redis:
    """One pool a process, made at first use (after any fork)."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        max_connections=20,
    )
