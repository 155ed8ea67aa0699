"""What a strategy's row may hold."""

import re
from collections.abc import Collection
from typing import Any

SYMBOL = re.compile(r"[A-Z0-9]{2,20}")


class MalformedSymbols(ValueError):
    """The list of symbols cannot be used; the text says which part and what to do."""


def parse_symbols(value: Any, *, streamed: Collection[str]) -> list[str]:
    """`value` as a list of symbols; each must be spelt like BTCUSDT, named once and among `streamed`."""
    if not isinstance(value, list) or not value:
        raise MalformedSymbols('Give a list of at least one symbol, such as ["BTCUSDT", "ETHUSDT"].')
    for symbol in value:
        if not isinstance(symbol, str) or not SYMBOL.fullmatch(symbol):
            raise MalformedSymbols(f"{symbol!r:.40} is not a symbol: use capital letters, such as BTCUSDT.")
        if value.count(symbol) > 1:
            raise MalformedSymbols(f"{symbol} is named twice.")
        if symbol not in streamed:
            raise MalformedSymbols(
                f"{symbol} has no market data here. Add it to the setting SYMBOLS and restart first."
            )
    return list(value)
