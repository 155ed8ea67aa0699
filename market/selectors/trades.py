"""Stored aggregate trades, and where some are missing."""

from collections.abc import Sequence

from django.conf import settings
from django.db import connection

from market.models import Trade, TradeHole

# A symbol at a time: each is a short walk down the primary key of the newest part that holds one.
_LAST = """
SELECT s.symbol, t.aggregate_id, (extract(epoch FROM t.traded_at) * 1000)::bigint
FROM unnest(%s::text[]) AS s(symbol), LATERAL (
    SELECT aggregate_id, traded_at FROM market_trade
    WHERE environment = %s AND symbol = s.symbol COLLATE "C"
    ORDER BY traded_at DESC, aggregate_id DESC LIMIT 1) AS t
"""


def last_trades(symbols: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The id and the time (milliseconds) of the newest stored trade of each symbol that has one."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST, [list(symbols), settings.TRADING_ENVIRONMENT.value])
        return {symbol: (number, traded_ms) for symbol, number, traded_ms in cursor.fetchall()}


def recent_trades(symbol: str, limit: int) -> list[Trade]:
    """The newest stored trades, newest first."""
    rows = Trade.objects.filter(environment=settings.TRADING_ENVIRONMENT, symbol=symbol)
    return list(rows.order_by("-traded_at", "-aggregate_id")[:limit])


def pending_trade_holes(symbols: Sequence[str], limit: int) -> list[TradeHole]:
    """Holes that are still to be fetched, oldest first."""
    rows = TradeHole.objects.filter(
        environment=settings.TRADING_ENVIRONMENT,
        symbol__in=symbols,
        reason=TradeHole.Reason.PENDING,
        filled_at=None,
    )
    return list(rows.order_by("id")[:limit])


def recent_trade_holes(limit: int) -> list[TradeHole]:
    """The last holes found in the trades, newest first."""
    rows = TradeHole.objects.filter(environment=settings.TRADING_ENVIRONMENT)
    return list(rows.order_by("-id")[:limit])
