"""The market pages in Chromium, wide and narrow."""

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from market import services
from tests.market.builders import MINUTE, walk
from tests.market.filled import SYMBOL, fill_the_store
from tests.web.conftest import NARROW, WIDE, Watched
from tradingbot.core import clock

pytestmark = pytest.mark.browser
in_both_sizes = pytest.mark.parametrize(
    "browser_context", [WIDE, NARROW], indirect=True, ids=["desktop", "phone"]
)


@pytest.fixture(autouse=True)
def symbols(settings: Any) -> None:
    settings.SYMBOLS = (SYMBOL, "ETHUSDT")


@in_both_sizes
def test_the_chart_is_drawn_and_follows_new_candles(watched: Watched) -> None:
    now = clock.now()
    minutes = fill_the_store(now)
    page = watched.open("/market/BTCUSDT/")
    expect(page.locator("#chart[data-drawn='300'][data-holes='6']")).to_be_visible()
    assert page.locator("#chart canvas").count() > 4
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.get_by_text("TradingView Lightweight Charts™ © TradingView, Inc.")).to_be_visible()
    expect(page.locator("#link")).to_contain_text("live")

    last = minutes[-1]
    late = replace(
        walk(1, start=last.open_time + MINUTE)[0], close=last.high, high=last.high, low=last.low / 2
    )
    services.upsert_candles(candles=[late], now=clock.now(), live=True)

    expect(page.locator("table.candles tbody tr").first).to_contain_text(f"{late.open_time:%H:%M:%S}")
    page.wait_for_function(
        "at => fetch(document.getElementById('chart').dataset.source).then(a => a.json())"
        ".then(d => d.candles.at(-1)[0] === at)",
        arg=clock.to_milliseconds(late.open_time) // 1000,
    )


@in_both_sizes
def test_the_feed_page_fits_the_screen(watched: Watched) -> None:
    fill_the_store(clock.now())

    page = watched.open("/feed/")

    expect(page.locator("#stream-market")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
