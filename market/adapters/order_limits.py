"""How many new orders the exchange states that an account may place; read with its rules, kept to elsewhere.

exchangeInfo is read by market, orders are sent by execution in other processes: what was read lies in Redis,
beside the weight's limit. Who sends counts against it (`execution.adapters.rate_budget`).
"""

from urllib.parse import urlsplit

import redis
from django.conf import settings

from market.adapters.weight import shared_redis
from market.rules import OrderLimits

# The lowest that Binance documents (binance.md §2.2): kept to until the exchange has told its own.
ORDERS_PER_10_SECONDS = 50
ORDERS_PER_DAY = 160_000

# KEYS: a stated limit. ARGV: the strictest one documented. What is no number is forgotten as well.
_KEEP_IF_STRICTER = """
local stated = tonumber(redis.call("GET", KEYS[1]) or "")
if not stated or stated > tonumber(ARGV[1]) then redis.call("DEL", KEYS[1]) end
"""


def limit_keys(rest_url: str) -> tuple[str, str]:
    """Where in Redis the two stated limits of an exchange address lie: of ten seconds and of a day."""
    prefix = f"{settings.CACHE_PREFIX}:order-limits:{urlsplit(rest_url).netloc}"
    return f"{prefix}:10s", f"{prefix}:1d"


def learn_order_limits(rest_url: str, stated: OrderLimits) -> None:
    """Take over what exchangeInfo states, for all processes.

    Where it states nothing readable, a stricter limit that was stated before stays and a looser one is
    forgotten: then the strictest documented one holds.
    """
    documented = (ORDERS_PER_10_SECONDS, ORDERS_PER_DAY)
    told = (stated.per_10_seconds, stated.per_day)
    try:
        for key, limit, strictest in zip(limit_keys(rest_url), told, documented, strict=True):
            if limit is None:
                shared_redis().eval(_KEEP_IF_STRICTER, 1, key, strictest)
            else:
                shared_redis().set(key, limit)
    except redis.RedisError:
        return
