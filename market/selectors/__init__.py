"""Reads of market data, all for settings.TRADING_ENVIRONMENT."""

from market.selectors.account_events import unfolded_account_events
from market.selectors.candles import closed_candles, holes_between, last_closed
from market.selectors.feeds import (
    feed_health,
    recent_attempts,
    recent_holes,
    recent_sessions,
    reconnect_rate,
    stale_feeds,
)
from market.selectors.instruments import symbol_filters
from market.selectors.quotes import latest_quote

__all__ = [
    "closed_candles",
    "feed_health",
    "holes_between",
    "last_closed",
    "latest_quote",
    "recent_attempts",
    "recent_holes",
    "recent_sessions",
    "reconnect_rate",
    "stale_feeds",
    "symbol_filters",
    "unfolded_account_events",
]
