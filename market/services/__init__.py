"""Writes of market data, and the coroutine that keeps the streams."""

from market.services.account_events import mark_account_events_folded, record_account_events
from market.services.candles import drop_candles_after, upsert_candles
from market.services.feeds import (
    close_open_sessions,
    end_session,
    open_session,
    record_status,
    resync_session,
)
from market.services.instruments import refresh_instruments, report_unlisted, upsert_instruments
from market.services.quotes import record_quotes
from market.services.retention import drop_old
from market.services.snapshots import take_snapshot
from market.services.supervisor import run_streams
from market.services.trades import drop_trades, fill_trade_hole, record_trades

__all__ = [
    "close_open_sessions",
    "drop_candles_after",
    "drop_old",
    "drop_trades",
    "end_session",
    "fill_trade_hole",
    "mark_account_events_folded",
    "open_session",
    "record_account_events",
    "record_quotes",
    "record_status",
    "record_trades",
    "refresh_instruments",
    "report_unlisted",
    "resync_session",
    "run_streams",
    "take_snapshot",
    "upsert_candles",
    "upsert_instruments",
]
