"""A symbol's price-time book: resting orders of accounts, and the liquidity of the rest of the world."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from decimal import Decimal

from simulator.decimals import UNITS_PER_ONE, ZERO, from_units
from simulator.engine.contracts import Order, Side
from simulator.engine.instruments import Instrument
from simulator.market.path import stable_hash
from simulator.market.tape import Tick

LIQUIDITY_LEVELS = 50
LEVEL_QUOTE_MIN = 2_000
LEVEL_QUOTE_SPAN = 14_000


class Level:
    """An amount that the rest of the world offers at a price."""

    __slots__ = ("price", "quantity")

    def __init__(self, price: Decimal, quantity: Decimal) -> None:
        self.price = price
        self.quantity = quantity


class Liquidity:
    """What the rest of the world bids and asks; renewed by every tick, consumed by account orders between.

    Levels follow from (seed, symbol, tick time) alone and are only made when somebody looks.
    """

    def __init__(self, instrument: Instrument, seed: int) -> None:
        self._symbol = instrument.symbol
        self._seed = seed
        self._tick = int(instrument.tick_size * UNITS_PER_ONE)
        self._step = int(instrument.step_size * UNITS_PER_ONE)
        self._last_tick: Tick | None = None
        self._levels: dict[Side, list[Level]] | None = {Side.BUY: [], Side.SELL: []}

    def requote(self, tick: Tick) -> None:
        """New best prices around a tick."""
        self._last_tick = tick
        self._levels = None

    def best_price(self, side: Side) -> Decimal | None:
        """The best level's price alone, which every tick asks for; None when there is no level."""
        if self._levels is not None:
            levels = self._levels[side]
            return levels[0].price if levels else None
        assert self._last_tick is not None
        best = self._best_prices(self._last_tick)[side is Side.SELL]
        return from_units(best) if best > 0 else None

    def levels(self, side: Side) -> list[Level]:
        """Best first. BUY are bids, SELL are asks. Empty before the first tick and when used up."""
        if self._levels is None:
            assert self._last_tick is not None
            self._levels = self._levels_around(self._last_tick)
        return self._levels[side]

    def take(self, side: Side, level: Level, quantity: Decimal) -> None:
        level.quantity -= quantity
        if not level.quantity:
            self.levels(side).remove(level)

    def withdraw(self) -> None:
        """Nobody bids or asks until the next tick."""
        self._levels = {Side.BUY: [], Side.SELL: []}

    def _levels_around(self, tick: Tick) -> dict[Side, list[Level]]:
        bid, ask, state = self._best_prices(tick)
        return {
            Side.BUY: self._make_levels(bid, -1, state * 2),
            Side.SELL: self._make_levels(ask, 1, state * 2 + 1),
        }

    def _best_prices(self, tick: Tick) -> tuple[int, int, int]:
        """Bid, ask and the state that the levels follow from. A seller's trade leaves the bid at its price, a
        buyer's the ask."""
        state = stable_hash(self._seed, self._symbol, tick.time_ms)
        # Spreads of 1 tick to about 0.1 basis points for fine ticks.
        widest = max(2, tick.price // self._tick // 100_000)
        spread = (1 + state % widest) * self._tick
        if tick.buyer_is_maker or tick.price <= spread:
            return tick.price, tick.price + spread, state
        return tick.price - spread, tick.price, state

    def _make_levels(self, best: int, direction: int, state: int) -> list[Level]:
        levels = []
        price = best
        gap_max = max(1, best // self._tick // 50_000)
        for depth in range(LIQUIDITY_LEVELS):
            if price <= 0:
                break
            state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
            random = (state >> 33) / 2**31
            quote = (LEVEL_QUOTE_MIN + random * LEVEL_QUOTE_SPAN) * (1 + depth * 0.15)
            lots = max(1, int(quote * UNITS_PER_ONE / price * UNITS_PER_ONE) // self._step)
            levels.append(Level(from_units(price), from_units(lots * self._step)))
            price += direction * self._tick * (1 + (state >> 20) % gap_max)
        return levels


class Book:
    """Both sides of a symbol. An account's order stands before the world's amount at the same price; the
    hidden rest of an iceberg stands behind it."""

    def __init__(self, instrument: Instrument, seed: int) -> None:
        self.liquidity = Liquidity(instrument, seed)
        # Keys sort best first, then by the time at which an order (or its present slice) came.
        self._resting: dict[Side, list[tuple[Decimal, int, int]]] = {Side.BUY: [], Side.SELL: []}
        self._orders: dict[int, Order] = {}
        self._priority = 0
        self.update_id = 0

    def __len__(self) -> int:
        return len(self._orders)

    def __contains__(self, order: Order) -> bool:
        return order.order_id in self._orders

    def add(self, order: Order) -> None:
        """Put an order at the end of its price's queue, or back to the place that it had (a saved one)."""
        self._priority = max(self._priority + 1, order.priority)
        if not order.priority:
            order.priority = self._priority
        if order.iceberg_quantity and not order.slice_left:
            order.slice_left = order.iceberg_quantity
        insort(self._resting[order.side], _key(order))
        self._orders[order.order_id] = order

    def remove(self, order: Order) -> None:
        keys = self._resting[order.side]
        index = bisect_left(keys, _key(order))
        assert keys[index] == _key(order)
        del keys[index]
        del self._orders[order.order_id]

    def after_fill(self, order: Order, quantity: Decimal) -> None:
        """Take a filled order off, and send an iceberg whose slice is gone to the end of the queue."""
        if not order.is_open or not order.remaining:
            self.remove(order)
        elif order.iceberg_quantity:
            order.slice_left -= quantity
            if not order.slice_left:
                self.remove(order)
                order.priority = 0
                self.add(order)

    def resting(self, side: Side) -> Iterator[Order]:
        """Account orders of a side, best first. Copy before changing the book."""
        return (self._orders[key[2]] for key in self._resting[side])

    def best_resting(self, side: Side) -> Order | None:
        keys = self._resting[side]
        return self._orders[keys[0][2]] if keys else None

    def makers(self, side: Side) -> Iterator[tuple[Order | Level, Decimal]]:
        """Everything that can be matched on a side with its amount, in price-time order; an iceberg comes
        once for each of its slices."""
        orders = list(self.resting(side))
        levels = list(self.liquidity.levels(side))
        sign = -1 if side is Side.BUY else 1
        at_order = at_level = 0
        while at_order < len(orders) or at_level < len(levels):
            if at_order == len(orders) or (
                at_level < len(levels) and levels[at_level].price * sign < orders[at_order].price * sign
            ):
                yield levels[at_level], levels[at_level].quantity
                at_level += 1
                continue
            price, first = orders[at_order].price, at_order
            while at_order < len(orders) and orders[at_order].price == price:
                yield orders[at_order], orders[at_order].visible
                at_order += 1
            if at_level < len(levels) and levels[at_level].price == price:
                yield levels[at_level], levels[at_level].quantity
                at_level += 1
            yield from _hidden_slices(orders[first:at_order])

    def depth(self, side: Side, limit: int) -> list[tuple[Decimal, Decimal]]:
        """Price and visible amount per level, best first."""
        totals: dict[Decimal, Decimal] = {}
        sign = -1 if side is Side.BUY else 1
        for order in self.resting(side):
            totals[order.price] = totals.get(order.price, ZERO) + order.visible
        for level in self.liquidity.levels(side)[:limit]:
            totals[level.price] = totals.get(level.price, ZERO) + level.quantity
        return sorted(totals.items(), key=lambda item: item[0] * sign)[:limit]


def _hidden_slices(orders: list[Order]) -> Iterator[tuple[Order, Decimal]]:
    """The slices of icebergs at one price that follow once the shown ones are gone, in turns."""
    hidden = {order.order_id: order.remaining - order.visible for order in orders}
    while any(hidden.values()):
        for order in orders:
            part = min(order.iceberg_quantity, hidden[order.order_id])
            if part:
                hidden[order.order_id] -= part
                yield order, part


def _key(order: Order) -> tuple[Decimal, int, int]:
    return (-order.price if order.side is Side.BUY else order.price, order.priority, order.order_id)
