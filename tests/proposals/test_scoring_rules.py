"""What a proposal would have brought: worked by hand, and against a slow model that looks things up again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.contracts import Candle, Interval
from proposals.contracts import Side
from proposals.rules import scoring
from proposals.rules.scoring import MINUTE, Idea, Reckoning, Score

START = datetime(2023, 3, 10, 9, 1, tzinfo=UTC)
D = Decimal
Bars = list[tuple[int, int, int, int] | None]


def idea(**changes: object) -> Idea:
    """Buy at 100, stop 90, target 120, for three minutes, while the ask was 101."""
    found = Idea(side=Side.BUY, quote=D(101), limit=D(100), waits=True, stop=D(90), target=D(120), start=START,
                 valid_until=START + 3 * MINUTE)  # fmt: skip
    return replace(found, **changes)


def sale(**changes: object) -> Idea:
    """Sell at 110 for three minutes while the bid was 100; the position has its stop at 90, its target at 120."""
    return idea(side=Side.SELL, quote=D(100), limit=D(110), **changes)


def candles(bars: Bars) -> dict[datetime, Candle]:
    """Minutes from START on as (open, high, low, close); None is a hole."""
    found = {}
    for number, bar in enumerate(bars):
        if bar is None:
            continue
        at = START + number * MINUTE
        o, h, low, c = map(D, bar)
        found[at] = Candle("BTCUSDT", Interval.M1, at, at + MINUTE, o, h, low, c, D(1), D(1), 1)
    return found


def reckon(idea: Idea, bars: Bars) -> Reckoning:
    return scoring.advance(scoring.begin(idea), idea, candles(bars))


FLAT = (105, 106, 104, 105)
TOUCH = (105, 106, 99, 105)

BY_HAND: list[tuple[str, Idea, Bars, Score, object, object]] = [
    ("limit touched, target reached", idea(), [FLAT, TOUCH, (105, 121, 104, 120)], Score.TARGET, 100, 120),
    ("limit touched, stop reached", idea(), [TOUCH, (95, 96, 89, 95)], Score.STOP, 100, 90),
    ("both in one minute: the stop", idea(), [TOUCH, (95, 130, 85, 95)], Score.STOP, 100, 90),
    ("opens below the stop: sold at the open", idea(), [TOUCH, (85, 86, 80, 85)], Score.STOP, 100, 85),
    ("filled and stopped in one minute", idea(), [(105, 105, 89, 95)], Score.STOP, 100, 90),
    ("target in the minute of the fill is not counted", idea(), [(105, 125, 99, 105)], Score.HELD, 100, None),
    ("limit never touched", idea(), [FLAT, FLAT, FLAT], Score.NOT_FILLED, None, None),
    ("touched after the validity", idea(), [FLAT, FLAT, FLAT, TOUCH], Score.NOT_FILLED, None, None),
    ("touched in the minute in which it ended", idea(valid_until=START + MINUTE * 1.5), [FLAT, TOUCH],
     Score.UNKNOWN, None, None),
    ("validity shorter than a minute, not touched", idea(valid_until=START + MINUTE / 2), [FLAT],
     Score.NOT_FILLED, None, None),
    ("touched exactly at the limit", idea(), [(105, 105, 100, 105), (105, 120, 104, 110)], Score.TARGET, 100,
     120),
    ("market order is held at the ask", idea(limit=None, waits=False), [(101, 120, 100, 110)], Score.TARGET,
     101, 120),
    ("limit above the ask is held at the ask", idea(limit=D(102)), [(101, 120, 100, 110)], Score.TARGET, 101,
     120),
    ("limit at the ask, IOC", idea(limit=D(101), waits=False), [(101, 120, 100, 110)], Score.TARGET, 101, 120),
    ("IOC below the ask", idea(waits=False), [], Score.NOT_FILLED, None, None),
    ("without a target only the stop ends it", idea(target=None), [TOUCH, (150, 200, 140, 150), (95, 95, 90, 95)],
     Score.STOP, 100, 90),
    ("not yet", idea(), [TOUCH, FLAT], Score.HELD, 100, None),
    ("still waiting", idea(), [FLAT], Score.WAITING, None, None),
    ("sale at market against the position's stop", idea(side=Side.SELL, limit=None, waits=False),
     [FLAT, (95, 96, 89, 95)], Score.STOP, 101, 90),
    ("sale at a limit below the bid is sold at the bid", replace(sale(), limit=D(99)), [(95, 96, 89, 95)],
     Score.STOP, 100, 90),
    ("sale FOK above the bid", sale(waits=False), [], Score.NOT_FILLED, None, None),
    ("sale: limit never touched", sale(), [FLAT, FLAT, FLAT], Score.NOT_FILLED, None, None),
    ("sale: limit touched, then the stop", sale(), [(105, 110, 104, 105), (95, 96, 89, 95)], Score.STOP, 110, 90),
    ("sale: the target in the minute of the fill counts", sale(), [(105, 121, 104, 105)], Score.TARGET, 110, 120),
    ("sale: the stop in the minute of the fill does not", sale(), [(105, 111, 89, 105)], Score.HELD, 110, None),
    ("sale: both in one minute: the target", sale(), [(105, 110, 104, 105), (105, 121, 89, 105)], Score.TARGET,
     110, 120),
    ("sale: a target that was jumped over would have sold at the open", sale(),
     [(105, 110, 104, 105), (125, 126, 124, 125)], Score.TARGET, 110, 125),
    ("sale of what has neither stop nor target goes on", sale(stop=None, target=None),
     [(105, 110, 104, 105), (10, 500, 5, 10)], Score.HELD, 110, None),
    ("nothing after a hole is looked at", idea(), [TOUCH, None, (105, 121, 104, 120)], Score.HELD, 100, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("idea", "bars", "score", "entry", "exit_price"),
    [row[1:] for row in BY_HAND],
    ids=[r[0] for r in BY_HAND],
)
def test_worked_by_hand(idea: Idea, bars: Bars, score: Score, entry: object, exit_price: object) -> None:
    found = reckon(idea, bars)

    assert (found.score, found.entry_price, found.exit_price) == (score, entry, exit_price)


def test_after_the_watch_it_is_sold_at_the_close() -> None:
    minutes = int(scoring.WATCHED / MINUTE)
    bars: Bars = [TOUCH] + [FLAT] * (minutes - 2)
    assert reckon(idea(), bars).score is Score.HELD

    found = reckon(idea(), [*bars, (105, 106, 104, 103)])

    assert (found.score, found.exit_price, found.exit_at) == (
        Score.TIME, 103, START + scoring.WATCHED - MINUTE,
    )  # fmt: skip


def test_result_of_a_sale_is_what_it_saved_against_the_sale_that_came_later() -> None:
    # 10 sold at 100 instead of at 90: (1000 - 1) - (900 - 0.90) = 99.90 of 1000
    assert scoring.net_pct(Side.SELL, D(100), D(90), D("0.001")) == D("9.99")


def test_result_is_after_the_fee_of_both_sides() -> None:
    # 1000 at 100, sold at 120: 1200 - 1.2 - 1000 - 1 = 197.80
    pct = scoring.net_pct(Side.BUY, D(100), D(120), D("0.001"))

    assert pct == D("19.78")
    assert scoring.net_quote(pct, D(1000)) == D("197.8")


def test_result_is_rounded_down_also_below_zero() -> None:
    assert scoring.net_pct(Side.BUY, D(3), D(2), D(0)) == D("-33.33333334")


# --- the slow model --------------------------------------------------------------------------------------
def slow(idea: Idea, bars: Bars) -> tuple[Score, Decimal | None, Decimal | None]:
    """The rule again as a search: where was it filled, and what came first after that?"""
    known = bars[: bars.index(None)] if None in bars else bars
    minutes = [tuple(map(D, bar)) for bar in known if bar is not None]
    valid = (idea.valid_until - idea.start) / MINUTE
    buys = idea.side is Side.BUY
    if idea.limit is None or idea.limit == idea.quote or (idea.limit > idea.quote) == buys:
        entry, first, fresh = idea.quote, 0, False
    elif not idea.waits:
        return Score.NOT_FILLED, None, None
    else:
        touches = [
            i
            for i, bar in enumerate(minutes)
            if (bar[2] <= idea.limit if buys else bar[1] >= idea.limit) and i < valid
        ]
        if not touches:
            return (Score.NOT_FILLED if len(minutes) >= valid else Score.WAITING), None, None
        if touches[0] + 1 > valid:
            return Score.UNKNOWN, None, None
        entry, first, fresh = idea.limit, touches[0], True
    never = len(minutes)
    # In the minute of the fill only what speaks against it is looked for; of two in one minute that one wins.
    floors = range(first + (fresh and not buys), never) if idea.stop is not None else range(0)
    aims = range(first + (fresh and buys), never) if idea.target is not None else range(0)
    stop = next((i for i in floors if minutes[i][2] <= (idea.stop or 0)), never)
    target = next((i for i in aims if minutes[i][1] >= (idea.target or 0)), never)
    if stop == target == never:
        return Score.HELD, entry, None
    if stop < target or (stop == target and buys):
        return Score.STOP, entry, min(idea.stop or D(0), minutes[stop][0])
    return Score.TARGET, entry, idea.target if buys else max(idea.target or D(0), minutes[target][0])


def bar(numbers: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    low, *middle, high = sorted(numbers)
    return middle[0], high, low, middle[1]


price = st.integers(80, 130)
HOLED = st.lists(st.one_of(*[st.tuples(price, price, price, price).map(bar)] * 6, st.none()), max_size=12)
IDEAS = st.builds(
    lambda side, quote, limit, waits, stop, target, seconds: Idea(
        side=side, quote=D(quote), limit=None if limit is None else D(limit), waits=waits,
        stop=None if stop is None else D(stop),
        target=None if target is None else D(target), start=START,
        valid_until=START + timedelta(seconds=seconds),
    ),
    side=st.sampled_from(Side), quote=price, limit=st.none() | price, waits=st.booleans(),
    stop=st.none() | st.integers(78, 110),
    target=st.none() | st.integers(95, 132), seconds=st.integers(30, 900),
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(IDEAS, HOLED)
def test_agrees_with_the_slow_model(idea: Idea, bars: Bars) -> None:
    found = reckon(idea, bars)

    assert (found.score, found.entry_price, found.exit_price) == slow(idea, bars)


@settings(max_examples=500, deadline=None)
@given(IDEAS, HOLED, st.integers(0, 12))
def test_in_two_steps_is_the_same_as_in_one(idea: Idea, bars: Bars, cut: int) -> None:
    first = scoring.advance(scoring.begin(idea), idea, candles(bars[:cut]))

    assert scoring.advance(first, idea, candles(bars)) == reckon(idea, bars)


@settings(max_examples=300, deadline=None)
@given(IDEAS, HOLED)
def test_higher_fee_never_brings_more_to_a_purchase(idea: Idea, bars: Bars) -> None:
    found = reckon(replace(idea, side=Side.BUY), bars)
    if found.entry_price is None or found.exit_price is None:
        return

    cheap, dear = (
        scoring.net_pct(Side.BUY, found.entry_price, found.exit_price, D(rate)) for rate in ("0.001", "0.002")
    )

    assert dear < cheap
