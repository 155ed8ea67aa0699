"""Holes in the stored minutes: written down, so that nobody takes a missing candle for a quiet market."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings

from market.contracts import Hole
from market.models import CandleHole
from market.rules import hole_minutes
from market.selectors import candles as stored


def record(missing: Sequence[Hole], now: datetime) -> list[Hole]:
    """Write down the holes not on record yet and return them."""
    new = []
    for hole in missing:
        reason = CandleHole.Reason.EXCHANGE if hole.exchange else CandleHole.Reason.TOO_LONG
        _, created = CandleHole.objects.get_or_create(
            environment=settings.TRADING_ENVIRONMENT,
            symbol=hole.symbol,
            start=hole.start,
            end=hole.end,
            defaults={"reason": reason, "found_at": now},
        )
        if created:
            new.append(hole)
    return new


def mark_filled(minutes: Sequence[tuple[str, datetime]], now: datetime) -> None:
    """Close each open hole of which `minutes` (symbol and open time) were the last to be missing."""
    if not minutes:
        return
    times = [at for _, at in minutes]
    rows = CandleHole.objects.filter(
        environment=settings.TRADING_ENVIRONMENT,
        symbol__in={symbol for symbol, _ in minutes},
        filled_at=None,
        start__lte=max(times),
        end__gt=min(times),
    )
    for row in rows:
        count = len(hole_minutes(Hole(row.symbol, row.start, row.end)))
        if len(stored.minutes_between(row.symbol, row.start, row.end)) == count:
            row.filled_at = now
            row.save(update_fields=["filled_at"])


def drop_after(symbol: str, instant: datetime) -> None:
    """Forget holes that reach beyond `instant`: a simulator's market time was put back."""
    CandleHole.objects.filter(
        environment=settings.TRADING_ENVIRONMENT, symbol=symbol, end__gt=instant
    ).delete()
