"""The path of trades inside a one-minute candle: fixed by the candle and a seed, consistent with its OHLCV."""

from __future__ import annotations

import zlib
from itertools import pairwise
from random import Random
from typing import NamedTuple

from simulator.market.candles import MINUTE_MS, Candle, RawCandle

TICKS_PER_CANDLE = 24
SLOT_MS = MINUTE_MS // TICKS_PER_CANDLE


class PathTick(NamedTuple):
    """A trade of the public tape, or a mere move of the quotes when `quantity` is 0."""

    offset_ms: int
    price: int
    quantity: int
    buyer_is_maker: bool


def stable_hash(*parts: object) -> int:
    """A number from the parts that is the same in every process (unlike hash())."""
    return zlib.crc32(":".join(map(str, parts)).encode())


def candle_path(candle: RawCandle, seed: int, tick: int, step: int) -> list[PathTick]:
    """Trades that visit open, both extremes and close, and whose quantities add up to the volume.

    `seed` decides order and shape, so that a restart and every speed replay the same trades. `tick` and
    `step` are the symbol's sizes in 1e-8 units.
    """
    random = Random(seed)
    prices, corners = _prices(candle, random, tick)
    quantities = _quantities(candle.volume, random, step, corners)
    path = []
    before = candle.open
    buyer_is_maker = candle.close < candle.open
    for index in range(TICKS_PER_CANDLE):
        price = prices[index]
        if price != before:
            buyer_is_maker = price < before
        elif random.random() < 0.4:
            buyer_is_maker = not buyer_is_maker
        jitter = 0 if index == 0 else int(random.random() * (SLOT_MS - 1))
        path.append(PathTick(index * SLOT_MS + jitter, price, quantities[index], buyer_is_maker))
        before = price
    return path


def summarize(candle: RawCandle, path: list[PathTick], first_trade_id: int) -> Candle:
    """The published candle: the source's own OHLCV with the counts that follow from its path."""
    quote = taker = taker_quote = trades = 0
    for _, price, quantity, buyer_is_maker in path:
        if not quantity:
            continue
        amount = price * quantity // 10**8
        trades += 1
        quote += amount
        if not buyer_is_maker:
            taker += quantity
            taker_quote += amount
    return Candle(*candle, quote, trades, taker, taker_quote, first_trade_id)


def _prices(candle: RawCandle, random: Random, tick: int) -> tuple[list[int], list[int]]:
    """A price for each slot, and the slots in which the path touches open, extremes and close."""
    last = TICKS_PER_CANDLE - 1
    if candle.high == candle.low:
        return [candle.open] * TICKS_PER_CANDLE, [0, last]
    first_corner, second_corner = random.randint(4, 9), random.randint(13, 19)
    # A rising minute mostly dips first; three of ten do otherwise.
    low_first = (candle.close >= candle.open) == (random.random() < 0.7)
    extremes = (candle.low, candle.high) if low_first else (candle.high, candle.low)
    corners = [0, first_corner, second_corner, last]
    values = [candle.open, *extremes, candle.close]
    wobble = (candle.high - candle.low) * 0.15
    prices: list[int] = []
    for (start, end), (a, b) in zip(pairwise(corners), pairwise(values), strict=True):
        for slot in range(start, end):
            ideal = a + (b - a) * (slot - start) / (end - start) + (random.random() - 0.5) * 2 * wobble
            on_tick = round(ideal / tick) * tick
            prices.append(a if slot == start else min(candle.high, max(candle.low, on_tick)))
    prices.append(candle.close)
    return prices, corners


def _quantities(volume: int, random: Random, step: int, corners: list[int]) -> list[int]:
    """Split `volume` over the slots exactly; when there is too little for all, the corners come first."""
    quantities = [0] * TICKS_PER_CANDLE
    if volume <= 0:
        return quantities
    unit = step if volume % step == 0 else 1
    lots = volume // unit
    order = corners + [slot for slot in range(TICKS_PER_CANDLE) if slot not in corners]
    for slot in order[: min(lots, TICKS_PER_CANDLE)]:
        quantities[slot] = 1
    lots -= sum(quantities)
    weights = [random.random() ** 2 + 0.02 for _ in range(TICKS_PER_CANDLE)]
    scale = lots / sum(weights)
    for slot in range(TICKS_PER_CANDLE):
        share = min(lots, int(weights[slot] * scale))
        quantities[slot] += share
        lots -= share
    quantities[order[0]] += lots
    return [quantity * unit for quantity in quantities]
