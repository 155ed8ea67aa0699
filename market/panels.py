"""Panels of market: how old what we know is, and the prices."""

from datetime import timedelta
from typing import Any

from django.conf import settings

from market import rules, selectors
from market.contracts import Interval
from market.models import Quote
from market.selectors import candles, charts
from tradingbot.core import clock
from tradingbot.core.panels import UnknownPanel, panel

SESSIONS_SHOWN = 25
HOLES_SHOWN = 25


@panel("feeds", template="market/feeds.html", topics={"feed", "quote"})
def feeds(user: Any, argument: str) -> dict[str, Any]:
    """Every stream with the age of its last message, and the last quote of every symbol."""
    now = clock.now()
    quotes = {q.symbol: q for q in Quote.objects.filter(environment=settings.TRADING_ENVIRONMENT)}
    return {
        "streams": selectors.feed_health(now),
        "quotes": [(symbol, quotes.get(symbol)) for symbol in settings.SYMBOLS],
    }


@panel("feed.streams", template="market/streams.html", topics={"feed", "quote"})
def streams(user: Any, argument: str) -> dict[str, Any]:
    """Every stream: age, rate, and the reconnect SLO; of a shard also its symbols."""
    now = clock.now()
    shards = selectors.shards()
    symbols = {shard.name: shard.symbols for shard in shards} if len(shards) > 1 else {}
    return {
        "rows": [
            {
                "health": health,
                "symbols": symbols.get(health.stream, ()),
                "last_at": None
                if health.age_seconds is None
                else now - timedelta(seconds=health.age_seconds),
                "rate": health.messages_last_minute / 60,
                "reconnects": selectors.reconnect_rate(health.stream, now),
            }
            for health in selectors.feed_health(now)
        ],
        "goal_pct": rules.RECONNECT_GOAL_PCT,
    }


@panel("feed.symbols", template="market/symbols.html", topics={"feed", "quote", "candle"})
def symbols(user: Any, argument: str) -> dict[str, Any]:
    """Each symbol's quote, last price and newest candle, with their ages."""
    quotes = {q.symbol: q for q in Quote.objects.filter(environment=settings.TRADING_ENVIRONMENT)}
    rows = []
    for symbol in settings.SYMBOLS:
        newest = candles.with_receipt(symbol, Interval.M1, 1)
        candle, received_at = newest[0] if newest else (None, None)
        rows.append((symbol, quotes.get(symbol), selectors.last_price(symbol), candle, received_at))
    return {"rows": rows}


@panel("feed.sessions", template="market/sessions.html", topics={"feed"})
def sessions(user: Any, argument: str) -> dict[str, Any]:
    """The last connections and why each ended, and those that could not be made."""
    return {
        "rows": selectors.recent_sessions(SESSIONS_SHOWN),
        "attempts": selectors.recent_attempts(SESSIONS_SHOWN),
    }


@panel("feed.holes", template="market/holes.html", topics={"feed", "candle"})
def holes(user: Any, argument: str) -> dict[str, Any]:
    """Minutes without a candle, and trades that the socket did not bring."""
    return {
        "rows": selectors.recent_holes(HOLES_SHOWN),
        "trades": selectors.recent_trade_holes(HOLES_SHOWN),
    }


@panel("candles", template="market/candles.html", topics={"candle"}, keyed_by="candle")
def candle_table(user: Any, argument: str) -> dict[str, Any]:
    """The newest candles of `<symbol>:<interval>` as a table, newest first."""
    symbol, _, interval = argument.partition(":")
    if symbol not in settings.SYMBOLS or interval not in set(Interval):
        raise UnknownPanel(f"there are no candles of {argument!r:.40}")
    found = charts.chart(symbol, Interval(interval))
    return {
        "rows": found.rows[::-1][: charts.ROWS_SHOWN],
        "places": found.places,
        "symbol": symbol,
        "interval": interval,
        "last": found.rows[-1] if found.rows else None,
    }
