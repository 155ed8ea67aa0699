"""Candles of one second, from the trades of the tape. Seconds without a trade are flat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simulator.market.candles import Candle
from simulator.market.tape import Tick

SECOND_MS = 1_000


class SecondsOfTape:
    """The present second, fed by trades in ascending order; `present` is its candle so far."""

    def __init__(self, start_ms: int, price: int, next_trade_id: int = -1) -> None:
        self._open_ms = start_ms - start_ms % SECOND_MS
        self._next_trade_id = next_trade_id
        self.present = self._flat(price)

    def _flat(self, price: int) -> Candle:
        return Candle(self._open_ms, price, price, price, price, 0, 0, 0, 0, 0, self._next_trade_id)

    def closed_by(self, moment_ms: int) -> Iterator[Candle]:
        """The seconds that have ended by then."""
        while self._open_ms + SECOND_MS <= moment_ms:
            yield self.present
            self._open_ms += SECOND_MS
            self.present = self._flat(self.present.close)

    def take(self, tick: Tick) -> Candle:
        """Count a tick of the present second; hands back the candle so far."""
        before, price, quantity = self.present, tick.price, tick.quantity
        if not quantity:
            return before
        self._next_trade_id = tick.trade_id + 1
        amount = price * quantity // 10**8
        taken = (0, 0) if tick.buyer_is_maker else (quantity, amount)
        first = before.trades == 0
        self.present = Candle(
            before.open_ms,
            price if first else before.open,
            price if first else max(before.high, price),
            price if first else min(before.low, price),
            price,
            before.volume + quantity,
            before.quote_volume + amount,
            before.trades + 1,
            before.taker_volume + taken[0],
            before.taker_quote_volume + taken[1],
            tick.trade_id if first else before.first_trade_id,
        )
        return self.present


def second_candles(ticks: Iterable[Tick], start_ms: int, end_ms: int, price: int) -> Iterator[Candle]:
    """Candles of a second that open in [start_ms, end_ms] from ascending ticks, the last one maybe still open;
    `price` is the last one before."""
    seconds = SecondsOfTape(start_ms, price)
    for tick in ticks:
        if tick.time_ms > end_ms:
            break
        yield from seconds.closed_by(tick.time_ms)
        seconds.take(tick)
    yield from seconds.closed_by(end_ms + 1)
    if seconds.present.open_ms <= end_ms:
        yield seconds.present
