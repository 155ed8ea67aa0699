"""Depth streams: differences with a chain of update ids, and partial books (binance.md §6)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from simulator.clock import monotonic_seconds
from simulator.decimals import ZERO, money_text
from simulator.engine.contracts import Side
from simulator.engine.exchange import Exchange
from simulator.server.market_streams import MarketStreams

LEVELS_MAX = 5_000
PARTIAL_LEVELS = (5, 10, 20)
RATES = {"@100ms": 0.1, "": 1.0, "@1000ms": 1.0}
"""Stream suffix -> seconds between two messages."""

Levels = dict[Decimal, Decimal]


@dataclass(slots=True)
class _Sent:
    """The book as the listeners of a stream know it."""

    update_id: int
    sides: dict[Side, Levels]
    at: float


class DepthFeed:
    """Follows the books for everybody who listens to <symbol>@depth… ."""

    def __init__(self, exchange: Exchange, streams: MarketStreams) -> None:
        self._exchange = exchange
        self._streams = streams
        self._sent: dict[str, _Sent] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether anybody listens who expects ten messages a second."""
        return any("@100ms" in stream and self._streams.wanted(stream) for stream in self._sent)

    def prime(self, stream: str) -> None:
        """A stream gets its first listener: differences count from the book of this moment, so that a snapshot
        taken later always finds its continuation."""
        symbol, depth, _ = stream.partition("@depth")
        if depth and symbol.upper() in self._exchange.books:
            self._sent[stream] = self._snapshot(symbol.upper(), -1.0)

    def publish(self, changed: set[str]) -> None:
        """Send what is due of the symbols whose book has changed, now or since the last message."""
        if not self._sent:
            return
        now = monotonic_seconds()
        for stream in [name for name in self._sent if not self._streams.wanted(name)]:
            del self._sent[stream]
        for stream, sent in self._sent.items():
            name, _, rest = stream.partition("@depth")
            kind, at, rate = rest.partition("@")
            seconds = RATES.get(at + rate)
            book = self._exchange.books[name.upper()]
            if seconds is None or now - sent.at < seconds * 0.9 or book.update_id == sent.update_id:
                continue
            if not kind:
                self._send_difference(stream, name.upper(), sent, now)
            elif kind in map(str, PARTIAL_LEVELS):
                self._streams.send(stream, self._partial, name.upper(), int(kind))
                sent.update_id, sent.at = book.update_id, now

    def _send_difference(self, stream: str, symbol: str, sent: _Sent, now: float) -> None:
        present = self._snapshot(symbol, now)
        changes = {side: _difference(sent.sides[side], present.sides[side]) for side in Side}
        if any(changes.values()):
            first_id = sent.update_id + 1
            self._streams.send(stream, self._difference_event, symbol, first_id, present.update_id, changes)
            sent.update_id, sent.sides = present.update_id, present.sides
        sent.at = now

    def _snapshot(self, symbol: str, now: float) -> _Sent:
        book = self._exchange.books[symbol]
        return _Sent(book.update_id, {side: dict(book.depth(side, LEVELS_MAX)) for side in Side}, now)

    def _difference_event(
        self, symbol: str, first_id: int, last_id: int, changes: dict[Side, list[tuple[Decimal, Decimal]]]
    ) -> dict[str, Any]:
        return {
            "e": "depthUpdate",
            "E": self._exchange.tapes[symbol].last_ms,
            "s": symbol,
            "U": first_id,
            "u": last_id,
            "b": _texts(changes[Side.BUY]),
            "a": _texts(changes[Side.SELL]),
        }

    def _partial(self, symbol: str, levels: int) -> dict[str, Any]:
        book = self._exchange.books[symbol]
        return {
            "lastUpdateId": book.update_id,
            "bids": _texts(book.depth(Side.BUY, levels)),
            "asks": _texts(book.depth(Side.SELL, levels)),
        }


def _difference(before: Levels, after: Levels) -> list[tuple[Decimal, Decimal]]:
    """Levels with their new amounts, 0 for those that are gone."""
    changes = [(price, amount) for price, amount in after.items() if before.get(price) != amount]
    return changes + [(price, ZERO) for price in before if price not in after]


def _texts(levels: list[tuple[Decimal, Decimal]]) -> list[list[str]]:
    return [[money_text(price), money_text(amount)] for price, amount in levels]
