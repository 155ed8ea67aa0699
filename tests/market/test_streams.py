"""The market's streams against a scripted exchange on a real socket: gaps, lies, endings."""

import logging
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.db import connection

from market import models, rules, selectors
from market.contracts import Candle, Interval
from market.services import feeds
from tests.market.builders import MINUTE, START, kline_frame, milliseconds, ticker_frame, walk
from tests.market.scripted import RunningStreams, ScriptedExchange, eventually
from tradingbot.core import clock
from tradingbot.core.models import Alert, Lease

SYMBOL = "BTCUSDT"


def stored(interval: Interval = Interval.M1) -> list[Candle]:
    return selectors.closed_candles(SYMBOL, interval, 5000)


def newest_is(candle: Candle) -> bool:
    return selectors.last_closed(SYMBOL, Interval.M1) == candle


def ended(stream: str) -> list[str]:
    rows = models.FeedSession.objects.filter(stream=stream, ended_at__isnull=False).order_by("id")
    return list(rows.values_list("end_reason", flat=True))


def sessions(stream: str) -> int:
    """Connections that caught up."""
    return models.FeedSession.objects.filter(stream=stream, resynced_at__isnull=False).count()


def account_event(number: int) -> dict[str, Any]:
    return {"e": "executionReport", "E": milliseconds(START) + number, "s": SYMBOL, "I": number}


def numbers() -> list[int]:
    return [e.payload["I"] for e in selectors.unfolded_account_events(1000)]


