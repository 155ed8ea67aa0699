"""Instruments and their filters: read from the exchange hourly, at each start and on demand."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from market.adapters.binance_rest import MarketClient
from market.contracts import Fence, SymbolFilters
from market.models import Instrument
from market.services import fencing
from tradingbot.core import alerts
from tradingbot.core.announce import announce

Listed = Sequence[tuple[SymbolFilters, dict[str, Any]]]


def refresh_instruments(*, now: datetime) -> None:
    """Read the filters of settings.SYMBOLS anew; raises ExchangeUnavailable or MalformedFrame."""
    listed = MarketClient().fetch_instruments(settings.SYMBOLS)
    upsert_instruments(listed=listed, now=now)
    report_unlisted(symbols=settings.SYMBOLS, listed=listed, now=now)


def upsert_instruments(*, listed: Listed, now: datetime, fence: Fence | None = None) -> None:
    """Store each instrument; announce it when its filters or status changed. Raises LeaseLost."""
    with transaction.atomic():
        fencing.check(fence)
        for filters, raw in listed:
            _upsert(filters, raw, now)


def _upsert(filters: SymbolFilters, raw: dict[str, Any], now: datetime) -> None:
    key: dict[str, Any] = {"environment": settings.TRADING_ENVIRONMENT, "symbol": filters.symbol}
    before = Instrument.objects.filter(**key).values_list("raw", flat=True).first()
    values = {
        "base_asset": filters.base_asset,
        "quote_asset": filters.quote_asset,
        "status": filters.status,
        "raw": raw,
        "refreshed_at": now,
    }
    Instrument.objects.update_or_create(**key, defaults=values)
    if before != raw:
        announce("instrument", filters.symbol)
    key_unknown = f"unknown_filter:{settings.TRADING_ENVIRONMENT}:{filters.symbol}"
    if filters.unknown_filters:
        alerts.raise_alert(
            kind="unknown_filter",
            severity="info",
            subject=f"instrument:{filters.symbol}",
            title=f"{filters.symbol} has filters that this version does not know",
            detail=f"{', '.join(filters.unknown_filters)}. Orders are not checked against them before sending.",
            dedupe_key=key_unknown,
            now=now,
        )
    else:
        alerts.resolve_alerts(dedupe_key=key_unknown, now=now)


def report_unlisted(*, symbols: Sequence[str], listed: Listed, now: datetime) -> tuple[str, ...]:
    """Alert about each of `symbols` that the exchange does not list; the symbols that it does."""
    found = {filters.symbol for filters, _ in listed}
    for symbol in symbols:
        key = f"unlisted_symbol:{settings.TRADING_ENVIRONMENT}:{symbol}"
        if symbol in found:
            alerts.resolve_alerts(dedupe_key=key, now=now)
            continue
        alerts.raise_alert(
            kind="unlisted_symbol",
            severity="high",
            subject=f"instrument:{symbol}",
            title=f"{symbol} is not listed on {settings.TRADING_ENVIRONMENT}",
            detail="It is left out and the other symbols go on. Correct SYMBOLS if it is misspelt.",
            dedupe_key=key,
            now=now,
        )
    return tuple(symbol for symbol in symbols if symbol in found)
