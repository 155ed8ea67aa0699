"""Verbs on aggregate trades: read them, and tell which one follows which (binance.md §6)."""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any

import msgspec

from market.contracts import MalformedFrame, TradeHole

MILLISECONDS_MAX = 4_102_444_800_000  # the year 2100: beyond it a timestamp is in another unit or nonsense
# A trade further ahead than this is believed only once REST has confirmed it.
JUMP_IDS_MAX = 10_000
JUMP_MS_MAX = 3_600_000
# Two plain positive numbers, as exact as an AmountField: nothing may be rounded to zero when it is stored.
_POSITIVE = r"(?=[0.]*[1-9])[0-9]{1,20}(?:\.[0-9]{1,16})?"
_PRICE_AND_QUANTITY = re.compile(f"{_POSITIVE} {_POSITIVE}").fullmatch
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Milliseconds = Annotated[int, msgspec.Meta(gt=0, lt=MILLISECONDS_MAX)]


class AggTrade(msgspec.Struct, gc=False):
    """An aggregate trade; price and quantity as the exchange's text, the time in milliseconds of its clock."""

    symbol: str = msgspec.field(name="s")
    aggregate_id: _Id = msgspec.field(name="a")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    traded_ms: _Milliseconds = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")


class Order(Enum):
    """How a trade stands to those before it."""

    AFTER_A_GAP = "after a gap"
    REPEATED = "repeated"
    DOUBTFUL = "doubtful"


class Tape:
    """The newest trade of one symbol that is known, by its id and its time in milliseconds."""

    __slots__ = ("last_id", "last_ms")

    def __init__(self, last_id: int, last_ms: int) -> None:
        self.last_id = last_id
        self.last_ms = last_ms

    def advance(self, trade: AggTrade) -> bool:
        """Go on to `trade` when it is the next one; False when it is not."""
        if trade.aggregate_id != self.last_id + 1 or not 0 <= trade.traded_ms - self.last_ms <= JUMP_MS_MAX:
            return False
        self.last_id, self.last_ms = trade.aggregate_id, trade.traded_ms
        return True

    def order_of(self, trade: AggTrade) -> Order:
        """What a trade is that is not the next one. A doubtful one cannot be believed unseen."""
        ahead = trade.aggregate_id - self.last_id
        if ahead <= 0:
            return Order.REPEATED if ahead > -JUMP_IDS_MAX else Order.DOUBTFUL
        if ahead == 1 or ahead > JUMP_IDS_MAX or not 0 <= trade.traded_ms - self.last_ms <= JUMP_MS_MAX:
            return Order.DOUBTFUL
        return Order.AFTER_A_GAP


def check_trade(trade: AggTrade) -> None:
    """Raise MalformedFrame unless price and quantity are possible; the other fields were when it was decoded."""
    if not _PRICE_AND_QUANTITY(f"{trade.price} {trade.quantity}"):
        raise MalformedFrame("a price or quantity is not a plain positive number")


def parse_trade_row(row: Any, *, symbol: str) -> AggTrade:
    """One object of GET /api/v3/aggTrades, which does not name the symbol."""
    try:
        trade = msgspec.convert({"s": symbol, **row}, AggTrade)
    except (msgspec.ValidationError, TypeError) as error:
        raise MalformedFrame(f"not an aggregate trade: {error!s:.120}") from error
    check_trade(trade)
    return trade


def missing_ids(hole: TradeHole, present: Sequence[int]) -> list[TradeHole]:
    """The runs of ids in `hole` that are not `present`."""
    found: list[TradeHole] = []
    at = hole.first_id
    for number in [*sorted(n for n in present if hole.first_id <= n <= hole.last_id), hole.last_id + 1]:
        if number > at:
            found.append(TradeHole(hole.symbol, at, number - 1))
        at = number + 1
    return found