# --- candles ---
def test_the_first_start_stores_history_without_the_open_candle(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    assert stored() == exchange.candles[SYMBOL]
    assert stored(Interval.M5) == rules.derive(exchange.candles[SYMBOL], Interval.M5)


def test_a_closed_candle_from_the_socket_is_stored(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    [candle] = exchange.append()

    exchange.send_market(kline_frame(candle, closed=False), kline_frame(candle))

    eventually(lambda: newest_is(candle))


def test_a_hole_is_backfilled_before_the_candle_after_it_is_released(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    candles = exchange.append(count=5)

    exchange.send_market(kline_frame(candles[-1]))

    eventually(lambda: newest_is(candles[-1]))
    assert stored() == exchange.candles[SYMBOL]
    assert rules.first_hole(stored()) is None


def test_a_candle_that_rest_does_not_know_yet_waits_until_it_does(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    before = exchange.candles[SYMBOL][-1]
    candles = exchange.append(count=3)
    exchange.klines_hidden_after = before
    exchange.send_market(kline_frame(candles[1]))
    eventually(lambda: "do not have" in models.FeedState.objects.get(stream="market").detail)
    assert newest_is(before)

    exchange.klines_hidden_after = None
    exchange.send_market(kline_frame(candles[2]))

    eventually(lambda: newest_is(candles[2]))
    assert stored() == exchange.candles[SYMBOL]


def test_a_candle_dated_in_the_future_is_not_released(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    newest = exchange.candles[SYMBOL][-1]
    lie = walk(1, seed=3, start=newest.open_time + timedelta(days=400))[0]

    exchange.send_market(kline_frame(lie))
    [candle] = exchange.append()
    exchange.send_market(kline_frame(candle))

    eventually(lambda: newest_is(candle))
    assert stored() == exchange.candles[SYMBOL]


def test_repeated_and_late_candles_change_nothing(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    first, second = exchange.append(count=2)
    stale = replace(first, close=first.low, volume=Decimal(1))

    exchange.send_market(*(kline_frame(c) for c in (first, second, first, stale, second)))
    [last] = exchange.append()
    exchange.send_market(kline_frame(last))

    eventually(lambda: newest_is(last))
    assert stored() == exchange.candles[SYMBOL]


def test_a_reconnect_brings_what_was_missed(exchange: ScriptedExchange, streams: RunningStreams) -> None:
    exchange.refuse_market = True
    exchange.close_market()
    eventually(lambda: ended("market") == ["closed by the exchange with code 1001"])
    missed = exchange.append(count=700)  # more than the newest page of the backfill

    exchange.refuse_market = False

    eventually(lambda: newest_is(missed[-1]))
    eventually(lambda: sessions("market") == 2)
    assert stored() == exchange.candles[SYMBOL]
    session = models.FeedSession.objects.filter(stream="market").latest("id")
    eventually(lambda: session.refresh_from_db() or session.backfilled_candles == 700)


def test_while_disconnected_the_feed_is_stale_with_the_reason(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.refuse_market = True
    exchange.close_market()

    eventually(lambda: any("not connected" in s for s in selectors.stale_feeds(clock.now())))
    [market] = selectors.stale_feeds(clock.now())
    assert market.startswith("market: not connected (")


def test_a_market_that_starts_again_earlier_replaces_the_later_candles(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.refuse_market = True
    exchange.close_market()
    another = walk(200, seed=11, start=START - 150 * MINUTE)
    exchange.candles[SYMBOL] = another

    exchange.refuse_market = False

    eventually(lambda: newest_is(another[-1]))
    assert stored()[-200:] == another
    assert stored(Interval.M15)[-1].open_time <= another[-1].open_time


def test_a_symbol_that_is_not_listed_is_left_out_with_an_alert(
    exchange: ScriptedExchange, settings: Any
) -> None:
    settings.SYMBOLS = ("NOPEUSDT", SYMBOL)
    running = RunningStreams()
    try:
        eventually(lambda: sessions("market") == 1)
    finally:
        running.stop()

    assert stored() == exchange.candles[SYMBOL]
    assert Alert.objects.get().title == "NOPEUSDT is not listed on simulator"
    assert exchange.subscriptions[0]["params"] == [
        "btcusdt@kline_1m",
        "btcusdt@bookTicker",
        "btcusdt@aggTrade",
    ]


# --- what must not get in ---
def test_malformed_frames_are_counted_logged_once_and_stop_nothing(
    exchange: ScriptedExchange, streams: RunningStreams, caplog: pytest.LogCaptureFixture
) -> None:
    [candle] = exchange.append()
    nonsense = [
        b"{",
        b"{",
        b'{"stream":"btcusdt@moon","data":{}}',
        kline_frame(candle, c="NaN"),
        kline_frame(candle, l="-1"),
        ticker_frame(b="0"),
        ticker_frame("ETHUSDT"),
        b'{"stream":"btcusdt@bookTicker","data":' + b'"x"' * 1000,
    ]

    with caplog.at_level(logging.WARNING, logger="market.services.feed"):
        exchange.send_market(*nonsense)
        exchange.send_market(kline_frame(candle))
        eventually(lambda: newest_is(candle))
        eventually(lambda: "8 frames refused" in models.FeedState.objects.get(stream="market").detail)

    hashes = [r.sha256 for r in caplog.records if hasattr(r, "sha256")]
    assert len(hashes) == len(set(hashes)) == 7
    assert sessions("market") == 1 and ended("market") == []


def test_a_huge_frame_ends_the_connection_and_not_the_stream(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.send_market(b'{"x":"' + b"x" * 3_000_000 + b'"}')

    eventually(lambda: sessions("market") == 2)
    [candle] = exchange.append()
    exchange.send_market(kline_frame(candle))
    eventually(lambda: newest_is(candle))


def test_an_announced_shutdown_is_survived_without_a_gap(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    asked = len(exchange.requests)
    exchange.send_market({"e": "serverShutdown", "E": 1})

    eventually(lambda: sessions("market") == 2)
    eventually(lambda: len(exchange._market) == 1, "the old connection is left")
    [candle] = exchange.append()
    exchange.send_market(kline_frame(candle))

    eventually(lambda: newest_is(candle))
    assert ended("market") == ["the exchange announced its shutdown"]
    first, second = models.FeedSession.objects.filter(stream="market").order_by("id")
    assert first.ended_at == second.resynced_at
    assert len(exchange.requests) == asked, "nothing had to be fetched"


def test_candles_that_both_connections_bring_are_stored_once_and_in_order(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    candles = exchange.append(count=20)

    exchange.send_market({"e": "serverShutdown", "E": 1})
    for candle in candles:
        exchange.send_market(kline_frame(candle))

    eventually(lambda: newest_is(candles[-1]))
    eventually(lambda: sessions("market") == 2)
    assert stored() == exchange.candles[SYMBOL]


def test_without_a_successor_the_old_connection_is_used_on(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.refuse_market = True
    exchange.send_market({"e": "serverShutdown", "E": 1})
    [candle] = exchange.append()

    exchange.send_market(kline_frame(candle))

    eventually(lambda: newest_is(candle))
    assert ended("market") == []


def test_a_shutdown_of_the_ws_api_is_survived_without_a_gap(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.send_account({"e": "serverShutdown", "E": 1})

    eventually(lambda: sessions("account") == 2)
    exchange.send_account(account_event(1), account_event(2))

    eventually(lambda: numbers() == [1, 2])
    assert ended("account") == ["the exchange sent serverShutdown"]


def test_lost_subscriptions_are_noticed(exchange: ScriptedExchange, streams: RunningStreams) -> None:
    exchange.forget_streams()

    eventually(lambda: sessions("market") == 2)
    assert ended("market") == ["the exchange has lost some of our subscriptions"]


# --- quotes ---
def test_the_quote_of_the_socket_reaches_redis_and_postgres(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.send_market(ticker_frame(b="50001.00", a="50002.00"))

    eventually(lambda: (q := selectors.latest_quote(SYMBOL)) and q.bid == Decimal("50001.00"))
    eventually(lambda: models.Quote.objects.filter(symbol=SYMBOL, bid=Decimal("50001.00")).exists())


def test_a_quiet_quote_is_confirmed_by_rest(exchange: ScriptedExchange, streams: RunningStreams) -> None:
    exchange.send_market(ticker_frame(b="50001.00", a="50002.00"))

    eventually(lambda: (q := selectors.latest_quote(SYMBOL)) and q.bid == Decimal(49990))


# --- the database ---
def cut_database_connections() -> None:
    """As a restart of the server does, to every connection but this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_what_came_while_the_database_was_cut_off_is_stored_afterwards(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    [candle] = exchange.append()
    cut_database_connections()

    exchange.send_account(account_event(1), account_event(2))
    exchange.send_market(kline_frame(candle))

    eventually(lambda: numbers() == [1, 2])
    eventually(lambda: newest_is(candle))
    eventually(lambda: not selectors.stale_feeds(clock.now()), "both feeds are well again")
    assert stored() == exchange.candles[SYMBOL]


def test_an_unreachable_redis_does_not_hold_up_the_candles(
    exchange: ScriptedExchange, streams: RunningStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise redis.ConnectionError("no Redis")

    monkeypatch.setattr("redis.asyncio.client.Pipeline.execute", fail)
    [candle] = exchange.append()

    exchange.send_market(ticker_frame(b="50001.00", a="50002.00"), kline_frame(candle))

    eventually(lambda: newest_is(candle))
    eventually(lambda: models.Quote.objects.filter(bid=Decimal("50001.00")).exists())
    assert ended("market") == []


# --- the end ---
def test_a_stop_ends_the_sessions_and_gives_the_lease_back(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    streams.stop()

    assert ended("market") == ended("account") == ["stopped"]
    assert all(lease.expires_at <= clock.now() for lease in Lease.objects.all())
    assert not any(h.connected for h in selectors.feed_health(clock.now()))


def test_a_report_that_was_under_way_does_not_outlive_the_stop(
    exchange: ScriptedExchange, streams: RunningStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports have a database thread of their own: one that was slow came after the end of the session."""
    under_way, record = threading.Event(), feeds.record_status

    def slowly(*, statuses: Any, **given: Any) -> None:
        if statuses[0].stream == "market" and statuses[0].connected:
            under_way.set()
            eventually(lambda: ended("market"))
        record(statuses=statuses, **given)

    monkeypatch.setattr(feeds, "record_status", slowly)
    assert under_way.wait(60)

    streams.stop()

    assert not any(h.connected for h in selectors.feed_health(clock.now()))


def test_a_second_supervisor_waits_and_takes_over_with_a_higher_fence(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    second = RunningStreams()
    try:
        streams.stop()
        eventually(lambda: models.FeedState.objects.get(stream="market").fence == 2)
        [candle] = exchange.append()
        eventually(lambda: sessions("market") == 2)
        exchange.send_market(kline_frame(candle))
        eventually(lambda: newest_is(candle))
    finally:
        second.stop()


def test_a_supervisor_whose_lease_was_taken_stops_writing(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    Lease.objects.update(holder="another", fence=7, expires_at=clock.now() + MINUTE)
    [candle] = exchange.append()

    exchange.send_market(kline_frame(candle))

    eventually(lambda: not exchange._market and not exchange._account, "it has disconnected")
    assert not newest_is(candle)
    assert models.FeedState.objects.get(stream="market").fence == 1
    assert streams.alive
