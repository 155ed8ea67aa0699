"""Requests of the WS API for user data: the listenKey is gone since 2026-02-20 (binance.md §7)."""

import hashlib
import hmac
from datetime import datetime
from typing import Any

from django.conf import settings

from tradingbot import env
from tradingbot.core import clock, logs

SUBSCRIBE = "userDataStream.subscribe.signature"


def subscribe_request(request_id: str, *, now: datetime, clock_offset_ms: int) -> dict[str, Any]:
    """The signed request for this account's events; the timestamp is the exchange's time as we measured it.

    HMAC-SHA256 over all parameters sorted by name, not percent-encoded (web-socket-api.md). Raises
    SettingError when the environment's key is not set.
    """
    key, secret = env.secret(settings.EXCHANGE_API_KEY), env.secret(settings.EXCHANGE_API_SECRET)
    logs.register_secret(secret)
    params: dict[str, Any] = {
        "apiKey": key,
        "recvWindow": settings.RECV_WINDOW_MS,
        "timestamp": clock.to_milliseconds(now) + clock_offset_ms,
    }
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    params["signature"] = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return {"id": request_id, "method": SUBSCRIBE, "params": params}


def ping_request(request_id: str) -> dict[str, Any]:
    """A request that costs next to nothing and whose answer shows that a silent connection lives."""
    return {"id": request_id, "method": "ping"}
