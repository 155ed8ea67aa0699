"""The tape: replayed candles equal the file's, trades inside a candle add up, the generator repeats itself."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.decimals import to_units
from simulator.engine.instruments import GENERATED_SYMBOLS, KNOWN_INSTRUMENTS
from simulator.market.candles import (
    DAY_MS,
    MINUTE_MS,
    Candle,
    RawCandle,
    aggregate,
    interval_close_ms,
    interval_open_ms,
)
from simulator.market.path import candle_path
from simulator.market.recording import RecordingError, read_recording
from simulator.market.sources import GeneratedSource, RecordedSource, WildSource
from simulator.market.tape import CandleClosed, SymbolTape, Tick
from simulator.server import Venue, VenueSettings
from tests.simulator.conftest import RECORDED_CANDLES, RECORDING
from tests.simulator.market_builder import START_MS

TICK, STEP = 10**6, 10**3


def source_of(symbol: str, seed: int = 7) -> GeneratedSource:
    instrument = KNOWN_INSTRUMENTS[symbol]
    return GeneratedSource(
        seed,
        symbol,
        reference_price=float(instrument.reference_price),
        minute_volatility=instrument.minute_volatility,
        minute_quote_volume=instrument.minute_quote_volume,
        tick=to_units(instrument.tick_size),
        step=to_units(instrument.step_size),
    )


def test_replayed_candles_equal_the_file() -> None:
    recording = read_recording(RECORDING)
    tape = SymbolTape("BTCUSDT", RecordedSource("file", recording.candles), 7, TICK, STEP, 0)

    closed = []
    while len(closed) < 500:
        step = tape.step()
        if isinstance(step, CandleClosed):
            closed.append(RawCandle._make(step.candle[:6]))

    assert len(recording.candles) == RECORDED_CANDLES
    assert closed == recording.candles[:500]


def test_trades_of_a_replayed_candle_make_that_candle() -> None:
    recording = read_recording(RECORDING)
    tape = SymbolTape("BTCUSDT", RecordedSource("file", recording.candles), 7, TICK, STEP, 0)
    trades: list[Tick] = []

    compared = 0
    while compared < 300:
        step = tape.step()
        if isinstance(step, Tick):
            trades += [step] if step.quantity else []
            continue
        candle = step.candle
        assert sum(trade.quantity for trade in trades) == candle.volume
        assert len(trades) == candle.trades
        assert [trade.trade_id for trade in trades] == list(
            range(candle.first_trade_id, candle.first_trade_id + candle.trades)
        )
        if len(trades) == 24:
            prices = [trade.price for trade in trades]
            assert (prices[0], max(prices), min(prices), prices[-1]) == candle[1:5]
            compared += 1
        trades = []


@given(
    prices=st.lists(st.integers(1, 10**6), min_size=4, max_size=4),
    lots=st.integers(0, 5_000),
    seed=st.integers(0, 2**32),
)
def test_path_visits_open_extremes_and_close_and_splits_the_volume(
    prices: list[int], lots: int, seed: int
) -> None:
    low, *inner, high = sorted(price * TICK for price in prices)
    candle = RawCandle(0, inner[0], high, low, inner[1], lots * STEP)

    path = candle_path(candle, seed, TICK, STEP)

    walked = [tick.price for tick in path]
    assert (walked[0], max(walked), min(walked), walked[-1]) == (candle.open, high, low, candle.close)
    assert sum(tick.quantity for tick in path) == candle.volume
    assert all(tick.quantity >= 0 and tick.quantity % STEP == 0 for tick in path)
    assert all(price % TICK == 0 for price in walked)
    offsets = [tick.offset_ms for tick in path]
    assert offsets[0] == 0 and offsets == sorted(set(offsets)) and offsets[-1] < MINUTE_MS


def test_hole_in_a_file_stays_a_hole() -> None:
    candles = [RawCandle(START_MS + n * MINUTE_MS, 10**8, 10**8, 10**8, 10**8, 0) for n in (0, 1, 5, 6)]
    tape = SymbolTape("BTCUSDT", RecordedSource("holes", candles), 7, TICK, STEP, 0)

    tape.skip_to(START_MS + 10 * MINUTE_MS)

    assert tape.ended
    assert [c.open_ms for c in tape.series.between(0, 10**15)] == [c.open_ms for c in candles]


def test_loading_at_once_gives_the_same_candles_as_tick_by_tick() -> None:
    source = source_of("ETHUSDT")
    quick = SymbolTape("ETHUSDT", source, 7, 10**6, 10**4, START_MS)
    slow = SymbolTape("ETHUSDT", source_of("ETHUSDT"), 7, 10**6, 10**4, START_MS)
    end_ms = START_MS + 100 * MINUTE_MS + 30_000

    quick.skip_to(end_ms)
    while (upcoming := slow.next_ms) is not None and upcoming <= end_ms:
        slow.step()

    assert list(quick.minutes(0, 10**15)) == list(slow.minutes(0, 10**15))
    assert (quick.last_price, quick.next_ms) == (slow.last_price, slow.next_ms)


@pytest.mark.parametrize("symbol", GENERATED_SYMBOLS)
def test_generated_minutes_are_whole_and_follow_on_each_other(symbol: str) -> None:
    source = source_of(symbol)
    candles = [source.minute(START_MS // MINUTE_MS + n) for n in range(600)]

    for candle, following in pairwise(candles):
        assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
        assert candle.close == following.open
        assert candle.volume > 0
    reference = to_units(KNOWN_INSTRUMENTS[symbol].reference_price)
    assert all(0.7 * reference < candle.close < 1.4 * reference for candle in candles)


def test_generated_minute_does_not_depend_on_what_was_asked_before() -> None:
    forward, single = source_of("SOLUSDT"), source_of("SOLUSDT")
    minute = START_MS // MINUTE_MS
    walked = [forward.minute(minute + n) for n in range(200)]

    assert single.minute(minute + 199) == walked[199]
    assert single.minute(minute + 3) == walked[3]
    assert source_of("SOLUSDT", seed=8).minute(minute) != walked[0]


def test_generated_market_has_phases_of_trend_and_of_range() -> None:
    source = source_of("BTCUSDT")

    phases = {source.phase(START_MS // MINUTE_MS + 60 * n) for n in range(48)}

    assert phases == {"TREND_UP", "TREND_DOWN", "RANGE"}


def test_wild_market_gaps_runs_thin_and_halts() -> None:
    venue = Venue(VenueSettings(seed=7, wild=True, history_minutes=10))
    source = venue.exchange.tapes["BTCUSDT"].source
    venue.close()
    assert isinstance(source, WildSource)
    first = START_MS // MINUTE_MS // 60 * 60
    minutes = range(first, first + 60 * 200)

    phases = {source.phase(minute) for minute in minutes}
    halted = next(minute for minute in minutes if source.is_halted(minute))
    after_halt = source.next_after((halted - 1) * MINUTE_MS).open_ms // MINUTE_MS
    gapping = next(minute for minute in minutes if source.phase(minute) == "GAP")
    before, jumped = source.minute(gapping - 1), source.minute(gapping)
    thin = next(minute for minute in minutes if source.phase(minute) == "THIN")

    assert phases == {"TREND_UP", "TREND_DOWN", "RANGE", "HALT", "THIN", "GAP"}
    assert after_halt == halted + 15
    assert abs(jumped.open / before.close - 1) > 0.002
    assert jumped.low <= min(jumped.open, jumped.close) <= max(jumped.open, jumped.close) <= jumped.high
    assert source.minute(thin).volume < GeneratedSource.minute(source, thin).volume / 10


@pytest.mark.parametrize("interval", ["3m", "15m", "1h", "4h", "1d", "1w", "1M"])
def test_longer_candles_lie_on_utc_boundaries_and_hold_their_minutes(interval: str) -> None:
    minutes = [
        Candle(START_MS + n * MINUTE_MS, 100 + n, 105 + n, 95 + n, 101 + n, 7, 70, 2, 3, 30, n)
        for n in range(3 * 1440)
    ]

    for candle in aggregate(interval, minutes):
        end_ms = interval_close_ms(interval, candle.open_ms)
        inside = [m for m in minutes if candle.open_ms <= m.open_ms <= end_ms]
        assert interval_open_ms(interval, inside[0].open_ms) == candle.open_ms
        assert (candle.open, candle.close) == (inside[0].open, inside[-1].close)
        assert (candle.high, candle.low) == (max(m.high for m in inside), min(m.low for m in inside))
        assert (candle.volume, candle.trades) == (7 * len(inside), 2 * len(inside))


def test_week_opens_on_monday_and_month_on_the_first() -> None:
    wednesday = START_MS  # 2023-03-01

    assert interval_open_ms("1w", wednesday) == wednesday - 2 * DAY_MS
    assert interval_open_ms("1M", wednesday + 5 * DAY_MS) == wednesday
    assert interval_close_ms("1M", wednesday) == wednesday + 31 * DAY_MS - 1


HEADER = "open_time_ms,open,high,low,close,volume\n"
GOOD = f"{START_MS},10,11,9,10.5,1\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("time,open\n", 1, "header"),
        (HEADER + GOOD + f"{START_MS + 60_000},10,11,9\n", 3, "4 fields"),
        (HEADER + GOOD + f"{START_MS + 60_000},nan,11,9,10,1\n", 3, "'nan' is not a plain number"),
        (HEADER + GOOD + f"{START_MS + 60_000},10,11,9,10,-1\n", 3, "'-1' is not a plain number"),
        (HEADER + GOOD + f"{START_MS + 60_000},10,9,11,10,1\n", 3, "contradict"),
        (HEADER + GOOD + f"{START_MS + 60_000},0,11,0,10,1\n", 3, "contradict"),
        (HEADER + GOOD + GOOD, 3, "is not after"),
        (HEADER + GOOD + f"{START_MS + 1},10,11,9,10,1\n", 3, "whole minute"),
        (HEADER + GOOD + "1677628860,10,11,9,10,1\n", 3, "epoch milliseconds"),
    ],
)
def test_broken_line_is_refused_with_file_and_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    path = tmp_path / "BTCUSDT-1m-test.csv"
    path.write_text(text)

    with pytest.raises(RecordingError) as caught:
        read_recording(path)

    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("BTCUSDT-1m-cut.csv.gz", gzip.compress(HEADER.encode() + GOOD.encode() * 500)[:40]),
        ("BTCUSDT-1m-plain.csv.gz", b"not gzip at all"),
        ("BTCUSDT-1m-empty.csv", b""),
        ("BTCUSDT-1m-one.csv", (HEADER + GOOD).encode()),
        ("BTCUSDT-1m-binary.csv", b"\xff\xfe\x00"),
        ("candles.csv", (HEADER + GOOD).encode()),
    ],
)
def test_unusable_file_is_refused_by_name(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(RecordingError, match=name):
        read_recording(path)


def test_small_volume_in_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-test.csv"
    path.write_text(HEADER + f"{START_MS},10,11,9,10.5,9e-05\n{START_MS + 60_000},10,11,9,10.5,1.5e-05\n")

    assert [candle.volume for candle in read_recording(path).candles] == [9_000, 1_500]
