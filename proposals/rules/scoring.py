"""What a proposal would have brought by its own stop, target and validity, on the 1m candles that came.

The rule, in words (the scoreboard says the same):

- It counts from the first minute that was not closed when the model was asked. Asked by a person, or later than
  in the first minute after the candle: from the next one, because of the running minute nobody knows what came
  before the question.
- A BUY brings what its purchase earns until its own stop or target. A SELL has none of its own: it brings what
  is saved against keeping what it sells until the stop or the target that the position had.
- A MARKET order, and a LIMIT that the other side of its snapshot's quote meets, is filled at once, at that price
  (ask for a BUY, bid for a SELL). IOC and FOK beyond it fill nothing. Any other LIMIT fills at its limit once a
  minute that lies within its validity has touched it. Touched only in the minute in which the validity ends:
  unknown.
- Stop and target in one minute: what speaks against the proposal counts, the stop for a BUY, the target for a
  SELL. In the minute of a LIMIT's fill only that one counts, for nobody knows which came first. A stop sells at
  its price, or at the minute's open if that is lower; a target sells at its price, or, when a SELL is measured
  against it, at the minute's open if that is higher.
- After WATCHED it is sold at the close of that minute. A minute that is missing makes it unknown.
- A BUY pays the fee on both sides. A SELL pays it once, as does the sale that it is measured against. Slippage and
  depth are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum

from market.contracts import Candle
from proposals.contracts import Side

RULE_VERSION = 2  # 1 knew purchases alone, by the same rule
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
    """A trade as it was proposed. `quote` is the ask of the snapshot for a BUY and its bid for a SELL; `limit` is
    None for MARKET; `waits` is true for GTC alone; `stop` and `target` are its own, or those of the position that a
    SELL would end; `start` the first minute that counts."""

    side: Side
    quote: Decimal
    limit: Decimal | None
    waits: bool
    stop: Decimal | None
    target: Decimal | None
    start: datetime
    valid_until: datetime

    @property
    def buys(self) -> bool:
        """Whether it is a purchase."""
        return self.side is Side.BUY


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
    """Before the first minute: filled at once, waiting for its limit, or never filled."""
    if idea.limit is None or (idea.limit >= idea.quote if idea.buys else idea.limit <= idea.quote):
        return Reckoning(Score.HELD, idea.start, entry_price=idea.quote, entry_at=idea.start)
    if not idea.waits:
        return Reckoning(
            Score.NOT_FILLED,
            idea.start,
            detail=f"IOC or FOK {'below the ask' if idea.buys else 'above the bid'}",
        )
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
    if candle.low > idea.limit if idea.buys else candle.high < idea.limit:
        return seen
    if candle.open_time + MINUTE > idea.valid_until:
        return replace(seen, score=Score.UNKNOWN, detail="touched in the minute in which its validity ended")
    held = replace(seen, score=Score.HELD, entry_price=idea.limit, entry_at=candle.open_time)
    return (_at_stop if idea.buys else _at_target)(held, idea, candle) or held


def _hold(seen: Reckoning, idea: Idea, candle: Candle) -> Reckoning:
    first, second = (_at_stop, _at_target) if idea.buys else (_at_target, _at_stop)
    ended = first(seen, idea, candle) or second(seen, idea, candle)
    if ended is None and candle.open_time + MINUTE >= idea.start + WATCHED:
        return replace(seen, score=Score.TIME, exit_price=candle.close, exit_at=candle.open_time)
    return ended or seen


def _at_stop(seen: Reckoning, idea: Idea, candle: Candle) -> Reckoning | None:
    if idea.stop is None or candle.low > idea.stop:
        return None
    return replace(seen, score=Score.STOP, exit_price=min(idea.stop, candle.open), exit_at=candle.open_time)


def _at_target(seen: Reckoning, idea: Idea, candle: Candle) -> Reckoning | None:
    if idea.target is None or candle.high < idea.target:
        return None
    price = idea.target if idea.buys else max(idea.target, candle.open)
    return replace(seen, score=Score.TARGET, exit_price=price, exit_at=candle.open_time)


def net_pct(side: Side, entry_price: Decimal, exit_price: Decimal, fee_rate: Decimal) -> Decimal:
    """Percent of the order's notional that it brings after fees, rounded down.

    A BUY: bought at `entry_price` and sold at `exit_price`. A SELL: sold at the one instead of at the other.
    """
    if side is Side.BUY:
        brought = exit_price * (1 - fee_rate) - entry_price * (1 + fee_rate)
    else:
        brought = (entry_price - exit_price) * (1 - fee_rate)
    return (brought * 100 / entry_price).quantize(STORED_PLACES, rounding=ROUND_FLOOR)


def net_quote(pct: Decimal, size_quote: Decimal) -> Decimal:
    """`pct` of `size_quote`, in quote asset, rounded down."""
    return (pct * size_quote / 100).quantize(STORED_PLACES, rounding=ROUND_FLOOR)
