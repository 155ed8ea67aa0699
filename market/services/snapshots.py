"""Take the snapshot that a decision is made on, or say why there is none."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

from django.conf import settings

from market import rules, selectors
from market.contracts import Interval, Quote, StaleData
from market.models import Snapshot
from market.selectors import candles as stored
from tradingbot.core.audit import canonical_json, sha256_hex

if TYPE_CHECKING:
    from market.rules.windows import Window

QUOTE_AGE_SECONDS_MAX = 5.0
# A candle comes once an interval; market time may run faster than ours, never (usefully) slower.
CANDLE_AGE_INTERVALS_MAX = 2.5

# A window for each symbol and interval that is decided on in this process. Only a cache: each is compared with
# what is stored before it is used.
_kept: dict[tuple[str, str, Interval], "Window"] = {}


def take_snapshot(*, symbol: str, interval: Interval, now: datetime) -> Snapshot:
    """Store and return a snapshot of `symbol`.

    Raises StaleData with the reason when a feed is stale, the quote or the last candle is missing or old, or
    the closed candles are too few or have a hole; UnknownInstrument when the filters were never read.
    """
    interval = Interval(interval)
    health = selectors.feed_health(now)
    stale = [f"{h.stream}: {h.reason}" for h in health if h.stale]
    if stale:
        raise StaleData("; ".join(stale))
    quote, quote_age = _fresh_quote(symbol, now)
    newest = stored.newest_candles(symbol, interval)
    if newest is None:
        raise StaleData(f"no closed {interval} candle of {symbol} is stored yet")
    candle_age = _candle_age(symbol, interval, newest.received_at, now)
    filters = selectors.symbol_filters(symbol)
    snapshot = rules.compose_snapshot(
        candles=newest.shown,
        indicator_facts=_indicator_facts(symbol, interval, newest.bars),
        quote=quote,
        ages_seconds={
            "quote": quote_age,
            "candle": candle_age,
            **{f"feed_{h.stream}": h.age_seconds or 0.0 for h in health},
        },
    )
    snapshot_id = uuid4()
    payload = rules.snapshot_payload(snapshot, filters=filters, snapshot_id=snapshot_id)
    return Snapshot.objects.create(
        id=snapshot_id,
        environment=settings.TRADING_ENVIRONMENT,
        symbol=symbol,
        interval=interval,
        as_of=snapshot.as_of,
        payload=payload,
        sha256=sha256_hex(canonical_json(payload)),
        indicator_version=snapshot.indicator_version,
        created_at=now,
    )


def _fresh_quote(symbol: str, now: datetime) -> tuple[Quote, float]:
    quote = selectors.latest_quote(symbol)
    if quote is None:
        raise StaleData(f"no quote of {symbol} has come yet")
    age = (now - quote.received_at).total_seconds()
    if age > QUOTE_AGE_SECONDS_MAX:
        raise StaleData(f"the quote of {symbol} is {age:.1f} s old (limit {QUOTE_AGE_SECONDS_MAX:.0f} s)")
    return quote, max(age, 0.0)


def _candle_age(symbol: str, interval: Interval, received_at: datetime, now: datetime) -> float:
    age = (now - received_at).total_seconds()
    limit = CANDLE_AGE_INTERVALS_MAX * interval.milliseconds / 1000
    if age > limit:
        raise StaleData(f"the last closed candle of {symbol} came {age:.0f} s ago (limit {limit:.0f} s)")
    return max(age, 0.0)


def _indicator_facts(symbol: str, interval: Interval, bars: bytes) -> dict[str, Decimal]:
    """The facts of the window that ends with the newest of `bars`; raises StaleData."""
    from market.rules import windows  # TA-Lib and NumPy: for processes that take snapshots only

    key = (settings.TRADING_ENVIRONMENT.value, symbol, interval)
    # Taken out while it goes on: another thread then opens its own, and a failure leaves nothing half way.
    window = windows.follow(_kept.pop(key, None), bars, interval)
    facts = windows.facts_of(window, interval)
    _kept[key] = window
    return facts
