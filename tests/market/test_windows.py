"""The indicators' window: carried forward or opened anew, the same bits; and only of what is really stored."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
import talib
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market import models, rules, selectors, services
from market.contracts import ANCHOR_CANDLES, WARM_UP_CANDLES, WINDOW_CANDLES, Candle, Interval, StaleData
from market.rules import windows
from market.rules.windows import Window, facts_of, follow
from market.selectors.candles import newest_candles
from market.services import snapshots
from tests.market.bars import packed
from tests.market.builders import START, walk

MINUTES = walk(700, start=START)
OTHER = walk(700, start=START, seed=11)


def stored(candles: list[Candle]) -> bytes:
    return packed(candles[-WINDOW_CANDLES:])


def take(kept: Window | None, candles: list[Candle]) -> tuple[Window | None, list[str], str]:
    """As the service does it: what is kept, the exact values, and the facts or why there are none."""
    try:
        window = follow(kept, stored(candles), Interval.M1)
        return window, [value.hex() for value in window.indicators.values], str(facts_of(window, Interval.M1))
    except StaleData as error:
        return None, [], str(error)


# --- what happens to a store between two snapshots ---
Change = Callable[[list[Candle]], list[Candle]]


def append(count: int) -> Change:
    return lambda candles: MINUTES[: len(candles) + count] if len(candles) + count <= 700 else candles


def replace_at(back: int) -> Change:
    def change(candles: list[Candle]) -> list[Candle]:
        at = max(len(candles) - 1 - back, 0)
        return [*candles[:at], *OTHER[at : at + 1], *candles[at + 1 :]]

    return change


def lose(back: int) -> Change:
    return lambda candles: candles[: max(len(candles) - 1 - back, 0)] + candles[len(candles) - back :]


def go_back(count: int) -> Change:
    """Market time is put back: what is later is dropped, and the other market goes on from there."""
    return lambda candles: [*candles[:-count], *OTHER[len(candles) - count : len(candles) - count // 2]]


CHANGES = st.one_of(
    st.integers(0, 3).map(append),
    st.integers(0, 90).map(append),
    st.integers(0, 250).map(replace_at),
    st.integers(0, 250).map(lose),
    st.integers(1, 300).map(go_back),
)


@settings(max_examples=60, deadline=None)
@given(st.integers(140, 330), st.lists(st.tuples(CHANGES, st.booleans()), max_size=12))
@example(189, [(append(1), False)] * 12)
@example(200, [(append(1), False), (replace_at(0), False), (append(1), False), (replace_at(3), False)])
def test_a_carried_window_has_the_bits_of_one_that_is_opened_anew(
    count: int, changes: list[tuple[Change, bool]]
) -> None:
    candles, kept = MINUTES[:count], None
    for change, restarted in changes:
        candles = change(candles)

        kept, *carried = take(None if restarted else kept, candles)

        assert carried == list(take(None, candles)[1:])


def test_the_values_are_those_of_ta_libs_arrays_over_the_same_window() -> None:
    for newest in range(400, 400 + 2 * ANCHOR_CANDLES):
        count = rules.window_length(MINUTES[newest].open_time, Interval.M1)
        part = MINUTES[newest + 1 - count : newest + 1]
        high, low, close = (np.array([float(getattr(c, n)) for c in part]) for n in ("high", "low", "close"))
        volume = np.array([float(c.volume) for c in part])

        window = follow(None, packed(part), Interval.M1)

        values = dict(zip(windows.NAMES, window.indicators.values, strict=True))
        assert values["sma_20"] == talib.SMA(close, 20)[-1]
        assert values["ema_50"] == talib.EMA(close, 50)[-1]
        assert values["rsi_14"] == talib.RSI(close, 14)[-1]
        assert values["adx_14"] == talib.ADX(high, low, close, 14)[-1]
        assert values["atr_14"] == talib.ATR(high, low, close, 14)[-1]
        assert values["macd_signal"] == talib.MACD(close, 12, 26, 9)[1][-1]
        assert values["obv"] == talib.OBV(close, volume)[-1]


# --- which windows go on ---
@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many candles each window was opened on."""
    counts: list[int] = []
    real = windows.Indicators

    def counting(*columns: Sequence[float]) -> windows.Indicators:
        counts.append(len(columns[0]))
        return real(*columns)

    monkeypatch.setattr(windows, "Indicators", counting)
    return counts


def test_handles_are_opened_once_an_anchor(opened: list[int]) -> None:
    first = next(n for n, c in enumerate(MINUTES) if n > 200 and length(c) == WARM_UP_CANDLES)
    kept = None
    for newest in range(first, first + 2 * ANCHOR_CANDLES):
        kept = follow(kept, stored(MINUTES[: newest + 1]), Interval.M1)

    assert opened == [WARM_UP_CANDLES] * 2


def test_a_window_that_has_not_moved_is_not_computed_again(opened: list[int]) -> None:
    kept = follow(None, stored(MINUTES[:300]), Interval.M1)
    values = kept.indicators.values

    again = follow(kept, stored(MINUTES[:300]), Interval.M1)

    assert again.indicators.values is values and len(opened) == 1


