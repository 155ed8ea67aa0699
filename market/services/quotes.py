"""The last quote of each symbol in Postgres: what is left when Redis was flushed."""

from collections.abc import Sequence

from django.conf import settings
from django.db import connection, transaction

from market.contracts import Fence, Quote
from market.services import fencing
from tradingbot.core.announce import announce

_UPSERT = """
INSERT INTO market_quote AS q (environment, symbol, bid, ask, bid_quantity, ask_quantity, received_at)
SELECT %(environment)s, t.*
FROM unnest(%(symbol)s::text[], %(bid)s::numeric[], %(ask)s::numeric[], %(bid_quantity)s::numeric[],
            %(ask_quantity)s::numeric[], %(received_at)s::timestamptz[]) AS t
ON CONFLICT (environment, symbol) DO UPDATE
SET bid = EXCLUDED.bid, ask = EXCLUDED.ask, bid_quantity = EXCLUDED.bid_quantity,
    ask_quantity = EXCLUDED.ask_quantity, received_at = EXCLUDED.received_at
WHERE q.received_at <= EXCLUDED.received_at
"""
_COLUMNS = ("symbol", "bid", "ask", "bid_quantity", "ask_quantity", "received_at")


def record_quotes(*, quotes: Sequence[Quote], fence: Fence | None = None) -> None:
    """Upsert the newest quote of each symbol (at most once a second) and announce each. Raises LeaseLost."""
    newest = {q.symbol: q for q in sorted(quotes, key=lambda q: q.received_at)}
    if not newest:
        return
    ordered = [newest[symbol] for symbol in sorted(newest)]
    columns = {name: [getattr(q, name) for q in ordered] for name in _COLUMNS}
    with transaction.atomic(), connection.cursor() as cursor:
        fencing.check(fence)
        cursor.execute(_UPSERT, {**columns, "environment": settings.TRADING_ENVIRONMENT.value})
        for quote in ordered:
            announce("quote", quote.symbol)
