"""Reads of market data, all for settings.TRADING_ENVIRONMENT."""

from market.selectors.account_events import unfolded_account_events
from market.selectors.candles import closed_candles, holes_between, last_closed, recent_range
from market.selectors.feeds import (
    feed_health,
    recent_attempts,
    recent_holes,
    recent_sessions,
    reconnect_rate,
    shards,
    stale_feeds,
    stream_names,
)
from market.selectors.instruments import filters_by_symbol, symbol_filters
from market.selectors.last_prices import last_price
from market.selectors.quotes import latest_quote, latest_quotes
from market.selectors.trades import recent_trade_holes, recent_trades

__all__ = [
    "closed_candles",
    "feed_health",
    "filters_by_symbol",
    "holes_between",
    "last_closed",
    "last_price",
    "latest_quote",
    "latest_quotes",
    "recent_attempts",
    "recent_holes",
    "recent_range",
    "recent_sessions",
    "recent_trade_holes",
    "recent_trades",
    "reconnect_rate",
    "shards",
    "stale_feeds",
    "stream_names",
    "symbol_filters",
    "unfolded_account_events",
]
