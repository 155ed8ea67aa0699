"""Aggregate trades: stored once each, in parts by day, with no gap that nobody knows of."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.db import connection, connections
from hypothesis import given
from hypothesis import strategies as st

from market import models, rules, selectors, services
from market.adapters import stream_client
from market.contracts import Fence, Interval, LastPrice, MalformedFrame, TradeHole
from market.rules import AggTrade, Order, Tape
from market.services import partitions, trade_stream
from tests.market.builders import MINUTE, START, kline_frame, milliseconds, trade_frame, trade_row, walk
from tests.market.scripted import RunningStreams, ScriptedExchange, eventually
from tradingbot.core.leases import LeaseLost

SYMBOL = "BTCUSDT"
DAY = timedelta(days=1)


def trade(number: int, at: datetime | None = None, symbol: str = SYMBOL) -> AggTrade:
    row = trade_row(number)
    return rules.parse_trade_row(row if at is None else row | {"T": milliseconds(at)}, symbol=symbol)


def numbers(symbol: str = SYMBOL) -> list[int]:
    return sorted(models.Trade.objects.filter(symbol=symbol).values_list("aggregate_id", flat=True))


def part_of(day: datetime) -> str:
    return f"market_trade_simulator_{day:%Y%m%d}"


def holes() -> list[tuple[int, int, str, bool]]:
    rows = models.TradeHole.objects.order_by("first_id", "id")
    return [(r.first_id, r.last_id, r.reason, r.filled_at is not None) for r in rows]


def detail() -> str:
    return models.FeedState.objects.get(stream="market").detail


# --- rules ---
@pytest.mark.parametrize(
    "changes",
    [
        {"p": "NaN"},
        {"p": "0.00"},
        {"p": "-1"},
        {"p": "1e5"},
        {"p": 50000.1},
        {"p": "1\t2"},
        {"p": "1\n"},
        {"p": "0.00000000000000001"},
        {"q": "0"},
        {"q": "٣"},
        {"q": None},
        {"a": -1},
        {"a": "7"},
        {"a": 2**60},
        {"a": True},
        {"T": 0},
        {"T": 10**15},
        {"m": "false"},
        {"s": "ETHUSDT"},
    ],
    ids=str,
)
def test_a_trade_with_an_impossible_field_is_refused(changes: dict[str, Any]) -> None:
    frame = trade_frame(trade_row(1))
    frame["data"] |= changes

    with pytest.raises(MalformedFrame):
        rules.parse_stream_frame(json.dumps(frame).encode())


def test_a_trade_of_the_socket_equals_the_one_of_rest() -> None:
    frame = json.dumps(trade_frame(trade_row(7))).encode()

    assert rules.parse_stream_frame(frame) == trade(7)


@pytest.mark.parametrize("row", [None, [], 7, {}, {"a": 1}], ids=repr)
def test_a_row_that_is_no_trade_is_refused(row: Any) -> None:
    with pytest.raises(MalformedFrame):
        rules.parse_trade_row(row, symbol=SYMBOL)


def test_a_tape_goes_on_to_the_next_trade_only() -> None:
    tape = Tape(100, milliseconds(START))

    assert not tape.advance(trade(102, START)) and not tape.advance(trade(100, START))
    assert tape.advance(trade(101, START)) and (tape.last_id, tape.last_ms) == (101, milliseconds(START))


@pytest.mark.parametrize(
    ("number", "later", "order"),
    [
        (105, timedelta(seconds=1), Order.AFTER_A_GAP),
        (100, timedelta(0), Order.REPEATED),
        (60, timedelta(0), Order.REPEATED),
        (101, -timedelta(seconds=1), Order.DOUBTFUL),
        (101, timedelta(days=400), Order.DOUBTFUL),
        (105, -timedelta(seconds=1), Order.DOUBTFUL),
        (10**12, timedelta(0), Order.DOUBTFUL),
    ],
)
def test_a_trade_is_told_from_one_that_cannot_be_believed(
    number: int, later: timedelta, order: Order
) -> None:
    tape = Tape(100, milliseconds(START))

    assert not tape.advance(trade(number, START + later))
    assert tape.order_of(trade(number, START + later)) is order


@given(st.sets(st.integers(1, 30)), st.integers(1, 30), st.integers(0, 10))
def test_missing_ids_are_exactly_those_not_present(present: set[int], first: int, more: int) -> None:
    hole = TradeHole(SYMBOL, first, first + more)

    found = rules.missing_ids(hole, sorted(present))

    ids = [n for h in found for n in range(h.first_id, h.last_id + 1)]
    assert ids == sorted(set(range(first, first + more + 1)) - present)


# --- the store ---
@pytest.mark.django_db
def test_trades_are_stored_as_they_came(now: datetime) -> None:
    services.record_trades(trades=[trade(1), trade(2)], now=now)

    newest, _ = selectors.recent_trades(SYMBOL, 5)
    assert (newest.aggregate_id, newest.price, newest.quantity) == (2, Decimal("50002.10"), Decimal("0.25"))
    assert newest.traded_at == START + timedelta(seconds=2) and newest.buyer_is_maker


@pytest.mark.django_db
def test_trades_that_are_stored_already_are_left_as_they_are(now: datetime) -> None:
    services.record_trades(trades=[trade(1), trade(2)], now=now)

    services.record_trades(trades=[trade(2), trade(3), trade(1)], now=now)

    assert numbers() == [1, 2, 3]


@pytest.mark.django_db
def test_a_day_without_a_part_gets_one_when_a_trade_comes(now: datetime) -> None:
    times = [START, START + 40 * DAY, START - 400 * DAY]

    services.record_trades(trades=[trade(n, at) for n, at in enumerate(times)], now=now)

    assert numbers() == [0, 1, 2]
    assert {part_of(at) for at in times} <= set(partitions.parts())


@pytest.mark.django_db(transaction=True)
def test_writers_that_meet_the_same_new_days_at_once_do_not_fail(now: datetime) -> None:
    def write(number: int) -> None:
        try:
            times = [START + day * DAY for day in range(8)]
            mine = [trade(100 * number + n, at, symbol=f"S{number}") for n, at in enumerate(times)]
            services.record_trades(trades=mine, now=now)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    assert models.Trade.objects.count() == 32


@pytest.mark.django_db
def test_nothing_is_stored_under_a_fence_that_was_lost(now: datetime) -> None:
    with pytest.raises(LeaseLost):
        services.record_trades(trades=[trade(1)], now=now, fence=Fence("streams:test", 3))

    assert numbers() == []


@pytest.mark.django_db
def test_a_hole_longer_than_a_backfill_is_fetched_in_part(now: datetime) -> None:
    services.record_trades(trades=[trade(50_001)], missing=[TradeHole(SYMBOL, 1, 50_000)], now=now)

    assert holes() == [(1, 40_000, "too_long", False), (40_001, 50_000, "pending", False)]


@pytest.mark.django_db
def test_old_parts_are_dropped_and_the_next_days_are_made_ahead(now: datetime, settings: Any) -> None:
    settings.TRADES_KEPT_DAYS = 3
    services.record_trades(trades=[trade(n, START + n * DAY) for n in range(8)], now=now)

    services.drop_old(now=now)

    assert numbers() == [4, 5, 6, 7]
    parts = partitions.parts()
    assert part_of(START + 9 * DAY) in parts and part_of(START + 4 * DAY) == parts[0]


@pytest.mark.django_db
def test_parts_of_another_environment_are_left_alone(now: datetime, settings: Any) -> None:
    services.record_trades(trades=[trade(1)], now=now)
    settings.TRADING_ENVIRONMENT = type(settings.TRADING_ENVIRONMENT).TESTNET

    partitions.drop_parts_before(date(2100, 1, 1))

    assert numbers() == [1]


@pytest.mark.django_db
def test_the_database_itself_refuses_a_price_of_nothing() -> None:
    partitions.ensure_parts([START.date()])

    with pytest.raises(Exception, match="market_trade_sane"), connection.cursor() as cursor:
        cursor.execute("INSERT INTO market_trade VALUES ('simulator', 'BTCUSDT', %s, 1, 0, 1, true)", [START])


# --- with the streams ---
def test_trades_of_the_socket_are_stored_and_tell_the_last_price(
    exchange: ScriptedExchange, streams: RunningStreams, redis_server: redis.Redis
) -> None:
    eventually(lambda: numbers() == [1000], "the newest trade by REST")

    exchange.send_market(*exchange.trade(1001, 1002, 1003))

    eventually(lambda: numbers() == [1000, 1001, 1002, 1003])
    last = eventually(lambda: (p := selectors.last_price(SYMBOL)) and p.price == Decimal("50003.10") and p)
    assert isinstance(last, LastPrice) and last.traded_at == START + timedelta(seconds=1003)
    assert holes() == []


def test_without_redis_the_last_price_is_the_newest_stored_trades(
    db: None, now: datetime, redis_server: redis.Redis
) -> None:
    services.record_trades(trades=[trade(1), trade(2)], now=now)

    last = selectors.last_price(SYMBOL)

    assert last is not None and last.price == Decimal("50002.10")
    assert selectors.last_price("NOPEUSDT") is None


def test_a_gap_in_the_ids_is_filled_by_rest(exchange: ScriptedExchange, streams: RunningStreams) -> None:
    eventually(lambda: numbers() == [1000])
    frames = exchange.trade(*range(1001, 1011))

    exchange.send_market(frames[0], frames[-1])

    eventually(lambda: numbers() == list(range(1000, 1011)))
    eventually(lambda: holes() == [(1002, 1009, "pending", True)])


def test_ids_that_the_exchange_does_not_give_are_recorded_as_a_hole(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    eventually(lambda: numbers() == [1000])
    frames = exchange.trade(1001, 1004, 1005, 1008)

    exchange.send_market(frames[-1])

    eventually(lambda: numbers() == [1000, 1001, 1004, 1005, 1008])
    assert eventually(lambda: len(holes()) == 3 and holes()) == [
        (1001, 1007, "pending", True),
        (1002, 1003, "exchange", False),
        (1006, 1007, "exchange", False),
    ]


def test_repeated_and_late_trades_are_stored_once(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    eventually(lambda: numbers() == [1000])
    first, second, third = exchange.trade(1001, 1002, 1003)

    exchange.send_market(first, third, second, first, third)

    eventually(lambda: numbers() == [1000, 1001, 1002, 1003])


def test_a_trade_dated_in_the_future_is_refused_and_the_next_one_is_stored(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    eventually(lambda: numbers() == [1000])
    lie = trade_row(1001, T=milliseconds(START + 400 * DAY))

    exchange.send_market(trade_frame(lie), trade_frame(trade_row(10**12, T=trade_row(1001)["T"])))
    eventually(lambda: "2 frames refused, last: a trade that does not follow" in detail())
    exchange.send_market(*exchange.trade(1001))

    eventually(lambda: numbers() == [1000, 1001])
    assert models.Trade.objects.get(aggregate_id=1001).traded_at == START + timedelta(seconds=1001)


def test_a_trade_after_a_long_silence_is_believed_when_rest_confirms_it(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    eventually(lambda: numbers() == [1000])
    row = trade_row(1001, T=milliseconds(START + 3 * DAY))
    exchange.trades[SYMBOL].append(row)

    exchange.send_market(trade_frame(row))

    eventually(lambda: numbers() == [1000, 1001])


def test_trades_that_came_while_nobody_listened_are_fetched_after_the_next_one(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    eventually(lambda: numbers() == [1000])
    exchange.refuse_market = True
    exchange.close_market()
    frames = exchange.trade(*range(1001, 3500))
    exchange.refuse_market = False
    eventually(
        lambda: models.FeedSession.objects.filter(stream="market", resynced_at__isnull=False).count() == 2
    )

    exchange.send_market(frames[-1])

    eventually(lambda: numbers() == list(range(1000, 3500)))


def test_a_hole_left_by_the_process_before_is_filled_at_the_start(
    exchange: ScriptedExchange, now: datetime
) -> None:
    exchange.trade(1001, 1002, 1003)
    services.record_trades(
        trades=[trade(1000), trade(1003)], missing=[TradeHole(SYMBOL, 1001, 1002)], now=now
    )
    running = RunningStreams()
    try:
        eventually(lambda: numbers() == [1000, 1001, 1002, 1003])
    finally:
        running.stop()


def test_trades_that_rest_does_not_know_yet_are_waited_for(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    eventually(lambda: numbers() == [1000])
    exchange.send_market(trade_frame(trade_row(1003)))
    eventually(lambda: numbers() == [1000, 1003])
    assert holes() == [(1001, 1002, "pending", False)]

    exchange.trade(1001, 1002, 1003)

    eventually(lambda: numbers() == [1000, 1001, 1002, 1003])


def test_what_cannot_be_waited_for_any_longer_becomes_a_hole_of_the_exchange(
    exchange: ScriptedExchange, streams: RunningStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: numbers() == [1000])
    monkeypatch.setattr(trade_stream, "REST_LAG_MAX", timedelta(0))

    exchange.send_market(trade_frame(trade_row(1003)))

    eventually(lambda: (1001, 1002, "exchange", False) in holes())


def test_trades_of_a_market_that_was_put_back_are_dropped(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    eventually(lambda: numbers() == [1000])
    exchange.candles[SYMBOL] = walk(60, start=START - 500 * MINUTE, seed=3)
    exchange.trades[SYMBOL] = [trade_row(7)]

    exchange.close_market()

    eventually(lambda: numbers() == [7])


def test_trades_never_hold_up_the_candles(exchange: ScriptedExchange, streams: RunningStreams) -> None:
    eventually(lambda: numbers() == [1000])
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE market_trade IN ACCESS EXCLUSIVE MODE")
        try:
            exchange.send_market(*exchange.trade(1001))
            [candle] = exchange.append()
            exchange.send_market(kline_frame(candle))
            eventually(lambda: models.Candle.objects.filter(open_time=candle.open_time).exists())
        finally:
            cursor.execute("ROLLBACK")

    eventually(lambda: numbers() == [1000, 1001])


def test_a_flood_that_overflows_the_queue_leads_to_a_resync_and_nothing_is_missing(
    exchange: ScriptedExchange, streams: RunningStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: numbers() == [1000])
    monkeypatch.setattr(stream_client, "QUEUE_FRAMES_MAX", 1000)
    monkeypatch.setattr(trade_stream, "PENDING_MAX", 500)
    gate, record = threading.Event(), services.record_trades

    def slowly(**arguments: Any) -> None:
        assert gate.wait(60)
        record(**arguments)

    monkeypatch.setattr("market.services.trades.record_trades", slowly)
    frames = exchange.trade(*range(1001, 6001))
    candles = exchange.append(count=4)
    for number, candle in enumerate(candles):
        frames.insert(1000 + 1000 * number, kline_frame(candle))

    exchange.send_market(*frames)
    eventually(lambda: not exchange._market, "the client has dropped the connection")
    gate.set()

    ended = models.FeedSession.objects.filter(stream="market", ended_at__isnull=False)
    assert "the queue is full" in eventually(lambda: ended.first()).end_reason
    eventually(lambda: selectors.last_closed(SYMBOL, Interval.M1) == candles[-1])
    assert selectors.closed_candles(SYMBOL, Interval.M1, 1000) == exchange.candles[SYMBOL]
    exchange.send_market(*exchange.trade(6001))
    eventually(lambda: numbers() == list(range(1000, 6002)), "every trade is stored")


def test_midnight_is_in_the_part_of_its_own_day(db: None, now: datetime) -> None:
    midnight = datetime(2026, 3, 3, tzinfo=UTC)

    services.record_trades(
        trades=[trade(1, midnight - timedelta(milliseconds=1)), trade(2, midnight)], now=now
    )

    with connection.cursor() as cursor:
        cursor.execute("SELECT aggregate_id FROM market_trade_simulator_20260303")
        assert cursor.fetchall() == [(2,)]
