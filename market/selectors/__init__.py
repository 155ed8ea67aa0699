"""Reads of market data, all for settings.TRADING_ENVIRONMENT."""

from market.selectors.account_events import unfolded_account_events
from market.selectors.candles import closed_candles, last_closed
from market.selectors.feeds import feed_health, stale_feeds
from market.selectors.instruments import symbol_filters
from market.selectors.quotes import latest_quote

__all__ = [
    "closed_candles",
    "feed_health",
    "last_closed",
    "latest_quote",
    "stale_feeds",
    "symbol_filters",
    "unfolded_account_events",
]
