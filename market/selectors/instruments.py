"""Instruments and their filters as last read from the exchange."""

from collections.abc import Collection

from django.conf import settings

from market import rules
from market.contracts import SymbolFilters, UnknownInstrument
from market.models import Instrument


def symbol_filters(symbol: str) -> SymbolFilters:
    """The filters of `symbol`; raises UnknownInstrument when they were never read."""
    row = Instrument.objects.filter(environment=settings.TRADING_ENVIRONMENT, symbol=symbol).first()
    if row is None:
        raise UnknownInstrument(f"{symbol} is not known on {settings.TRADING_ENVIRONMENT}")
    return rules.parse_filters(row.raw)


def filters_by_symbol(symbols: Collection[str]) -> dict[str, SymbolFilters]:
    """The filters of those of `symbols` that were ever read, by one question to the database."""
    rows = Instrument.objects.filter(environment=settings.TRADING_ENVIRONMENT, symbol__in=symbols)
    return {symbol: rules.parse_filters(raw) for symbol, raw in rows.values_list("symbol", "raw")}
