"""What the advisor is sent: composed of fresh data on real Postgres and Redis, or refused with the reason."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
import redis

from market import models, rules, services
from market.contracts import (
    INDICATOR_VERSION,
    WINDOW_CANDLES,
    Candle,
    Interval,
    StaleData,
    UnknownInstrument,
)
from tests.market.builders import MINUTE, listing, walk
from tests.market.test_services import SYMBOL, quote, set_feeds
from tradingbot.core.audit import canonical_json, sha256_hex

pytestmark = pytest.mark.django_db


@pytest.fixture
def ready(now: datetime, redis_server: redis.Redis) -> list[Candle]:
    """Everything that a snapshot needs."""
    candles = walk(WINDOW_CANDLES + 10, start=now.replace(second=0) - (WINDOW_CANDLES + 10) * MINUTE)
    services.upsert_candles(candles=candles, now=now)
    services.record_quotes(quotes=[quote(now)])
    raw = listing()
    services.upsert_instruments(listed=[(rules.parse_filters(raw), raw)], now=now)
    set_feeds(now)
    return candles


def test_a_snapshot_holds_what_the_advisor_is_sent(ready: list[Candle], now: datetime) -> None:
    snapshot = services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now)

    payload = snapshot.payload
    assert payload["snapshot_id"] == str(snapshot.pk)
    assert payload["as_of"] == "2026-03-02T11:59:59.999Z"
    assert payload["quote"] == {
        "bid": "50000",
        "ask": "50000.1",
        "bid_quantity": "1.5",
        "ask_quantity": "2.25",
        "spread_bps": "0.02",
    }
    assert payload["filters"] == {"tick_size": "0.01", "step_size": "0.00001", "min_notional": "5"}
    facts = {f["id"]: f["value"] for f in payload["facts"]}
    assert Decimal(facts["close_1m"]) == ready[-1].close
    assert (facts["bid"], facts["ask"]) == ("50000", "50000.1")
    assert (facts["spread_bps"], facts["book_imbalance"]) == ("0.02", "-0.2")
    assert {"ema_9_1m", "rsi_14_1m", "atr_14_1m", "macd_hist_1m"} <= set(facts)
    assert len(payload["candles"]) == 30
    assert payload["candles"][-1][0] == "2026-03-02T11:59:00Z"
    assert payload["indicator_version"] == INDICATOR_VERSION
    assert all(isinstance(v, str) for v in payload["ages_seconds"].values())


def test_a_snapshot_carries_the_hash_of_its_payload(ready: list[Candle], now: datetime) -> None:
    snapshot = services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now)

    snapshot.refresh_from_db()
    assert snapshot.sha256 == sha256_hex(canonical_json(snapshot.payload))


def test_two_snapshots_of_the_same_inputs_differ_in_their_id_only(ready: list[Candle], now: datetime) -> None:
    first, second = (
        services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now).payload for _ in range(2)
    )

    assert first.pop("snapshot_id") != second.pop("snapshot_id")
    assert canonical_json(first) == canonical_json(second)


def test_more_stored_history_does_not_change_a_snapshot(ready: list[Candle], now: datetime) -> None:
    first = services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now).payload
    older = walk(50, seed=8, start=ready[0].open_time - 50 * MINUTE)
    services.upsert_candles(candles=older, now=now)

    second = services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now).payload

    assert first["facts"] == second["facts"]


def test_a_stale_feed_refuses_the_snapshot(ready: list[Candle], now: datetime) -> None:
    set_feeds(now, connected=False)

    with pytest.raises(StaleData, match="market: not connected"):
        services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now)
    assert not models.Snapshot.objects.exists()


def test_a_missing_quote_refuses_the_snapshot(ready: list[Candle], now: datetime) -> None:
    models.Quote.objects.all().delete()

    with pytest.raises(StaleData, match="no quote"):
        services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now)


def test_an_old_quote_refuses_the_snapshot(ready: list[Candle], now: datetime) -> None:
    later = now + timedelta(seconds=6)
    set_feeds(later)

    with pytest.raises(StaleData, match=r"quote of BTCUSDT is 6\.0 s old"):
        services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=later)


def test_a_candle_that_has_not_come_for_long_refuses_the_snapshot(ready: list[Candle], now: datetime) -> None:
    later = now + timedelta(seconds=151)
    set_feeds(later)
    services.record_quotes(quotes=[quote(later)])

    with pytest.raises(StaleData, match="came 151 s ago"):
        services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=later)


def test_too_few_candles_refuse_the_snapshot(ready: list[Candle], now: datetime) -> None:
    models.Candle.objects.filter(open_time__lt=ready[12].open_time).delete()

    with pytest.raises(StaleData, match=f"{WINDOW_CANDLES - 2} closed candles"):
        services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now)


def test_a_hole_among_the_candles_refuses_the_snapshot(ready: list[Candle], now: datetime) -> None:
    models.Candle.objects.filter(open_time=ready[-40].open_time).delete()

    with pytest.raises(StaleData, match="is missing"):
        services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now)


def test_a_symbol_without_filters_refuses_the_snapshot(ready: list[Candle], now: datetime) -> None:
    models.Instrument.objects.all().delete()

    with pytest.raises(UnknownInstrument):
        services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=now)
