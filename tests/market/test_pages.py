"""The feed page and the candle page over HTTP (in the browser: tests/web/test_browser_market.py)."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import talib
from django.test import Client
from numpy import array, isnan

from market import rules, services
from market.contracts import ChartMark, Interval, TradeHole
from market.rules import charts
from market.selectors import charts as drawn
from tests.market.builders import MINUTE, trade_row, walk
from tests.market.filled import SYMBOL, fill_the_store
from tests.web import seeding
from tradingbot.core import clock

PAGES = ["/feed/", "/market/BTCUSDT/", "/market/BTCUSDT/?interval=5m"]


@pytest.fixture
def page_client(client: Client, db: None) -> Client:
    client.force_login(seeding.operator("reader"))
    return client


# --- lines ---
@pytest.mark.parametrize("period", [9, 21])
def test_the_charts_ema_is_that_of_ta_lib(period: int) -> None:
    closes = [float(c.close) for c in walk(300)]

    line = charts.ema(closes, period)

    theirs = talib.EMA(array(closes), period)
    assert [v is None for v in line] == list(isnan(theirs))
    assert line[-100:] == pytest.approx(list(theirs[-100:]), rel=1e-12)


def test_the_charts_rsi_is_that_of_ta_lib() -> None:
    closes = [float(c.close) for c in walk(300)]

    line = charts.rsi(closes, 14)

    theirs = talib.RSI(array(closes), 14)
    assert [v is None for v in line] == list(isnan(theirs))
    assert line[-100:] == pytest.approx(list(theirs[-100:]), rel=1e-9)


@pytest.mark.parametrize("count", range(16))
def test_too_few_candles_give_no_line(count: int) -> None:
    closes = [float(n + 1) for n in range(count)]

    assert len(charts.ema(closes, 9)) == len(charts.rsi(closes, 14)) == count


@pytest.mark.parametrize(
    ("line", "warm_up"), [(partial(charts.ema, period=9), 8), (partial(charts.rsi, period=14), 14)]
)
def test_a_line_begins_anew_after_a_hole(line: charts.Line, warm_up: int) -> None:
    minutes = walk(80)
    before, after = minutes[:30], minutes[34:]

    values = charts.line_over([*before, *after], MINUTE, line)

    assert values == line([float(c.close) for c in before]) + line([float(c.close) for c in after])
    assert values[30 : 30 + warm_up] == [None] * warm_up and values[30 + warm_up] is not None


def test_no_piece_of_a_line_lies_on_both_sides_of_a_hole() -> None:
    pieces = charts.segments([(1, None), (2, 5.0), (3, 0.0), (4, None), (5, 7.0)])

    assert pieces == [[(2, 5.0), (3, 0.0)], [(5, 7.0)]]


def test_a_chart_without_candles_has_no_lines() -> None:
    assert charts.line_over([], MINUTE, partial(charts.ema, period=9)) == charts.segments([]) == []


def test_a_mark_stands_at_the_last_candle_that_was_stored_before_it(now: datetime) -> None:
    first, second = walk(2)
    stored = [(first, now), (second, now + MINUTE)]

    assert charts.candle_of(now + timedelta(seconds=59), stored) == first
    assert charts.candle_of(now + MINUTE, stored) == second
    assert charts.candle_of(now - MINUTE, stored) is None


# --- over HTTP ---
@pytest.mark.parametrize("page", [*PAGES, "/market/BTCUSDT/candles.json"])
def test_a_page_sends_the_anonymous_to_the_login(client: Client, db: None, page: str) -> None:
    assert client.get(page).status_code == 302


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_complete_on_an_empty_database(page_client: Client, page: str) -> None:
    answer = page_client.get(page)

    assert answer.status_code == 200 and b"</html>" in answer.content


@pytest.mark.parametrize(
    "page", ["/market/NOPE/", "/market/BTCUSDT/?interval=7m", "/market/NOPE/candles.json"]
)
def test_an_unknown_symbol_or_interval_is_not_found(page_client: Client, page: str) -> None:
    assert page_client.get(page).status_code == 404


def test_the_feed_page_says_how_the_streams_do(page_client: Client) -> None:
    fill_the_store(clock.now())

    text = page_client.get("/feed/").content.decode()

    for expected in (
        "2 of 2", "100.0 %", "half-open: no frame for 12 s", "could not connect (TimeoutError)",
        "the exchange has no such candles", "3 candles",
    ):  # fmt: skip
        assert expected in text


def test_the_feed_page_shows_each_shard_and_the_missing_trades(page_client: Client, settings: Any) -> None:
    settings.SYMBOLS, settings.SYMBOLS_PER_SHARD = ("BTCUSDT", "ETHUSDT", "SOLUSDT"), 2
    trade = rules.parse_trade_row(trade_row(900_001), symbol=SYMBOL)
    missing = [TradeHole(SYMBOL, 880_000, 900_000)]
    services.record_trades(trades=[trade], missing=missing, now=clock.now())

    text = page_client.get("/feed/").content.decode()

    for expected in (
        "stream-market-2",
        "2 symbols, BTCUSDT to ETHUSDT",
        "longer than a backfill goes back",
        "880000",
    ):
        assert expected in text


def test_the_chart_data_names_missing_candles_and_places_marks(
    page_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    minutes = fill_the_store(now)
    fill = ChartMark(
        "fill",
        "BUY",
        Decimal(50000),
        Decimal("0.1"),
        minutes[340].close_time + timedelta(seconds=20),
        "7",
        "x",
    )
    monkeypatch.setattr("execution.selectors.chart_marks", lambda symbol, since: [fill])

    data = page_client.get("/market/BTCUSDT/candles.json").json()

    seconds = [clock.to_milliseconds(c.open_time) // 1000 for c in minutes]
    assert data["missing"] == seconds[330:336]
    assert [[piece[0][0], piece[-1][0]] for piece in data["lines"]["ema_9"]] == [
        [seconds[62], seconds[329]],
        [seconds[344], seconds[359]],
    ]
    assert data["candles"][-1][0] == seconds[-1] and len(data["candles"]) == drawn.CANDLES_SHOWN
    assert data["marks"] == [{"time": seconds[340], "kind": "fill", "side": "BUY", "text": "x"}]


def test_lines_of_a_cheap_coin_keep_the_places_that_tell_its_prices_apart(page_client: Client) -> None:
    now = clock.now()
    start = now.replace(second=0, microsecond=0) - 60 * MINUTE
    cheap = Decimal("1e-9")
    candles = [
        replace(c, open=c.open * cheap, high=c.high * cheap, low=c.low * cheap, close=c.close * cheap)
        for c in walk(60, start=start)
    ]
    services.upsert_candles(candles=candles, now=now)

    data = page_client.get("/market/BTCUSDT/candles.json").json()
    page = page_client.get("/market/BTCUSDT/").content.decode()

    last = data["lines"]["ema_9"][-1][-1][1]
    assert data["places"] == 11
    assert f'data-label="EMA 9">{last:.11f}<' in page


def test_lines_group_their_digits_as_prices_do(page_client: Client) -> None:
    now = clock.now()
    start = now.replace(second=0, microsecond=0) - 60 * MINUTE
    dear = [
        replace(c, open=c.open * 1000, high=c.high * 1000, low=c.low * 1000, close=c.close * 1000)
        for c in walk(60, start=start)
    ]
    services.upsert_candles(candles=dear, now=now)

    data = page_client.get("/market/BTCUSDT/candles.json").json()
    page = page_client.get("/market/BTCUSDT/").content.decode()

    last = f"{data['lines']['ema_9'][-1][-1][1]:,.{data['places']}f}".replace(",", "\u202f")
    assert "\u202f" in last
    assert f'data-label="EMA 9">{last}<' in page


def test_orders_and_fills_are_on_the_page_with_their_links(page_client: Client) -> None:
    now = clock.now()
    fill_the_store(now - timedelta(minutes=6))
    desk = seeding.desk(now)

    text = page_client.get("/market/BTCUSDT/").content.decode()

    assert f"/orders/{desk.order.pk}/" in text
    assert "fill BUY" in text


def test_a_name_of_an_unknown_length_is_no_panel(page_client: Client) -> None:
    assert page_client.get("/panels/?keys=candles:BTCUSDT:9m").status_code == 404
    assert page_client.get("/panels/?keys=candles:BTCUSDT:5m").status_code == 200


@pytest.fixture(autouse=True)
def symbols(settings: Any) -> None:
    settings.SYMBOLS = (SYMBOL, "ETHUSDT")


def test_intervals_are_those_that_are_stored(page_client: Client) -> None:
    text = page_client.get("/market/BTCUSDT/").content.decode()

    assert all(f"?interval={interval}" in text for interval in Interval)
