"""Pure verbs of market data: parse what the exchange sends, derive, compute, compose."""

from market.rules.candles import (
    bucket_start,
    derive,
    first_hole,
    hole_minutes,
    length,
    missing_minutes,
    window_length,
)
from market.rules.filters import parse_filters
from market.rules.frames import (
    SHUTDOWN,
    BookTicker,
    ControlReply,
    Envelope,
    Kline,
    Reply,
    ServerShutdown,
    parse_account_event,
    parse_book_row,
    parse_kline_row,
    parse_reply,
    parse_stream_frame,
    quote_from_ticker,
)
from market.rules.rate_limits import OrderLimits, order_limits, weight_per_minute
from market.rules.reconnects import RECONNECT_GOAL_PCT, reconnect_rate
from market.rules.shards import SYMBOLS_PER_SHARD_MAX, split_in_shards, stream_names
from market.rules.snapshots import SHOWN_CANDLES, compose_snapshot, snapshot_payload
from market.rules.trades import (
    JUMP_IDS_MAX,
    AggTrade,
    Order,
    Tape,
    check_trade,
    missing_ids,
    parse_trade_row,
)

__all__ = [
    "JUMP_IDS_MAX",
    "RECONNECT_GOAL_PCT",
    "SHOWN_CANDLES",
    "SHUTDOWN",
    "SYMBOLS_PER_SHARD_MAX",
    "AggTrade",
    "BookTicker",
    "ControlReply",
    "Envelope",
    "Kline",
    "Order",
    "OrderLimits",
    "Reply",
    "ServerShutdown",
    "Tape",
    "bucket_start",
    "check_trade",
    "compose_snapshot",
    "derive",
    "first_hole",
    "hole_minutes",
    "length",
    "missing_ids",
    "missing_minutes",
    "order_limits",
    "parse_account_event",
    "parse_book_row",
    "parse_filters",
    "parse_kline_row",
    "parse_reply",
    "parse_stream_frame",
    "parse_trade_row",
    "quote_from_ticker",
    "reconnect_rate",
    "snapshot_payload",
    "split_in_shards",
    "stream_names",
    "weight_per_minute",
    "window_length",
]
