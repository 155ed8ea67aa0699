"""The nouns of market data: candles, quotes, instruments with their filters, snapshots.

Errors:
    MarketError
    ├── StaleData          an input of a snapshot is missing, old or warming up
    ├── UnknownInstrument  the exchange does not list the symbol, or we never asked
    ├── MalformedFrame     a message or reply is not of the shape the exchange documents
    └── ExchangeUnavailable  a public request got no usable answer (network, HTTP error, refusal)
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any


class MarketError(Exception):
    """Base of this app's expected failures."""


class StaleData(MarketError):
    """An input of a snapshot is missing, old or warming up."""


class UnknownInstrument(MarketError):
    """The exchange does not list the symbol, or its filters were never read."""


class MalformedFrame(MarketError):
    """A message or a reply is not of the shape the exchange documents."""


class ExchangeUnavailable(MarketError):
    """A public request got no usable answer; `code` is the exchange's own when it gave one."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Interval(StrEnum):
    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def milliseconds(self) -> int:
        """Length of the interval in milliseconds."""
        return {"m": 60_000, "h": 3_600_000, "d": 86_400_000}[self.value[-1]] * int(self.value[:-1])


# What an indicator's value depends on, so that it never depends on how much history happens to be stored or
# on when a process began. A candle's window starts WARM_UP_CANDLES before the newest anchor, and every
# ANCHOR_CANDLES-th candle since 1970 is one; thus it holds from WARM_UP_CANDLES to WINDOW_CANDLES candles. The
# longest period is 50: over 150 candles the seed of ema_50 has decayed to (49/51)^100 = 2 %. Change a formula,
# a period or the window, and the version must change with it.
INDICATOR_VERSION = "3"
WARM_UP_CANDLES = 150
ANCHOR_CANDLES = 40
WINDOW_CANDLES = WARM_UP_CANDLES + ANCHOR_CANDLES - 1
# Kept from the 1m candles, so that all intervals agree with each other.
DERIVED_INTERVALS = (Interval.M5, Interval.M15, Interval.H1, Interval.H4, Interval.D1)


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle; `open_time` and `close_time` in UTC market time, `volume` in base, `closed` when final."""

    symbol: str
    interval: Interval
    open_time: datetime
    close_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trade_count: int
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Hole:
    """1m candles of `symbol` that are missing from `start` up to, not including, `end`.

    `exchange` when the exchange has none of them either, else the gap was too long to be fetched.
    """

    symbol: str
    start: datetime
    end: datetime
    exchange: bool = True


@dataclass(frozen=True, slots=True)
class Quote:
    """Best bid and ask with their sizes in base; `received_at` is our clock, the one staleness is judged by."""

    symbol: str
    bid: Decimal
    ask: Decimal
    bid_quantity: Decimal
    ask_quantity: Decimal
    received_at: datetime

    @property
    def mid(self) -> Decimal:
        """Half way between bid and ask."""
        return (self.bid + self.ask) / 2

    @property
    def spread_bps(self) -> Decimal:
        """Spread in basis points of the mid price."""
        return (self.ask - self.bid) / self.mid * 10_000


@dataclass(frozen=True, slots=True)
class PriceRange:
    """The highest and lowest price of `minutes` consecutive closed 1m candles; `received_at` of the newest."""

    low: Decimal
    high: Decimal
    minutes: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class TradeHole:
    """Aggregate trades of `symbol` that are missing, from `first_id` to `last_id` (both missing)."""

    symbol: str
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class LastPrice:
    """The price of the newest trade; `received_at` is our clock, `traded_at` the exchange's."""

    symbol: str
    price: Decimal
    traded_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class AccountFrame:
    """A raw user-data event as it came; `received_at` is our clock."""

    event_type: str
    event_time: datetime
    received_at: datetime
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write for a stream: the lease's name and the number under which we hold it."""

    lease: str
    number: int


class Stream(StrEnum):
    """The kinds of streams of an environment. A market of many symbols has several (rules.split_in_shards)."""

    MARKET = "market"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the symbols, streamed on a connection of its own under a lease of its own."""

    name: str
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """What the supervisor knows of one stream right now; written to FeedState under the stream's name."""

    stream: str
    connected: bool
    last_message_at: datetime | None
    resynced_at: datetime | None
    detail: str = ""
    messages_last_minute: int = 0


@dataclass(frozen=True, slots=True)
class SymbolFilters:
    """The exchange's rules of one symbol (exchangeInfo; binance.md §5). Zero switches a numeric rule off."""

    symbol: str
    base_asset: str
    quote_asset: str
    status: str
    price_tick: Decimal
    price_min: Decimal
    price_max: Decimal
    quantity_step: Decimal
    quantity_min: Decimal
    quantity_max: Decimal
    market_quantity_step: Decimal
    market_quantity_min: Decimal
    market_quantity_max: Decimal
    notional_min: Decimal
    notional_min_applies_to_market: bool
    notional_max: Decimal
    notional_max_applies_to_market: bool
    bid_multiplier_up: Decimal
    bid_multiplier_down: Decimal
    ask_multiplier_up: Decimal
    ask_multiplier_down: Decimal
    open_orders_max: int
    algo_orders_max: int
    position_max: Decimal
    order_types: tuple[str, ...]
    oco_allowed: bool
    oto_allowed: bool
    opo_allowed: bool
    stp_modes: tuple[str, ...]
    unknown_filters: tuple[str, ...] = ()

    @property
    def is_trading(self) -> bool:
        """Only TRADING takes new orders; HALT, BREAK, CANCEL_ONLY and whatever comes later do not."""
        return self.status == "TRADING"


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """How one stream does: seconds since its last message by our clock, and whether that is too long."""

    stream: str
    connected: bool
    age_seconds: float | None
    stale: bool
    reason: str = ""
    messages_last_minute: int = 0


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection of a stream, as far as the reconnect SLO needs it."""

    resynced_at: datetime | None
    ended_at: datetime | None
    end_reason: str = ""


@dataclass(frozen=True, slots=True)
class ReconnectRate:
    """How many of `total` reconnects were `good`: back and caught up in time (reliability.md, SLOs).

    `lower_pct` is the lower end of the 95 % interval of the share (Wilson): few reconnects prove little.
    """

    total: int
    good: int
    pct: float | None
    lower_pct: float | None


@dataclass(frozen=True, slots=True)
class ChartMark:
    """An order or a fill on a chart. `recorded_at` is our clock: market time need not be wall time."""

    kind: str
    side: str
    price: Decimal | None
    quantity: Decimal
    recorded_at: datetime
    order_id: str
    text: str


@dataclass(frozen=True, slots=True)
class MarketSnapshot:
    """What a decision is made on: immutable, hashed, stored. `facts` are indicator values by id."""

    symbol: str
    interval: Interval
    as_of: datetime
    quote: Quote
    facts: dict[str, Decimal]
    candles: tuple[Candle, ...]
    indicator_version: str
    ages_seconds: dict[str, float]
    extra: dict[str, Any] = field(default_factory=dict)
