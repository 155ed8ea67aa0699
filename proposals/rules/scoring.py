"""What a purchase would have brought by its own stop, target and validity, on the 1m candles that came.

The rule, in words (the scoreboard says the same):

- It counts from the first minute that was not closed when the model was asked (asked for by a person: the next
  one, because of the running minute nobody knows what came before the question).
- A MARKET order, and a LIMIT at or above the ask of its snapshot, is held at once, at that ask. IOC and FOK
  below it fill nothing. Any other LIMIT fills at its limit once a minute that lies within its validity has
  touched it. Touched only in the minute in which the validity ends: unknown.
- Stop and target in one minute: the stop counts. In the minute of a LIMIT's fill the stop counts and the target
  does not, for nobody knows which came first. A stop sells at its price, or at the minute's open if that is
  lower; a target sells at its price.
- After WATCHED it is sold at the close of that minute. A minute that is missing makes it unknown.
- Both sides pay the same fee. Slippage and depth are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum

from market.contracts import Candle

RULE_VERSION = 1
MINUTE = timedelta(minutes=1)
WATCHED = timedelta(days=7)
STORED_PLACES = Decimal("1e-8")


class Score(StrEnum):
    """How far the reckoning is; the first two go on."""

    WAITING = "waiting"
    HELD = "held"
    TARGET = "target"
    STOP = "stop"
    TIME = "time"
    NOT_FILLED = "not_filled"
    UNKNOWN = "unknown"


GOING_ON = frozenset({Score.WAITING, Score.HELD})


@dataclass(frozen=True, slots=True)
class Idea:
    """A purchase as it was proposed. `limit` is None for MARKET; `waits` is true for GTC alone; `ask` is that of
    the snapshot; `start` the first minute that counts."""

    ask: Decimal
    limit: Decimal | None
    waits: bool
    stop: Decimal
    target: Decimal | None
    start: datetime
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class Reckoning:
    """The state of one idea after all minutes before `next_minute`."""

    score: Score
    next_minute: datetime
    entry_price: Decimal | None = None
    entry_at: datetime | None = None
    exit_price: Decimal | None = None
    exit_at: datetime | None = None
    detail: str = ""


def begin(idea: Idea) -> Reckoning:
    """Before the first minute: held at once, waiting for its limit, or never filled."""
    if idea.limit is None or idea.limit >= idea.ask:
        return Reckoning(Score.HELD, idea.start, entry_price=idea.ask, entry_at=idea.start)
    if not idea.waits:
        return Reckoning(Score.NOT_FILLED, idea.start, detail="IOC or FOK below the ask")
    return Reckoning(Score.WAITING, idea.start)


def advance(seen: Reckoning, idea: Idea, candles: Mapping[datetime, Candle]) -> Reckoning:
    """As far as the 1m `candles` (by open time) go without a gap, or to the end of the reckoning."""
    while seen.score in GOING_ON:
        if seen.score is Score.WAITING and seen.next_minute >= idea.valid_until:
            return replace(seen, score=Score.NOT_FILLED, detail="the limit was not touched in time")
        candle = candles.get(seen.next_minute)
        if candle is None:
            return seen
        step = _wait if seen.score is Score.WAITING else _hold
        seen = replace(step(seen, idea, candle), next_minute=seen.next_minute + MINUTE)
    return seen


def give_up(seen: Reckoning) -> Reckoning:
    """The next minute will not come any more: nothing is guessed."""
    return replace(
        seen, score=Score.UNKNOWN, detail=f"the candle of {seen.next_minute:%Y-%m-%d %H:%M} is missing"
    )


def _wait(seen: Reckoning, idea: Idea, candle: Candle) -> Reckoning:
    assert idea.limit is not None
    if candle.low > idea.limit:
        return seen
    if candle.open_time + MINUTE > idea.valid_until:
        return replace(seen, score=Score.UNKNOWN, detail="touched in the minute in which its validity ended")
    held = replace(seen, score=Score.HELD, entry_price=idea.limit, entry_at=candle.open_time)
    return _stopped(held, idea, candle) if candle.low <= idea.stop else held


def _hold(seen: Reckoning, idea: Idea, candle: Candle) -> Reckoning:
    if candle.low <= idea.stop:
        return _stopped(seen, idea, candle)
    if idea.target is not None and candle.high >= idea.target:
        return replace(seen, score=Score.TARGET, exit_price=idea.target, exit_at=candle.open_time)
    if candle.open_time + MINUTE >= idea.start + WATCHED:
        return replace(seen, score=Score.TIME, exit_price=candle.close, exit_at=candle.open_time)
    return seen


def _stopped(seen: Reckoning, idea: Idea, candle: Candle) -> Reckoning:
    return replace(seen, score=Score.STOP, exit_price=min(idea.stop, candle.open), exit_at=candle.open_time)


def net_pct(entry_price: Decimal, exit_price: Decimal, fee_rate: Decimal) -> Decimal:
    """Percent of the purchase's notional that it brings after the fee of both sides, rounded down."""
    brought = exit_price * (1 - fee_rate) - entry_price * (1 + fee_rate)
    return (brought * 100 / entry_price).quantize(STORED_PLACES, rounding=ROUND_FLOOR)


def net_quote(pct: Decimal, size_quote: Decimal) -> Decimal:
    """`pct` of `size_quote`, in quote asset, rounded down."""
    return (pct * size_quote / 100).quantize(STORED_PLACES, rounding=ROUND_FLOOR)
