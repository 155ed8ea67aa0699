"""Writes and reads of market data on real Postgres and Redis."""

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.db import connection

from market import models, rules, selectors, services
from market.contracts import (
    AccountFrame,
    Candle,
    Fence,
    Interval,
    Quote,
    Stream,
    StreamStatus,
    UnknownInstrument,
)
from market.selectors import quotes as cached_quotes
from tests.market.builders import MINUTE, listing, walk
from tradingbot.core import leases
from tradingbot.core.audit import canonical_json, sha256_hex
from tradingbot.core.leases import LeaseLost
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db

SYMBOL = "BTCUSDT"


def quote(received_at: datetime, bid: str = "50000.00") -> Quote:
    return Quote(SYMBOL, Decimal(bid), Decimal("50000.10"), Decimal("1.5"), Decimal("2.25"), received_at)


def hold_lease(holder: str = "us") -> Fence:
    number = leases.acquire("streams:test", holder=holder, seconds=30)
    assert number is not None
    return Fence("streams:test", number)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the services announce, in order."""
    calls: list[tuple[str, str]] = []
    for module in ("candles", "quotes", "account_events", "instruments", "feeds"):
        monkeypatch.setattr(
            f"market.services.{module}.announce",
            lambda topic, row_id, **_: calls.append((topic, str(row_id))),
        )
    return calls


# --- candles ---
def test_a_candle_read_back_equals_the_one_stored(now: datetime) -> None:
    [candle] = walk(1)

    services.upsert_candles(candles=[candle], now=now)

    assert selectors.last_closed(SYMBOL, Interval.M1) == candle


def test_storing_candles_twice_changes_nothing(now: datetime) -> None:
    services.upsert_candles(candles=walk(20), now=now)
    before = list(models.Candle.objects.order_by("interval", "open_time").values())

    services.upsert_candles(candles=walk(20), now=now + MINUTE)

    assert list(models.Candle.objects.order_by("interval", "open_time").values()) == before


def test_a_corrected_candle_replaces_the_stored_one_and_what_was_derived_from_it(now: datetime) -> None:
    candles = walk(5)
    services.upsert_candles(candles=candles, now=now)

    services.upsert_candles(candles=[replace(candles[2], high=Decimal(99999))], now=now)

    derived = selectors.last_closed(SYMBOL, Interval.M5)
    assert derived is not None and derived.high == Decimal(99999)


def test_derived_candles_equal_a_recomputation_however_the_minutes_arrive(now: datetime) -> None:
    candles = walk(47)
    for start in (30, 0, 7, 13):
        services.upsert_candles(candles=candles[start:], now=now)

    for interval in (Interval.M5, Interval.M15):
        assert selectors.closed_candles(SYMBOL, interval, 100) == rules.derive(candles, interval)


def test_a_derived_candle_waits_for_its_missing_minute(now: datetime) -> None:
    candles = walk(5)
    services.upsert_candles(candles=candles[:2] + candles[3:], now=now)
    assert selectors.last_closed(SYMBOL, Interval.M5) is None

    services.upsert_candles(candles=[candles[2]], now=now)

    assert selectors.last_closed(SYMBOL, Interval.M5) is not None


def test_an_open_candle_is_not_stored(now: datetime) -> None:
    with pytest.raises(ValueError):
        services.upsert_candles(candles=[replace(walk(1)[0], closed=False)], now=now)


def test_live_candles_are_announced_and_history_is_not(now: datetime, announced: list[Any]) -> None:
    candles = walk(5)
    services.upsert_candles(candles=candles[:4], now=now)
    assert announced == []

    services.upsert_candles(candles=candles[4:], now=now, live=True)

    assert announced == [("candle", "BTCUSDT:1m"), ("candle", "BTCUSDT:5m")]


def test_closed_candles_are_the_newest_and_oldest_first(now: datetime) -> None:
    candles = walk(10)
    services.upsert_candles(candles=candles, now=now)

    assert selectors.closed_candles(SYMBOL, Interval.M1, 3) == candles[-3:]


def test_candles_of_another_environment_are_not_seen(now: datetime, settings: Any) -> None:
    services.upsert_candles(candles=walk(3), now=now)

    settings.TRADING_ENVIRONMENT = type(settings.TRADING_ENVIRONMENT).TESTNET

    assert selectors.last_closed(SYMBOL, Interval.M1) is None


def test_dropping_candles_leaves_what_closed_before(now: datetime) -> None:
    candles = walk(12)
    services.upsert_candles(candles=candles, now=now)

    dropped = services.drop_candles_after(symbol=SYMBOL, instant=candles[6].close_time)

    assert dropped == 5
    assert selectors.closed_candles(SYMBOL, Interval.M1, 100) == candles[:7]
    assert len(selectors.closed_candles(SYMBOL, Interval.M5, 100)) == 1


def test_a_writer_whose_lease_was_taken_over_writes_nothing(now: datetime) -> None:
    fence = hold_lease()
    leases.release(fence.lease, holder="us")
    hold_lease("another")

    with pytest.raises(LeaseLost):
        services.upsert_candles(candles=walk(1), now=now, fence=fence)
    with pytest.raises(LeaseLost):
        services.record_quotes(quotes=[quote(now)], fence=fence)
    with pytest.raises(LeaseLost):
        services.record_account_events(events=[event(now)], fence=fence)

    assert not models.Candle.objects.exists() and not models.Quote.objects.exists()
    assert not models.AccountEvent.objects.exists()


# --- quotes ---
def test_the_quote_in_redis_is_read_first(now: datetime, redis_server: redis.Redis) -> None:
    services.record_quotes(quotes=[quote(now, "49999.00")])
    newer = quote(now + timedelta(microseconds=1))
    redis_server.hset(cached_quotes.quote_key(SYMBOL), mapping=cached_quotes.to_cache(newer))

    assert selectors.latest_quote(SYMBOL) == newer


def test_without_redis_the_quote_in_postgres_is_read(now: datetime, redis_server: redis.Redis) -> None:
    services.record_quotes(quotes=[quote(now)])

    assert selectors.latest_quote(SYMBOL) == quote(now)


def test_an_unreachable_redis_falls_back_to_postgres(
    now: datetime, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.record_quotes(quotes=[quote(now)])
    dead = redis.Redis(port=1, socket_connect_timeout=0.2)
    monkeypatch.setattr("market.selectors.quotes._redis", lambda: dead)

    assert selectors.latest_quote(SYMBOL) == quote(now)


def test_no_quote_at_all_is_none(redis_server: redis.Redis) -> None:
    assert selectors.latest_quote(SYMBOL) is None


def test_an_older_quote_does_not_overwrite_a_newer_one(now: datetime, redis_server: redis.Redis) -> None:
    services.record_quotes(quotes=[quote(now)])

    services.record_quotes(quotes=[quote(now - timedelta(seconds=1), "1.00")])

    assert selectors.latest_quote(SYMBOL) == quote(now)


def test_the_newest_of_several_quotes_of_a_symbol_is_kept(now: datetime, redis_server: redis.Redis) -> None:
    services.record_quotes(quotes=[quote(now), quote(now - MINUTE, "1.00")])

    assert selectors.latest_quote(SYMBOL) == quote(now)


# --- account events ---
def event(now: datetime, number: int = 1) -> AccountFrame:
    payload = {"e": "executionReport", "E": 1772409600000, "I": number}
    return AccountFrame("executionReport", now, now, payload)


def test_account_events_come_out_in_the_order_of_arrival(now: datetime) -> None:
    services.record_account_events(events=[event(now, n) for n in (5, 1)])
    services.record_account_events(events=[event(now, n) for n in (4, 2, 3)])

    assert [e.payload["I"] for e in selectors.unfolded_account_events(10)] == [5, 1, 4, 2, 3]


def test_a_repeated_account_event_is_stored_once(now: datetime) -> None:
    services.record_account_events(events=[event(now), event(now, 2), event(now)])
    services.record_account_events(events=[event(now + MINUTE)])

    rows = selectors.unfolded_account_events(10)
    assert [r.payload["I"] for r in rows] == [1, 2]
    assert rows[0].sha256 == sha256_hex(canonical_json(event(now).payload))


def test_folded_events_are_marked_once_and_no_longer_listed(now: datetime) -> None:
    services.record_account_events(events=[event(now, n) for n in (1, 2)])
    first, second = selectors.unfolded_account_events(10)

    assert services.mark_account_events_folded(ids=[first.pk], now=now) == 1
    assert services.mark_account_events_folded(ids=[first.pk], now=now + MINUTE) == 0

    first.refresh_from_db()
    assert first.folded_at == now
    assert [e.pk for e in selectors.unfolded_account_events(10)] == [second.pk]


# --- instruments ---
def test_the_filters_of_a_stored_instrument_are_the_exchanges(now: datetime) -> None:
    raw = listing()
    services.upsert_instruments(listed=[(rules.parse_filters(raw), raw)], now=now)

    assert selectors.symbol_filters(SYMBOL) == rules.parse_filters(raw)


def test_filters_that_were_never_read_are_unknown() -> None:
    with pytest.raises(UnknownInstrument):
        selectors.symbol_filters("NOPEUSDT")


def test_an_instrument_is_announced_only_when_it_changed(now: datetime, announced: list[Any]) -> None:
    raw = listing()
    services.upsert_instruments(listed=[(rules.parse_filters(raw), raw)], now=now)
    services.upsert_instruments(listed=[(rules.parse_filters(raw), raw)], now=now + MINUTE)
    assert announced == [("instrument", SYMBOL)]

    halted = raw | {"status": "HALT"}
    services.upsert_instruments(listed=[(rules.parse_filters(halted), halted)], now=now + MINUTE)

    assert announced == [("instrument", SYMBOL)] * 2
    assert not selectors.symbol_filters(SYMBOL).is_trading


def test_a_symbol_that_is_not_listed_raises_an_alert_until_it_is(now: datetime, settings: Any) -> None:
    settings.SYMBOLS = (SYMBOL, "NOPEUSDT")
    raw = listing()

    assert services.report_unlisted(
        symbols=settings.SYMBOLS, listed=[(rules.parse_filters(raw), raw)], now=now
    ) == (SYMBOL,)
    assert Alert.objects.get(resolved_at=None).title == "NOPEUSDT is not listed on simulator"

    nope = listing("NOPEUSDT")
    both = [(rules.parse_filters(r), r) for r in (raw, nope)]
    assert services.report_unlisted(symbols=settings.SYMBOLS, listed=both, now=now) == (SYMBOL, "NOPEUSDT")
    assert not Alert.objects.filter(resolved_at=None).exists()


# --- feeds ---
def well(stream: Stream, now: datetime) -> StreamStatus:
    return StreamStatus(stream, connected=True, last_message_at=now, resynced_at=now)


def set_feeds(now: datetime, **changes: Any) -> None:
    fence = hold_lease()
    statuses = [replace(well(Stream.MARKET, now), **changes), well(Stream.ACCOUNT, now)]
    services.record_status(statuses=statuses, now=now, fence=fence)


def test_streams_that_never_started_are_stale(now: datetime) -> None:
    assert selectors.stale_feeds(now) == ("market: never started", "account: never started")


def test_streams_that_are_well_are_not_stale(now: datetime) -> None:
    set_feeds(now)

    assert selectors.stale_feeds(now + timedelta(seconds=4)) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"connected": False, "detail": "closed with 1001"}, "not connected (closed with 1001)"),
        ({"resynced_at": None}, "still being fetched"),
        ({"last_message_at": None}, "no message has come yet"),
    ],
)
def test_a_stream_that_is_not_well_says_why(changes: dict[str, Any], reason: str, now: datetime) -> None:
    set_feeds(now, **changes)

    market, account = selectors.feed_health(now)

    assert market.stale and reason in market.reason
    assert not account.stale


def test_a_silent_stream_is_stale_by_receive_time(now: datetime) -> None:
    set_feeds(now)

    assert selectors.stale_feeds(now + timedelta(seconds=6)) == ("market: no message for 6.0 s (limit 5 s)",)


def test_a_message_dated_long_after_now_is_no_sign_of_life(now: datetime) -> None:
    """The clock was set back: nothing has come since."""
    set_feeds(now + MINUTE)

    assert len(selectors.stale_feeds(now)) == 2


def test_a_change_of_the_connection_is_announced_and_a_heartbeat_is_not(
    now: datetime, announced: list[Any]
) -> None:
    set_feeds(now)
    announced.clear()

    fence = hold_lease()
    beat = replace(well(Stream.MARKET, now), last_message_at=now + MINUTE)
    services.record_status(statuses=[beat], now=now + MINUTE, fence=fence)
    assert announced == []

    services.record_status(statuses=[replace(beat, connected=False)], now=now + MINUTE, fence=fence)
    assert announced == [("feed", "market")]


def test_a_takeover_ends_the_sessions_that_were_left_open(now: datetime) -> None:
    fence = hold_lease()
    services.open_session(status=well(Stream.MARKET, now), now=now, fence=fence)

    assert services.close_open_sessions(stream="market", now=now + MINUTE, fence=fence) == 1

    session = models.FeedSession.objects.get()
    assert session.ended_at == now + MINUTE and "died" in session.end_reason
    assert not selectors.feed_health(now)[0].connected


# --- races ---
@pytest.mark.django_db(transaction=True)
def test_two_writers_of_the_same_candles_both_finish(now: datetime) -> None:
    failures: list[BaseException] = []

    def write(candles: list[Candle]) -> None:
        try:
            for _ in range(5):
                services.upsert_candles(candles=candles, now=now)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    forward = walk(120) + walk(120, symbol="ETHUSDT")
    threads = [threading.Thread(target=write, args=(c,)) for c in (forward, forward[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert models.Candle.objects.filter(interval=Interval.M1).count() == 240