def test_a_replaced_candle_opens_the_window_anew(opened: list[int]) -> None:
    kept = follow(None, stored(MINUTES[:300]), Interval.M1)
    corrected = replace(MINUTES[280], volume=MINUTES[280].volume + Decimal("0.00001"))

    follow(kept, stored([*MINUTES[:280], corrected, *MINUTES[281:301]]), Interval.M1)

    assert len(opened) == 2


def length(candle: Candle) -> int:
    return rules.window_length(candle.open_time, Interval.M1)


# --- refusals ---
def test_no_candle_at_all_is_refused() -> None:
    with pytest.raises(StaleData, match="no closed candle"):
        follow(None, b"", Interval.M1)


def test_one_candle_too_few_is_refused() -> None:
    needed = length(MINUTES[299])

    with pytest.raises(StaleData, match=f"^{needed - 1} closed candles, and the indicators need {needed}$"):
        follow(None, packed(MINUTES[301 - needed : 300]), Interval.M1)


def test_the_fewest_that_are_ever_needed_are_the_warm_up() -> None:
    needed = {length(candle) for candle in MINUTES}

    assert (min(needed), max(needed)) == (WARM_UP_CANDLES, WINDOW_CANDLES)


@pytest.mark.parametrize("warm", [False, True])
def test_a_hole_is_refused_by_its_time(warm: bool) -> None:
    kept = follow(None, stored(MINUTES[:290]), Interval.M1) if warm else None

    with pytest.raises(StaleData, match="the candle of 2026-03-02T04:55:00Z is missing"):
        follow(kept, stored([*MINUTES[:295], *MINUTES[296:300]]), Interval.M1)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", ["high", "low", "close", "volume"])
def test_what_is_not_a_number_is_refused(warm: bool, name: str) -> None:
    kept = follow(None, stored(MINUTES[:290]), Interval.M1) if warm else None
    broken = replace(MINUTES[290], **{name: Decimal("NaN")})

    with pytest.raises(StaleData, match="not a number"):
        follow(kept, stored([*MINUTES[:290], broken]), Interval.M1)


def test_an_indicator_without_a_value_is_refused_by_its_name() -> None:
    window = follow(None, stored(MINUTES[:300]), Interval.M1)
    window.indicators.values = tuple(math.nan if name == "rsi_14" else 1.0 for name in windows.NAMES)

    with pytest.raises(StaleData, match="the indicator rsi_14 has no value"):
        facts_of(window, Interval.M1)


# --- from the database ---
@pytest.mark.django_db
def test_postgres_hands_over_the_floats_that_python_makes(now: datetime) -> None:
    odd = [
        "0.0000000000000001",
        "0.1",
        "1234567890123456.7890123456789012",
        "9007199254740993",
        "3.3333333333333333",
    ]
    numbers = [Decimal(text) for text in odd]
    candles = [
        replace(c, low=n, close=n, high=n, volume=v)
        for c, n, v in zip(walk(20), numbers * 4, numbers[1:] * 5, strict=True)
    ]
    services.upsert_candles(candles=candles, now=now)

    newest = newest_candles("BTCUSDT", Interval.M1)

    assert newest is not None
    assert newest.bars == packed(candles)
    assert list(newest.shown) == candles and newest.received_at == now


@pytest.mark.django_db
def test_the_newest_candles_are_one_window_and_the_rows_that_are_shown(now: datetime) -> None:
    services.upsert_candles(candles=MINUTES, now=now)

    newest = newest_candles("BTCUSDT", Interval.M1)

    assert newest is not None
    assert newest.bars == stored(MINUTES)
    assert list(newest.shown) == MINUTES[-rules.SHOWN_CANDLES :]


@pytest.mark.django_db
def test_no_stored_candle_is_none() -> None:
    assert newest_candles("BTCUSDT", Interval.M1) is None


@pytest.mark.django_db
def test_a_process_that_kept_a_window_says_what_a_new_one_says(now: datetime) -> None:
    def facts() -> str:
        newest = newest_candles("BTCUSDT", Interval.M1)
        assert newest is not None
        return str(snapshots._indicator_facts("BTCUSDT", Interval.M1, newest.bars))

    services.upsert_candles(candles=MINUTES[:300], now=now)
    facts()
    corrected = replace(MINUTES[290], close=MINUTES[290].low)
    for changed in ([corrected], MINUTES[300:301], MINUTES[301:350]):
        services.upsert_candles(candles=changed, now=now)
        models.Candle.objects.filter(open_time__lt=MINUTES[100].open_time).delete()
        kept = facts()
        snapshots._kept.clear()

        assert kept == facts()
    assert selectors.last_closed("BTCUSDT", Interval.M1) == MINUTES[349]


@settings(deadline=None)
@given(
    st.integers(946_684_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(Interval),
)
def test_window_grows_by_one_with_each_candle_from_its_anchor(instant: datetime, interval: Interval) -> None:
    opened = rules.bucket_start(instant, interval)
    since_anchor = (opened - datetime(1970, 1, 1, tzinfo=UTC)) // rules.length(interval) % ANCHOR_CANDLES

    assert rules.window_length(opened, interval) == WARM_UP_CANDLES + since_anchor
