"""Panels of market: how old what we know is, and the prices."""

from typing import Any

from django.conf import settings

from market import selectors
from market.models import Quote
from tradingbot.core import clock
from tradingbot.core.panels import panel


@panel("feeds", template="market/feeds.html", topics={"feed", "quote"})
def feeds(user: Any, argument: str) -> dict[str, Any]:
    """Every stream with the age of its last message, and the last quote of every symbol."""
    now = clock.now()
    quotes = {q.symbol: q for q in Quote.objects.filter(environment=settings.TRADING_ENVIRONMENT)}
    return {
        "streams": selectors.feed_health(now),
        "quotes": [(symbol, quotes.get(symbol)) for symbol in settings.SYMBOLS],
    }
