"""Holes, longer candles, failed connections, the reconnect SLO."""

from datetime import datetime, timedelta

import pytest

from market import models, rules, selectors, services
from market.contracts import DERIVED_INTERVALS, Candle, Connection, Hole, Interval
from market.services import retention
from tests.market.builders import MINUTE, START, kline_frame, walk
from tests.market.scripted import RunningStreams, ScriptedExchange, eventually, longer

SYMBOL = "BTCUSDT"
SECOND = timedelta(seconds=1)


def stored(interval: Interval = Interval.M1) -> list[Candle]:
    return selectors.closed_candles(SYMBOL, interval, 5000)


# --- the SLO ---
def connections(*times: tuple[int | None, int | None]) -> list[Connection]:
    """Connections by the seconds at which they had caught up and ended."""
    at = [[None if t is None else START + t * SECOND for t in pair] for pair in times]
    return [
        Connection(resynced_at, ended_at, "" if ended_at is None else "x") for resynced_at, ended_at in at
    ]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(0, None)], (0, 0)),
        ([(0, 100), (130, None)], (1, 1)),
        ([(0, 100), (131, None)], (1, 0)),
        ([(0, 100), (None, 110), (120, None)], (1, 1)),
        ([(0, 100), (95, None)], (1, 1)),
        ([(0, 971)], (0, 0)),
        ([(0, 960)], (1, 0)),
        ([(0, 10), (12, 20), (60, 70), (71, None)], (3, 2)),
    ],
    ids=["none", "in time", "late", "second try", "overlap", "still has time", "not back", "several"],
)
def test_reconnects_are_good_when_back_in_thirty_seconds(
    times: list[tuple[int | None, int | None]], expected: tuple[int, int]
) -> None:
    rate = rules.reconnect_rate(connections(*times), START + 1000 * SECOND)

    assert (rate.total, rate.good) == expected


def test_a_stop_of_ours_is_no_reconnect() -> None:
    ours = Connection(START, START + SECOND, "stopped")

    assert rules.reconnect_rate([ours], START + 1000 * SECOND).pct is None


def test_few_reconnects_prove_little() -> None:
    rate = rules.reconnect_rate(connections((0, 10), (12, None)), START + 1000 * SECOND)

    assert rate.pct == 100
    assert rate.lower_pct is not None and 20 < rate.lower_pct < 21


# --- holes ---
@pytest.mark.django_db
def test_longer_candles_of_all_lengths_equal_a_recomputation(now: datetime) -> None:
    minutes = walk(2 * 1440 + 30)
    for start, end in ((0, 700), (700, 701), (1500, 2910), (690, 1501)):
        services.upsert_candles(candles=minutes[start:end], now=now)

    for interval in DERIVED_INTERVALS:
        assert stored(interval) == [
            c for c in longer(minutes, interval) if c.close_time <= minutes[-1].close_time
        ]


@pytest.mark.django_db
def test_a_hole_of_the_exchange_does_not_keep_the_longer_candle_back(now: datetime) -> None:
    minutes = walk(10)
    there = [*minutes[:2], *minutes[4:]]
    hole = Hole(SYMBOL, minutes[2].open_time, minutes[4].open_time)

    services.upsert_candles(candles=there, missing=[hole], now=now)

    assert stored(Interval.M5) == longer(there, Interval.M5)
    row = models.CandleHole.objects.get()
    assert (row.start, row.end, row.reason) == (hole.start, hole.end, "exchange")


@pytest.mark.django_db
def test_a_gap_that_was_not_fetched_keeps_the_longer_candle_back(now: datetime) -> None:
    minutes = walk(10)
    hole = Hole(SYMBOL, minutes[2].open_time, minutes[4].open_time, exchange=False)

    services.upsert_candles(candles=[*minutes[:2], *minutes[4:]], missing=[hole], now=now)

    assert [c.open_time for c in stored(Interval.M5)] == [minutes[5].open_time]


@pytest.mark.django_db
def test_a_hole_is_closed_when_its_last_minute_comes(now: datetime) -> None:
    minutes = walk(5)
    hole = Hole(SYMBOL, minutes[1].open_time, minutes[3].open_time)
    services.upsert_candles(candles=[minutes[0], *minutes[3:]], missing=[hole], now=now)

    services.upsert_candles(candles=[minutes[1]], now=now + SECOND)
    assert models.CandleHole.objects.get().filled_at is None
    services.upsert_candles(candles=[minutes[2]], now=now + MINUTE)

    assert models.CandleHole.objects.get().filled_at == now + MINUTE
    assert stored(Interval.M5) == longer(minutes, Interval.M5)


