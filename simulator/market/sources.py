"""Where one-minute candles come from: a recorded list or a seeded generator. Both answer by time."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from typing import Any, Protocol

from simulator.market.candles import MINUTE_MS, RawCandle
from simulator.market.path import TICKS_PER_CANDLE, PathTick, stable_hash

UNITS = 10**8
TREND_BLOCK_MINUTES = 60
TREND_HEIGHT = 0.007
OCTAVES = 14
# Shares of the hours, as upper bounds of one draw.
WILD_MOODS = (("HALT", 0.06), ("THIN", 0.2), ("GAP", 0.35))
HALT_MINUTES = 15
THIN_DIVISOR = 40
GAP_MIN, GAP_SPAN = 0.003, 0.009


class CandleSource(Protocol):
    """Candles of one symbol by open time."""

    identity: str
    """Says which market this is; a state file goes on only with the same one."""

    def next_after(self, open_ms: int) -> RawCandle | None:
        """The first candle that opens after `open_ms`, None when there is none any more."""
        ...

    def trades(self, open_ms: int) -> list[PathTick] | None:
        """The recorded trades of the minute that opens then; None when only candles are known."""
        ...


class RecordedSource:
    """Candles of a file, in columns. They need not be contiguous: a hole stays a hole."""

    def __init__(self, identity: str, candles: list[RawCandle]) -> None:
        self.identity = identity
        self._columns = tuple(array("q", column) for column in zip(*candles, strict=True))

    def __len__(self) -> int:
        return len(self._columns[0])

    def at(self, index: int) -> RawCandle:
        return RawCandle._make(column[index] for column in self._columns)

    def next_after(self, open_ms: int) -> RawCandle | None:
        index = bisect_left(self._columns[0], open_ms + 1)
        return self.at(index) if index < len(self) else None

    def trades(self, open_ms: int) -> list[PathTick] | None:
        return None


class TradesSource(RecordedSource):
    """Recorded trades, in columns, with the minute candles that they make."""

    def __init__(self, identity: str, trades: RecordedTrades) -> None:
        super().__init__(identity, trades.candles())
        self._trades = trades

    def trades(self, open_ms: int) -> list[PathTick] | None:
        return self._trades.minute(open_ms)


class RecordedTrades:
    """Ascending trades: time, price, quantity, whether the buyer was the maker. 1e-8 units."""

    def __init__(self) -> None:
        self._times, self._prices = array("q"), array("q")
        self._quantities, self._makers = array("q"), array("b")

    def __len__(self) -> int:
        return len(self._times)

    @property
    def last_ms(self) -> int:
        return self._times[-1]

    def append(self, time_ms: int, price: int, quantity: int, buyer_is_maker: bool) -> None:
        self._times.append(time_ms)
        self._prices.append(price)
        self._quantities.append(quantity)
        self._makers.append(buyer_is_maker)

    def minute(self, open_ms: int) -> list[PathTick]:
        """The trades of one minute."""
        first, end = bisect_left(self._times, open_ms), bisect_left(self._times, open_ms + MINUTE_MS)
        return [
            PathTick(self._times[i] - open_ms, self._prices[i], self._quantities[i], bool(self._makers[i]))
            for i in range(first, end)
        ]

    def candles(self) -> list[RawCandle]:
        """The candle of every minute that has a trade."""
        candles: list[RawCandle] = []
        at = 0
        while at < len(self):
            open_ms = self._times[at] - self._times[at] % MINUTE_MS
            end = bisect_left(self._times, open_ms + MINUTE_MS, at)
            prices = self._prices[at:end]
            volume = sum(self._quantities[at:end])
            candles.append(RawCandle(open_ms, prices[0], max(prices), min(prices), prices[-1], volume))
            at = end
        return candles


class GeneratedSource:
    """An endless market whose minute is a pure function of (seed, symbol, minute).

    The log price is a sum of smooth noise of many periods (one minute to six days), which gives short
    jitter and long swings; a block pattern of hours that climb, fall or stand adds phases of trend and
    range. Nothing is accumulated, so that any minute can be asked for at any time, before or after a
    restart, with the same answer.
    """

    def __init__(
        self,
        seed: int,
        symbol: str,
        *,
        reference_price: float,
        minute_volatility: float,
        minute_quote_volume: float,
        tick: int,
        step: int,
    ) -> None:
        self.identity = f"generated:{symbol}:{seed}"
        self._key = stable_hash(seed, symbol)
        # All symbols share a part of their movement, as coins do.
        self._common_key = stable_hash(seed, "common")
        self._reference = reference_price
        self._volatility = minute_volatility
        self._quote_volume = minute_quote_volume
        self._tick = tick
        self._step = step
        self._lattice: dict[tuple[int, int], tuple[int, float, float]] = {}
        self._last_price = (-1, 0.0)

    def trades(self, open_ms: int) -> list[PathTick] | None:
        return None

    def next_after(self, open_ms: int) -> RawCandle:
        return self.minute(open_ms // MINUTE_MS + 1)

    def minute(self, minute: int) -> RawCandle:
        """The candle of an epoch minute."""
        start, end = self._price(minute), self._price(minute + 1)
        body = abs(math.log(end / start)) / self._volatility
        reach = self._volatility * (0.2 + 0.9 * _noise(self._key, 101, minute))
        high = max(start, end) * (1 + reach * _noise(self._key, 102, minute))
        low = min(start, end) * (1 - reach * _noise(self._key, 103, minute))
        mood = math.exp(1.6 * (_noise(self._key, 104, minute) - 0.5))
        volume = self._quote_volume * (0.4 + body) * mood / end
        open_, close = self._on_tick(start), self._on_tick(end)
        return RawCandle(
            open_ms=minute * MINUTE_MS,
            open=open_,
            high=max(self._on_tick(high), open_, close),
            low=min(self._on_tick(low), open_, close),
            close=close,
            # At least one lot a tick, so that every tick of a generated minute is a trade.
            volume=max(TICKS_PER_CANDLE, round(volume * UNITS / self._step)) * self._step,
        )

    def phase(self, minute: int) -> str:
        """TREND_UP, TREND_DOWN or RANGE: the block pattern at an epoch minute."""
        block = minute // TREND_BLOCK_MINUTES
        here, there = _block_level(self._key, block), _block_level(self._key, block + 1)
        return "RANGE" if here == there else "TREND_UP" if there > here else "TREND_DOWN"

    def _on_tick(self, price: float) -> int:
        return max(1, round(price * UNITS / self._tick)) * self._tick

    def _price(self, minute: int) -> float:
        """The price at the first instant of a minute. The last answer is kept: a close is the next open."""
        if self._last_price[0] != minute:
            self._last_price = (minute, self._price_afresh(minute))
        return self._last_price[1]

    def _price_afresh(self, minute: int) -> float:
        own = self._swing(self._key, minute)
        common = self._swing(self._common_key, minute)
        block, inside = divmod(minute, TREND_BLOCK_MINUTES)
        here, there = _block_level(self._key, block), _block_level(self._key, block + 1)
        trend = here + (there - here) * inside / TREND_BLOCK_MINUTES
        swing = self._volatility * (0.8 * own + 0.6 * common)
        return self._reference * math.exp(swing + TREND_HEIGHT * trend)

    def _swing(self, key: int, minute: int) -> float:
        """Noise whose typical change over m minutes grows with the square root of m."""
        total = 0.0
        for octave in range(OCTAVES):
            index, inside = divmod(minute, 1 << octave)
            left, right = self._ends(key, octave, index)
            part = inside / (1 << octave)
            smooth = part * part * (3 - 2 * part)
            total += (left + (right - left) * smooth) * 0.9 * 2 ** (octave / 2)
        return total

    def _ends(self, key: int, octave: int, index: int) -> tuple[float, float]:
        """Lattice values around a point; the last pair of each octave is remembered."""
        slot = (key, octave)
        known = self._lattice.get(slot)
        if known is None or known[0] != index:
            left = known[2] if known and known[0] == index - 1 else 2 * _noise(key, octave, index) - 1
            known = (index, left, 2 * _noise(key, octave, index + 1) - 1)
            self._lattice[slot] = known
        return known[1], known[2]


class WildSource(GeneratedSource):
    """The same market with hours that gap, run thin or are halted for a quarter of an hour.

    A gap lies between two candles: the hour begins, and ends, with a jump. While halted there are no candles.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.identity = f"wild-{self.identity}"

    def next_after(self, open_ms: int) -> RawCandle:
        minute = open_ms // MINUTE_MS + 1
        while self.is_halted(minute):
            minute += 1
        return self.minute(minute)

    def is_halted(self, minute: int) -> bool:
        block, inside = divmod(minute, TREND_BLOCK_MINUTES)
        return inside < HALT_MINUTES and self._mood(block) == "HALT"

    def minute(self, minute: int) -> RawCandle:
        calm, mood = super().minute(minute), self._mood(minute // TREND_BLOCK_MINUTES)
        if mood == "THIN":
            thin = max(TICKS_PER_CANDLE, calm.volume // self._step // THIN_DIVISOR) * self._step
            return calm._replace(volume=thin)
        if mood == "GAP":
            factor = self._gap(minute // TREND_BLOCK_MINUTES)
            names = ("open", "high", "low", "close")
            return calm._replace(
                **{name: self._on_tick(getattr(calm, name) / UNITS * factor) for name in names}
            )
        return calm

    def phase(self, minute: int) -> str:
        """HALT, THIN or GAP, else what the calm market has."""
        mood = self._mood(minute // TREND_BLOCK_MINUTES)
        if mood == "HALT" and not self.is_halted(minute):
            mood = ""
        return mood or super().phase(minute)

    def _mood(self, block: int) -> str:
        draw = _noise(self._key, 105, block)
        return next((mood for mood, below in WILD_MOODS if draw < below), "")

    def _gap(self, block: int) -> float:
        height = GAP_MIN + GAP_SPAN * _noise(self._key, 106, block)
        return math.exp(height if _noise(self._key, 107, block) < 0.5 else -height)


def _block_level(key: int, block: int) -> int:
    return int(_noise(key, 100, block) * 3) - 1


def _noise(key: int, channel: int, index: int) -> float:
    """Uniform in [0, 1): the finalizer of splitmix64 over the three numbers."""
    mixed = (key * 0x9E3779B97F4A7C15 + channel * 0xD1B54A32D192ED03 + index * 0x2545F4914F6CDD1D) & (
        2**64 - 1
    )
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return ((mixed ^ (mixed >> 31)) >> 11) / 2**53