@pytest.mark.django_db
def test_a_hole_found_again_is_recorded_once(now: datetime) -> None:
    hole = Hole(SYMBOL, START, START + MINUTE)

    for later in range(2):
        services.upsert_candles(candles=[], missing=[hole], now=now + later * SECOND)

    assert models.CandleHole.objects.get().found_at == now


def test_missing_minutes_are_found_at_both_ends_and_between() -> None:
    times = [c.open_time for c in walk(10)]

    holes = rules.missing_minutes(SYMBOL, times[1:4] + times[6:9], start=times[0], end=times[9] + MINUTE)

    assert [(h.start, h.end) for h in holes] == [
        (times[0], times[1]),
        (times[4], times[6]),
        (times[9], times[9] + MINUTE),
    ]


# --- with the streams ---
def test_a_hole_of_the_exchange_is_recorded_and_not_waited_for(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    lost, last = exchange.append(count=2)
    exchange.candles[SYMBOL].remove(lost)

    exchange.send_market(kline_frame(last))

    eventually(lambda: stored()[-1] == last)
    row = models.CandleHole.objects.get()
    assert (row.start, row.end, row.reason) == (lost.open_time, last.open_time, "exchange")


def test_longer_candles_reach_back_further_than_the_minutes(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    history = walk(200 * 60, seed=5)
    exchange.close_market()
    exchange.candles[SYMBOL] = history

    eventually(lambda: len(stored(Interval.H1)) >= 150)

    newest = longer(history, Interval.H1)[-150:]
    eventually(lambda: stored(Interval.H1)[-len(newest) :] == newest)


def test_a_connection_that_cannot_be_made_leaves_a_row(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.refuse_market = True
    exchange.close_market()

    attempt = eventually(lambda: models.FeedAttempt.objects.first())

    assert attempt.stream == "market" and "could not connect" in attempt.reason
    exchange.refuse_market = False
    eventually(lambda: models.FeedSession.objects.filter(stream="market", ended_at=None).exists())


def test_the_rate_of_messages_is_reported(exchange: ScriptedExchange, streams: RunningStreams) -> None:
    [candle] = exchange.append()

    exchange.send_market(*[kline_frame(candle)] * 50)

    eventually(lambda: models.FeedState.objects.get(stream="market").messages_last_minute >= 50)


def test_one_silent_kline_stream_among_live_ones_is_noticed(
    exchange: ScriptedExchange, streams: RunningStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("market.services.market_stream.KLINE_SILENCE_SECONDS", 0.5)
    [candle] = exchange.append()

    eventually(lambda: stored()[-1] == candle, "fetched after a reconnect")

    ended = models.FeedSession.objects.filter(stream="market", ended_at__isnull=False).first()
    assert ended is not None and "btcusdt@kline_1m is silent" in ended.end_reason


def test_a_quiet_kline_stream_is_left_alone(
    exchange: ScriptedExchange, streams: RunningStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = len(exchange.requests)
    monkeypatch.setattr("market.services.market_stream.KLINE_SILENCE_SECONDS", 0.2)

    eventually(lambda: len(exchange.requests) >= asked + 2, "silence was judged twice")

    assert not models.FeedSession.objects.filter(stream="market", ended_at__isnull=False).exists()


def test_a_halt_is_known_without_a_reconnect(
    exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("market.services.market_stream.INSTRUMENTS_SECONDS", 0.1)
    running = RunningStreams()
    try:
        eventually(lambda: models.Instrument.objects.filter(status="TRADING").exists())
        exchange.status = "HALT"
        eventually(lambda: models.Instrument.objects.filter(status="HALT").exists())
    finally:
        running.stop()

    assert not selectors.symbol_filters(SYMBOL).is_trading


# --- retention ---
@pytest.mark.django_db
def test_old_minutes_are_dropped_by_market_time_and_long_candles_stay(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(retention.KEPT, Interval.M1, timedelta(hours=2))
    monkeypatch.setattr(retention, "ROWS_PER_DELETE", 7)
    minutes = walk(300)
    services.upsert_candles(candles=minutes, now=now)

    assert services.drop_old(now=now + timedelta(days=3650)) == 179

    assert stored() == minutes[179:]
    assert len(stored(Interval.M5)) == 60 and len(stored(Interval.H1)) == 5


@pytest.mark.django_db
def test_old_connections_are_dropped_and_recent_ones_stay(now: datetime) -> None:
    for days in (1, 100):
        at = now - timedelta(days=days)
        models.FeedSession.objects.create(environment="simulator", stream="market", connected_at=at)
        models.FeedAttempt.objects.create(environment="simulator", stream="market", at=at, reason="x")

    services.drop_old(now=now)

    assert models.FeedSession.objects.count() == models.FeedAttempt.objects.count() == 1
